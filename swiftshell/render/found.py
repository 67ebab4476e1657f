"""Show what a check finds while it goes on: how far it is, and each problem as it is found."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterable
from typing import IO

from swiftshell.errors import Problem
from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import can_colour, can_move
from swiftshell.render.problems import SHOWN, lines

_PATIENCE_S = 0.3  # a check that is over by then prints its problems in their order of weight
_EVERY_S = 0.2


class Found:
    """Print problems to a stream once a check takes longer than a moment; until then keep them."""

    def __init__(self, stream: IO[str] | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._start = self._last = time.monotonic()
        self._kept: list[Problem] = []
        self._printed: Counter[str] = Counter()
        self._line = ""

    @property
    def began(self) -> bool:
        """Tell whether anything was printed."""
        return bool(self._printed)

    def add(self, problem: Problem) -> None:
        """Take a problem that was found."""
        self._kept.append(problem)
        if time.monotonic() - self._start > _PATIENCE_S:
            self._flush()

    def progress(self, done: int, total: int) -> None:
        """Say how far the check is, on a terminal; bytes done and in all."""
        now = time.monotonic()
        if now - self._start > _PATIENCE_S:
            self._flush()
        if can_move(self._stream) and now - self._last >= _EVERY_S and now - self._start > _PATIENCE_S:
            self._last = now
            rate = words.number(round(done / 1e6 / (now - self._start)))
            self._draw(t("scan.progress", percent=words.percent(done / max(1, total)), rate=rate))

    def end(self, problems: Iterable[Problem]) -> list[Problem]:
        """Stop showing progress; return the problems still to be printed: all, or the rest of those being printed."""
        self._draw("")
        if not self._printed:
            return list(problems)
        self._flush()
        total: Counter[str] = Counter()
        for problem in problems:
            if problem.code.endswith(".and_more"):
                total[str(problem.values.get("code"))] += int(problem.values.get("more", 0))
            else:
                total[problem.code] += 1
        for code, number in total.items():
            if (more := number - self._printed[code]) > 0:
                print("  " + t("scan.more_of", more=words.number(more), code=code), file=self._stream)
        return []

    def _flush(self) -> None:
        shown = []
        for problem in self._kept:
            if self._printed[problem.code] < SHOWN[problem.severity]:
                self._printed[problem.code] += 1
                shown.append(problem)
        self._kept.clear()
        if shown:
            self._draw("")
            print("\n".join(lines(shown, colour=can_colour(self._stream))), file=self._stream, flush=True)

    def _draw(self, text: str) -> None:
        """Replace the moving line."""
        if text or self._line:
            self._stream.write(f"\r\x1b[K{text}")
            self._stream.flush()
        self._line = text
