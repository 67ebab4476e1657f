"""What views show of claims: every GPU, everybody who waits and why, and what a claim would meet now. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from swiftshell.claims import decide, reason, tickets, view
from swiftshell.claims.area import Area
from swiftshell.claims.tickets import Queue, Ticket, Want
from swiftshell.claims.usage import Ledgers
from swiftshell.claims.view import GpuView
from swiftshell.errors import Problem
from swiftshell.machine.gpu import Gpu


@dataclass(frozen=True)
class Waiting:
    """Somebody in the queue: how long, and why still."""

    ticket: Ticket
    waited_s: float
    why: Problem


def waiting(area: Area, gpus: Sequence[Gpu]) -> list[Waiting]:
    """Return who waits, in the order in which they are served.

    Raises:
        OSError: the area cannot be read.
    """
    seen, alive, now_s = view.look(area, gpus), Queue(area).alive(), tickets.now_s()
    used_h = Ledgers(area).hours(t.uid for t in alive)
    order = decide.in_order(alive, now_s, used_h)
    return [Waiting(t, now_s - t.submitted_s, _why(t, alive, seen, now_s, used_h)) for t in order]


def _why(ticket: Ticket, alive: Sequence[Ticket], seen: Sequence[GpuView], now_s: float,
         used_h: Mapping[int, float]) -> Problem:  # fmt: skip
    decision = decide.decide(ticket, alive, seen, now_s, used_h)
    if decision.take:
        return Problem("gpus.wait_moment", severity="note")
    return reason.why(ticket, decision, seen)


def outlook(area: Area, gpus: Sequence[Gpu], want: Want, uid: int) -> Problem | None:
    """Return why a claim made now would have to wait; None if it would not.

    Raises:
        OSError: the area cannot be read.
    """
    seen, alive, now_s = view.look(area, gpus), Queue(area).alive(), tickets.now_s()
    newest = Ticket("~", want, uid, 0, now_s, mine=True)  # sorts behind every real one
    tickets_then = [*alive, newest]
    decision = decide.decide(newest, tickets_then, seen, now_s, Ledgers(area).hours(t.uid for t in tickets_then))
    return None if decision.take else reason.why(newest, decision, seen)
