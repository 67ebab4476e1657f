"""Say which NVIDIA GPUs are here and which processes use them, without importing an engine. Standard library only.

Three sources, in this order: a file (`SWIFTSHELL_GPUS_FILE`: tests and demonstrations), NVML, nvidia-smi. An empty list
means that there are none; None means that a driver is here and does not answer, which is neither "free" nor "none".
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

FILE_VARIABLE = "SWIFTSHELL_GPUS_FILE"
VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
_TIMEOUT_S = 10.0  # waking a driver without persistence mode takes seconds; a hung one takes for ever
_DRIVER = Path("/proc/driver/nvidia/version")

ProcessKind = Literal["compute", "graphics"]


@dataclass(frozen=True)
class GpuProcess:
    """A process on a GPU. Its number is the one the driver knows, which in a container need not be ours."""

    pid: int
    used_gib: float | None = None
    kind: ProcessKind = "compute"


@dataclass(frozen=True)
class Gpu:
    """One GPU. `index` counts in PCI order, as CUDA does under CUDA_DEVICE_ORDER=PCI_BUS_ID.

    `fault` says in the driver's words why it cannot be told what the GPU does; such a GPU is never called free.
    """

    index: int
    uuid: str
    name: str
    memory_gib: float
    used_gib: float
    driver: str
    processes: tuple[GpuProcess, ...] = ()
    busy_percent: int | None = None
    mig: bool = False  # cut into instances, each with a name of its own
    fault: str = ""
    source: str = field(default="nvml", compare=False)


def gpus() -> list[Gpu] | None:
    """Return the GPUs; an empty list if there are none, None if the driver is there but does not answer (unknown)."""
    named = os.environ.get(FILE_VARIABLE)
    if named:
        from swiftshell.machine import gpu_file

        return gpu_file.read(Path(named))
    from swiftshell.machine import nvidia_smi, nvml

    if nvml.is_installed():
        found = _bounded(nvml.read)
        if found is not None:
            return found
    found = nvidia_smi.read(_TIMEOUT_S)
    if found == [] and _DRIVER.exists() and nvml.is_installed():
        return None
    return found


def visible(found: Sequence[Gpu], environ: dict[str, str] | None = None) -> list[Gpu]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES leaves, all of them where it is not set.

    Like CUDA, a name that fits no GPU ends the list there; `unknown_names` says which those are.
    """
    names = _names(environ)
    if names is None:
        return list(found)
    left: list[Gpu] = []
    for name in names:
        gpu = _named(name, found)
        if gpu is None:
            break
        if gpu not in left:
            left.append(gpu)
    return left


def unknown_names(found: Sequence[Gpu], environ: dict[str, str] | None = None) -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES names and this machine does not have; `-1` and the like mean none on purpose."""
    return [n for n in _names(environ) or [] if _named(n, found) is None and n not in ("-1", "none", "NoDevFiles")]


def _names(environ: dict[str, str] | None) -> list[str] | None:
    text = (os.environ if environ is None else environ).get(VISIBLE_VARIABLE)
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def _named(name: str, found: Sequence[Gpu]) -> Gpu | None:
    if name.isdecimal():
        return next((g for g in found if g.index == int(name)), None)
    fits = [g for g in found if name and g.uuid.startswith(name)]
    return fits[0] if len(fits) == 1 else None


def _bounded(read: Callable[[], list[Gpu] | None]) -> list[Gpu] | None:
    """Ask the driver in a thread of its own: one that hangs must not take its asker with it."""
    answer: list[list[Gpu] | None] = []
    asking = threading.Thread(target=lambda: answer.append(read()), daemon=True, name="gpu-inventory")
    asking.start()
    asking.join(_TIMEOUT_S)
    return answer[0] if answer else None
