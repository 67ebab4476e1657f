"""Print problems the way compilers do: what, where, one thing to do. Standard library only: errors must be quick."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from typing import IO

from swiftshell.errors import Problem
from swiftshell.i18n import hint_of, place, t, what
from swiftshell.render.console import can_colour

SHOWN = {"error": 10, "warning": 3, "note": 3}  # of every kind; warnings must not bury what they come with
_COLOURS = {"error": "\x1b[1;31m", "warning": "\x1b[1;33m", "note": "\x1b[1;36m"}
_RESET, _DIM = "\x1b[0m", "\x1b[2m"
_ORDER = {"note": 0, "warning": 1, "error": 2}


def print_problems(problems: Iterable[Problem], stream: IO[str] | None = None) -> None:
    """Print problems by kind, errors last (nearest to the prompt); after a few of a kind only their number."""
    stream = sys.stderr if stream is None else stream
    print("\n".join(lines(list(problems), colour=can_colour(stream))), file=stream)


def lines(problems: list[Problem], *, colour: bool = False) -> list[str]:
    """Return the lines that `print_problems` prints.

    Neighbours of one kind share their hint when it is the same. A problem whose code ends in `.and_more` only
    counts others of its `values["code"]`: it is added to their number.
    """
    unlisted: Counter[str] = Counter()
    groups: dict[tuple[int, str], list[Problem]] = {}
    for problem in problems:
        if problem.code.endswith(".and_more"):
            unlisted[str(problem.values.get("code"))] += int(problem.values.get("more", 0))
        else:
            groups.setdefault((_ORDER[problem.severity], problem.code), []).append(problem)
    out: list[str] = []
    for (_, code), group in sorted(groups.items(), key=lambda item: item[0][0]):
        most = SHOWN[group[0].severity]
        shown = group if len(group) == most + 1 else group[:most]
        for problem, following in zip(shown, [*shown[1:], None], strict=True):
            out += _lines(problem, following, colour)
        if more := len(group) - len(shown) + unlisted[code]:
            out.append(_dim("  " + t("render.more_problems", more=more, code=code), colour))
    return out


def _lines(problem: Problem, following: Problem | None, colour: bool) -> list[str]:
    head = f"{t('core.' + problem.severity)}[{problem.code}]"
    if colour:
        head = f"{_COLOURS[problem.severity]}{head}{_RESET}"
    out = [f"{head}: {what(problem)}"]
    if where := place(problem):
        out.append(f"  --> {where}")
    hint = hint_of(problem)
    if hint and not (following is not None and hint_of(following) == hint):
        out.append(f"{t('core.hint')}: {hint}")
    return out


def _dim(text: str, colour: bool) -> str:
    return f"{_DIM}{text}{_RESET}" if colour else text
