"""Say which NVIDIA GPUs are here, without importing an engine."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass

_TIMEOUT_S = 5.0
_QUERY = "index,uuid,name,memory.total,memory.used,driver_version"


@dataclass(frozen=True)
class Gpu:
    """One GPU as nvidia-smi sees it, in PCI order."""

    index: int
    uuid: str
    name: str
    memory_gib: float
    used_gib: float
    driver: str


def gpus() -> list[Gpu] | None:
    """Return the GPUs; an empty list if there are none, None if the driver is there but does not answer (unknown)."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run([program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"], capture_output=True,
                              text=True, timeout=_TIMEOUT_S, stdin=subprocess.DEVNULL, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return [_gpu(line) for line in done.stdout.splitlines() if line.count(",") >= 5]


def _gpu(line: str) -> Gpu:
    index, uuid, name, total, used, driver = (part.strip() for part in line.split(",")[:6])
    return Gpu(int(index), uuid, name, _number(total) / 1024, _number(used) / 1024, driver)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0
