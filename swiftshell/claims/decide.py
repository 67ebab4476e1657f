"""Say whose turn it is: a pure function of the tickets and the GPUs. Every waiter computes the same and acts for itself.

The order is priority, then who had less of the GPUs lately (in powers of two of GPU-hours), then submission. A ticket is
served when enough GPUs are left for it after all tickets before it had what they need; one that needs several collects
what becomes free, so that no stream of small jobs can starve it, and nothing is really held meanwhile, so that nothing can
deadlock. Passed over are only: a ticket that no end of any job could serve (its GPUs are used by others), one whose user
already has the share that others wait for, and one that could have started for half a minute and did not (its process is
stopped).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from swiftshell.claims.tickets import PRIORITIES, Ticket
from swiftshell.claims.view import GpuView

AGING_S = 6 * 3600.0  # waiting so long lifts a ticket by one priority: low never means never


@dataclass(frozen=True)
class Decision:
    """What a ticket gets now.

    Attributes:
        take: UUIDs to take; empty means wait.
        ahead: the tickets before it that count, in order.
        ready: names of those among them that could start now and have not yet.
        share: how many GPUs its user may have while others wait, if that is what it waits for.
        hopeless: too few of its GPUs will ever be given back by swiftshell's own jobs.
    """

    take: tuple[str, ...] = ()
    ahead: tuple[Ticket, ...] = ()
    ready: frozenset[str] = frozenset()
    share: int | None = None
    hopeless: bool = False


def decide(me: Ticket, tickets: Sequence[Ticket], gpus: Sequence[GpuView], now_s: float, used_h: Mapping[int, float],
           passed: Collection[str] = ()) -> Decision:  # fmt: skip
    """Return what `me`, one of the living `tickets`, gets now.

    Args:
        me: the ticket that asks.
        tickets: all living ones, `me` among them.
        gpus: the machine as it is.
        now_s: seconds since boot.
        used_h: GPU-hours by user, old ones counting less; who is not in it had none.
        passed: names of tickets to pass over.
    """
    free = [g for g in gpus if g.state == "free"]
    ahead, ready = [], set()
    for ticket in in_order(tickets, now_s, used_h):
        if ticket.name == me.name:
            break
        if ticket.name in passed or _hopeless(ticket, gpus) or _over_share(ticket, tickets, gpus) is not None:
            continue
        ahead.append(ticket)
        gets = [g for g in free if ticket.may_use(g.uuid)][: ticket.want.gpus]
        if len(gets) == ticket.want.gpus:
            ready.add(ticket.name)
        free = [g for g in free if g not in gets]
    share = _over_share(me, tickets, gpus)
    mine = [g.uuid for g in free if me.may_use(g.uuid)][: me.want.gpus]
    take = tuple(mine) if len(mine) == me.want.gpus and share is None else ()
    return Decision(take, tuple(ahead), frozenset(ready), share, _hopeless(me, gpus))


def in_order(tickets: Sequence[Ticket], now_s: float, used_h: Mapping[int, float]) -> list[Ticket]:
    """Return tickets the way they are served."""
    return sorted(tickets, key=lambda t: _rank(t, now_s, used_h.get(t.uid, 0.0)))


def _rank(ticket: Ticket, now_s: float, used_h: float) -> tuple[int, int, float, str]:
    """Return the sort key; who waited long goes first whatever they used, so that nobody waits for ever."""
    lifted = int(max(0.0, now_s - ticket.submitted_s) // AGING_S)
    used = 0 if lifted else int(math.log2(1.0 + used_h))
    return max(0, PRIORITIES.index(ticket.want.priority) - lifted), used, ticket.submitted_s, ticket.name


def _hopeless(ticket: Ticket, gpus: Sequence[GpuView]) -> bool:
    within_reach = [g for g in gpus if g.state in ("free", "held") and ticket.may_use(g.uuid)]
    return len(within_reach) < ticket.want.gpus


def _over_share(ticket: Ticket, tickets: Sequence[Ticket], gpus: Sequence[GpuView]) -> int | None:
    """Return a user's share if serving this ticket would exceed it: all GPUs but one while somebody else waits.

    A user who holds nothing may take all: a job that needs the whole machine must have its turn.
    """
    has = sum(1 for g in gpus if g.state == "held" and g.holder is not None and g.holder.uid == ticket.uid)
    share = max(1, len(gpus) - 1)
    if not has or has + ticket.want.gpus <= share:
        return None
    others = any(t.uid != ticket.uid and not _hopeless(t, gpus) for t in tickets)
    return share if others else None
