"""Keep time and people in view: when something was said, and how much of it one user may count for."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from swiftshell.data.row import BadRow, shown
from swiftshell.errors import fail

_SPAN = re.compile(r"^(\d+(?:\.\d+)?)\s*([smhdw])$")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_FEW_TIMES = 2.0  # with few users one may still count for twice an equal part


def moment(value: Any, column: str) -> float | None:
    """Return a time as seconds since 1970; None where there is none.

    Takes ISO 8601 (without a zone: UTC), and seconds, milliseconds or microseconds since 1970.

    Raises:
        BadRow: it is none of these.
    """
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    number: float | None = None
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value)
    elif isinstance(value, str):
        found = parse_moment(value)
        if found is not None:
            return found
    if number is None or not math.isfinite(number) or number < 0:
        raise BadRow("logs.not_time", column, column=column, value=shown(value))
    return _scaled(number)


def parse_moment(text: str) -> float | None:
    """Return a written time as seconds since 1970, None where it is not one."""
    text = text.strip()
    try:
        return _scaled(float(text)) if len(text) > 8 else _iso(text)  # 20261125 is a day
    except ValueError:
        return _iso(text)


def _iso(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _scaled(number: float) -> float:
    return number / 1e6 if number > 1e14 else number / 1e3 if number > 1e11 else number


def edge(text: str | None, newest: float, flag: str) -> float | None:
    """Return an end of the window: a time, or a span (`30d`, `12h`) before the newest entry of the log.

    Raises:
        SwiftshellError: it is neither.
    """
    if text is None:
        return None
    if span := _SPAN.match(text.strip()):
        return newest - float(span[1]) * _SECONDS[span[2]]
    found = parse_moment(text)
    if found is None:
        raise fail("logs.bad_edge", flag=flag, value=text)
    return found


def cap_of(weights: Sequence[float], share: float) -> float:
    """Return the most that one user may count for, infinite where nobody exceeds their share.

    The cap c is `share` of what remains when everyone is cut to c. Where users are few the share is at least twice an
    equal part, so that capping does not throw away what two or three people said.
    """
    share = max(share, _FEW_TIMES / max(1, len(weights)))
    total = math.fsum(weights)
    if not weights or max(weights) <= share * total:
        return math.inf
    low, high = 0.0, max(weights)
    for _ in range(60):
        middle = (low + high) / 2
        if middle <= share * math.fsum(min(w, middle) for w in weights):
            low = middle
        else:
            high = middle
    return low
