"""One reviewer at work: what is shown now, what was said, how fast, and what is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swiftshell.data.review.items import Item
from swiftshell.data.review.log import ReviewLog, Said, Verdict, now
from swiftshell.data.review.numbers import Share, per_hour, recent_errors
from swiftshell.data.review.queue import Order, Shown, queue


@dataclass
class Sitting:
    """A reviewer, the answers of a data set, and the queue that is left; every verdict is on disk before the next is shown.

    Attributes:
        budget: stop after this many verdicts of this sitting; 0: when the queue is empty.
        divide: leave out what others judged already, except the random tenth, which shows how far reviewers agree.
    """

    found: Sequence[Item]
    log: ReviewLog
    by: str
    order: Order = "informative"
    budget: int = 0
    divide: bool = False
    clock: Callable[[], float] = time.monotonic
    took_s: list[float] = field(default_factory=list)
    _left: list[Shown] = field(default_factory=list)
    _undone: list[Shown] = field(default_factory=list)
    _since: float = 0.0

    def __post_init__(self) -> None:
        self._shown = {shown.item.hash: shown for shown in queue(self.found, self.order)}
        done = self.log.of(self.by)
        others = (
            {h for by, said in self.log.said.items() if by != self.by for h in said} if self.divide else set()
        )
        self._left = [s for h, s in self._shown.items() if h not in done and (s.sample or h not in others)]
        self._since = self.clock()

    @property
    def here(self) -> Shown | None:
        """Return what is to be judged now; None when nothing is left or the budget is used up."""
        if self._undone:
            return self._undone[-1]
        return self._left[0] if self._left and self.left else None

    @property
    def left(self) -> int:
        """Return how many verdicts are left in this sitting."""
        waiting = len(self._left) + len(self._undone)
        return max(0, min(waiting, self.budget - len(self.took_s))) if self.budget else waiting

    @property
    def judged(self) -> int:
        """Return how many verdicts this sitting has brought, taken-back ones left out."""
        return len(self.took_s)

    @property
    def per_hour(self) -> float | None:
        """Return the pace of this sitting; None before the first verdict."""
        return per_hour(self.took_s)

    @property
    def recent(self) -> Share:
        """Return how many of the last doubtful labels were wrong."""
        return recent_errors(self.log.of(self.by).values())

    @property
    def note(self) -> str:
        """Return the reviewer's note on what is shown."""
        return self.log.notes.get((self.by, self.here.item.hash), "") if self.here else ""

    def judge(self, verdict: Verdict, answer: str = "") -> None:
        """Write down a verdict on what is shown, and go on."""
        shown = self.here
        if shown is None:
            return
        took = max(0.0, self.clock() - self._since)
        item = shown.item
        self.log.judge(
            Said(item.hash, verdict, self.by, now(), item.rows[0], item.label, shown.sample, answer, took)
        )
        self.took_s.append(took)
        (self._undone if self._undone else self._left).pop(-1 if self._undone else 0)
        self._since = self.clock()

    def undo(self) -> bool:
        """Take back the last verdict and show its answer again; of an earlier sitting too. False if there is none."""
        last = self.log.undo(self.by)
        if last is None:
            return False
        if self.took_s:
            self.took_s.pop()
        if (shown := self._shown.get(last.hash)) is not None:
            self._undone.append(shown)
        self._since = self.clock()
        return True

    def write_note(self, text: str) -> None:
        """Write down a note on what is shown."""
        if self.here is not None:
            self.log.note(self.by, self.here.item.hash, text)

    def resume_clock(self) -> None:
        """Start counting anew, after something that was no thinking about the answer."""
        self._since = self.clock()
