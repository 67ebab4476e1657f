"""Print problems the way compilers do: what, where, one thing to do. Standard library only: errors must be quick."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import IO

from swiftshell.errors import Problem
from swiftshell.i18n import hint_of, place, t, what
from swiftshell.render.console import can_colour

_SHOWN_PER_CODE = 10
_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}
_RESET, _DIM = "\x1b[0m", "\x1b[2m"
_ORDER = {"note": 0, "warning": 1, "error": 2}


def print_problems(problems: Iterable[Problem], stream: IO[str] | None = None) -> None:
    """Print problems, errors last (nearest to the prompt); after ten of a kind only their number."""
    stream = sys.stderr if stream is None else stream
    print("\n".join(lines(list(problems), colour=can_colour(stream))), file=stream)


def lines(problems: list[Problem], *, colour: bool = False) -> list[str]:
    """Return the lines that `print_problems` prints.

    Neighbours of one kind share their hint when it is the same, and a place that only repeats is not repeated.
    """
    totals = Counter(p.code for p in problems)
    seen: Counter[str] = Counter()
    out: list[str] = []
    ordered = sorted(problems, key=lambda p: _ORDER[p.severity])
    for at, problem in enumerate(ordered):
        seen[problem.code] += 1
        more = totals[problem.code] - _SHOWN_PER_CODE
        if seen[problem.code] <= _SHOWN_PER_CODE or totals[problem.code] == _SHOWN_PER_CODE + 1:
            following = ordered[at + 1] if at + 1 < len(ordered) else None
            last = more > 1 and seen[problem.code] == _SHOWN_PER_CODE
            out += _lines(problem, None if last else following, colour)
        elif seen[problem.code] == _SHOWN_PER_CODE + 1:
            out.append(_dim("  " + t("render.more_problems", more=more, code=problem.code), colour))
    return out


def _lines(problem: Problem, following: Problem | None, colour: bool) -> list[str]:
    head = f"{t('core.' + problem.severity)}[{problem.code}]"
    if colour:
        head = f"{_COLOURS[problem.severity]}{head}{_RESET}"
    out = [f"{head}: {what(problem)}"]
    if where := place(problem):
        out.append(f"  --> {where}")
    hint = hint_of(problem)
    if hint and not (following is not None and following.code == problem.code and hint_of(following) == hint):
        out.append(f"{t('core.hint')}: {hint}")
    return out


def _dim(text: str, colour: bool) -> str:
    return f"{_DIM}{text}{_RESET}" if colour else text
