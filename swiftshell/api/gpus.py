"""GPUs as facts: what each one does and for whom, who waits, and whether a plan could start now."""

from __future__ import annotations

import os
import time
from typing import Any

from swiftshell.claims import board, reason, view
from swiftshell.claims.area import Area, find
from swiftshell.claims.claim import allowed_gpus
from swiftshell.claims.tickets import PRIORITIES, Want
from swiftshell.claims.view import GpuView
from swiftshell.errors import EXIT_NO_RESOURCES, Problem, SwiftshellError, fail
from swiftshell.machine import processes
from swiftshell.machine.gpu import Gpu, GpuProcess, gpus, unknown_names, visible
from swiftshell.plan.model import Plan

__all__ = ["PRIORITIES", "demand", "gpus_facts", "outlook", "queue_facts", "refuse_to_wait"]


def gpus_facts() -> dict[str, Any]:
    """Return every GPU with its state, holder and processes.

    Returns:
        `answers` (False: a driver is here and says nothing), `shared` (reservations hold between users), `area` and
        `gpus`, each with `index`, `uuid`, `name`, `memory_gib`, `used_gib`, `busy_percent`, `state` (free, held,
        foreign, memory, unknown), `holder`, `processes`, `fault` and `why` (what stands in the way, None where it is free).
    """
    found, area = gpus(), find(create=False)
    seen = view.look(area, found or [])
    return {"answers": found is not None, **_area(area), "gpus": [_gpu(one) for one in seen]}


def _area(area: Area) -> dict[str, Any]:
    return {"shared": area.shared, "area": str(area.root)}


def _gpu(one: GpuView) -> dict[str, Any]:
    gpu, holder = one.gpu, one.holder
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "memory_gib": round(gpu.memory_gib, 2),
        "used_gib": round(gpu.used_gib, 2),
        "busy_percent": gpu.busy_percent,
        "driver": gpu.driver,
        "source": gpu.source,
        "state": one.state,
        "holder": None
        if holder is None
        else {"user": holder.user, "run": holder.run, "step": holder.step, "stage": holder.stage,
              "since": holder.since, "until": holder.until},
        "processes": [_process(p, strange=p in one.strangers) for p in gpu.processes],
        "fault": one.fault,
        "why": None if one.state == "free" else reason.about(one).as_json(),
    }  # fmt: skip


def _process(process: GpuProcess, *, strange: bool) -> dict[str, Any]:
    who = processes.look(process.pid)
    return {"pid": process.pid, "kind": process.kind, "used_gib": process.used_gib,
            "user": who.user if who else None, "command": who.command if who else None,
            "since": round(who.since, 1) if who else None, "through_swiftshell": not strange}  # fmt: skip


def queue_facts() -> dict[str, Any]:
    """Return who waits for GPUs, first the one who is served next, each with why."""
    found, area = gpus(), find(create=False)
    waiting = board.waiting(area, found or [])
    now = time.time()
    return {"answers": found is not None, **_area(area), "waiting": [
        {"position": number, "user": w.ticket.user, "run": w.ticket.want.run, "step": w.ticket.want.step,
         "stage": w.ticket.want.stage, "gpus": w.ticket.want.gpus, "priority": w.ticket.want.priority,
         "since": round(now - w.waited_s, 1), "waited_s": round(w.waited_s, 1), "why": w.why.as_json(),
         "mine": w.ticket.uid == os.getuid()}
        for number, w in enumerate(waiting, 1)
    ]}  # fmt: skip


def demand(plan: Plan, count: int | None, priority: str = "normal") -> None:
    """Settle how many GPUs each step of a plan is given, and in which place of the queue; hold it against the machine.

    `count` replaces the number of those steps that use GPUs; 0 keeps them on the CPU.

    Raises:
        SwiftshellError: a count below 0, or more than this machine has or CUDA_VISIBLE_DEVICES leaves.
    """
    plan.priority = priority
    if count is not None and count < 0:
        raise fail("gpus.count_bad", found=count)
    found = gpus() if any(step.gpus for step in plan.steps) else []
    left = None if found is None else visible(found)
    plan.machine_gpus = None if left is None else len(left)
    if found and not left and not unknown_names(found) and count is None:
        count = 0  # CUDA_VISIBLE_DEVICES is empty: somebody wants the CPU
    for step in plan.steps:
        step.gpus = step.gpus if count is None or not step.gpus else count
    most = max((step.gpus for step in plan.steps if step.restored_from is None), default=0)
    if most and (found or (count and found is not None)):
        allowed_gpus(found or [], most)


def outlook(plan: Plan) -> Problem | None:
    """Return why the first step of a plan that needs GPUs would have to wait now; None if none would."""
    first = next((s for s in plan.steps if s.gpus and s.restored_from is None), None)
    found: list[Gpu] | None = gpus() if first is not None else []
    if first is None or found == []:
        return None
    if found is None:
        return Problem("gpus.wait_driver", severity="note")
    want = Want(plan.run, first.id, first.stage, first.gpus, allowed_gpus(found, first.gpus), plan.priority)
    return board.outlook(find(create=False), found, want, os.getuid())


def refuse_to_wait(plan: Plan) -> None:
    """Refuse a plan whose first GPU step could not start now.

    Raises:
        SwiftshellError: with who or what is in the way (exit 5).
    """
    why = outlook(plan)
    if why is None:
        return
    raise SwiftshellError([Problem("gpus.busy", {"step": plan.run}), why], EXIT_NO_RESOURCES)
