"""The GPUs as a claim sees them: free only if nobody holds the lock and the driver knows of no foreign use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from swiftshell.claims import holders
from swiftshell.claims.area import Area
from swiftshell.claims.holders import Holder
from swiftshell.machine import processes
from swiftshell.machine.gpu import Gpu, GpuProcess

State = Literal["free", "held", "foreign", "memory", "unknown"]

# With no process in sight, more memory than this in use means that the processes are hidden (a container, hidepid).
_IDLE_GIB = 0.5
_IDLE_FRACTION = 0.02


@dataclass(frozen=True)
class GpuView:
    """One GPU and what stands in the way of taking it.

    `held`: its lock is taken. `foreign`: a process that was not started through swiftshell computes on it. `memory`:
    more is in use than idle GPUs have and no process is to be seen. `unknown`: the driver or the lock does not answer,
    it is cut into MIG instances, or its lock was replaced under its `holder`.
    """

    gpu: Gpu
    state: State
    holder: Holder | None = None
    strangers: tuple[GpuProcess, ...] = ()
    fault: str = ""

    @property
    def uuid(self) -> str:
        return self.gpu.uuid

    @property
    def index(self) -> int:
        return self.gpu.index


def look(area: Area, found: Sequence[Gpu]) -> list[GpuView]:
    """Return the view of GPUs that were just read from the driver."""
    return [_one(area, gpu) for gpu in found]


def _one(area: Area, gpu: Gpu) -> GpuView:
    try:
        taken = holders.is_taken(area, gpu.uuid)
    except OSError as error:
        return GpuView(gpu, "unknown", fault=f"{error.filename}: {error.strerror}")
    if taken:
        holder = holders.of(area, gpu.uuid)
        return GpuView(gpu, "held", holder, strangers(gpu, holder))
    if (other := holders.of_another_file(area, gpu.uuid)) is not None:
        return GpuView(gpu, "unknown", other, strangers(gpu, other))
    return use(gpu)


def use(gpu: Gpu) -> GpuView:
    """Return what the driver alone says of a GPU whose lock is not taken, or is ours since a moment ago."""
    if gpu.mig or gpu.fault:
        return GpuView(gpu, "unknown", fault=gpu.fault or "MIG")
    if computing := strangers(gpu, None):
        return GpuView(gpu, "foreign", strangers=computing)
    drawn_gib = sum(p.used_gib or 0.0 for p in gpu.processes)
    if gpu.used_gib - drawn_gib > max(_IDLE_GIB, _IDLE_FRACTION * gpu.memory_gib):
        return GpuView(gpu, "memory")
    return GpuView(gpu, "free")


def strangers(gpu: Gpu, holder: Holder | None) -> tuple[GpuProcess, ...]:
    """Return the computing processes that are not the holder's. What draws a desktop is no reason to wait.

    In a container the driver's numbers are the host's, and the holder's own job looks like nobody: beside a holder, only
    what can be looked at is called a stranger.
    """
    computing = tuple(p for p in gpu.processes if p.kind == "compute")
    if holder is None or not computing:
        return computing
    return tuple(p for p in computing if processes.look(p.pid) is not None and not holder.owns(p.pid))
