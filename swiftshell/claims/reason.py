"""Say why somebody waits for GPUs, in one sentence that names who and what (as a problem: fronts make the sentence)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from swiftshell.claims.decide import Decision
from swiftshell.claims.tickets import Ticket
from swiftshell.claims.view import GpuView
from swiftshell.errors import Problem
from swiftshell.machine import processes

_UNSEEN = "?"


def why(me: Ticket, decision: Decision, gpus: Sequence[GpuView]) -> Problem:
    """Return the one thing a ticket waits for most: its user's share, its turn, or the GPU it will have soonest."""
    if decision.share is not None:
        return _note("gpus.wait_share", share=decision.share)
    mine = [g for g in gpus if me.may_use(g.uuid)]
    if not decision.hopeless and sum(g.state == "free" for g in mine) >= me.want.gpus:
        return _turn(decision)
    wanting = [g for g in mine if g.state != "free"]
    if not wanting:
        return _turn(decision) if decision.ahead else _note("gpus.wait_driver")
    view = min(wanting, key=_soonest)
    return about(view, stranger_first=decision.hopeless)


def _turn(decision: Decision) -> Problem:
    """Name the ticket right before this one."""
    before = decision.ahead[-1] if decision.ahead else None
    if before is None:
        return _note("gpus.wait_moment")
    return _note("gpus.wait_turn", count=len(decision.ahead), user=before.user, stage=before.want.stage,
                 run=before.want.run, gpus=before.want.gpus)  # fmt: skip


def _soonest(view: GpuView) -> tuple[int, float, int]:
    """Order GPUs by when they will probably be free: a known end, an unknown one, somebody else's, no answer."""
    order = {"held": 0, "foreign": 1, "memory": 2, "unknown": 3}
    until = view.holder.until if view.holder is not None and view.holder.until is not None else float("inf")
    return order[view.state], until, view.index


def about(view: GpuView, *, stranger_first: bool = False) -> Problem:
    """Return what stands in the way of taking one GPU."""
    if view.state == "held" and not stranger_first:
        return _held(view)
    if view.state == "unknown" and view.holder is not None:
        return _note("gpus.wait_replaced", gpu=view.index, user=view.holder.user, run=view.holder.run)
    if view.strangers:
        return _stranger(view)
    if view.state == "held":
        return _held(view)
    if view.state == "memory":
        return _note("gpus.wait_memory", gpu=view.index, used=f"{view.gpu.used_gib:.1f}")
    if view.state == "unknown":
        return _note("gpus.wait_unknown", gpu=view.index, why=view.fault)
    return _note("gpus.wait_moment")


def _held(view: GpuView) -> Problem:
    holder = view.holder
    if holder is None:
        return _note("gpus.wait_locked", gpu=view.index)
    values: dict[str, Any] = {"gpu": view.index, "user": holder.user, "stage": holder.stage, "run": holder.run,
                              "time": span(time.time() - holder.since)}  # fmt: skip
    if holder.until is None or holder.until <= time.time():
        return _note("gpus.wait_held", **values)
    return _note("gpus.wait_held_until", **values, until=clock(holder.until))


def _stranger(view: GpuView) -> Problem:
    pid = view.strangers[0].pid
    who = processes.look(pid)
    if who is None:
        return _note("gpus.wait_foreign_hidden", gpu=view.index, pid=pid)
    return _note("gpus.wait_foreign", gpu=view.index, pid=pid, user=who.user, command=who.command,
                 time=span(time.time() - who.since))  # fmt: skip


def _note(code: str, **values: Any) -> Problem:
    return Problem(code, values, severity="note")


def subject(problem: Problem) -> tuple[Any, ...]:
    """Return what a reason is about, without how long it has been so: equal subjects need no second sentence."""
    return problem.code, *(v for k, v in sorted(problem.values.items()) if k not in ("time", "until", "used"))


def span(seconds: float) -> str:
    """Return a time span as people say it, the same in every language: 40 s, 12 min, 3 h 12 min, 2 d 4 h."""
    minutes = int(max(0.0, seconds)) // 60
    if minutes < 1:
        return f"{int(max(0.0, seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 24 else f"{hours // 24} d {hours % 24} h"


def clock(moment: float) -> str:
    """Return a time of day, with the day where it is not today's."""
    then, today = time.localtime(moment), time.localtime()
    return time.strftime("%H:%M" if then[:3] == today[:3] else "%m-%d %H:%M", then)
