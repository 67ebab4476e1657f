"""Read the GPUs from `nvidia-smi`: the way for machines where the driver's library cannot be loaded."""

from __future__ import annotations

import shutil
import subprocess

from swiftshell.machine.gpu import Gpu, GpuProcess

_GPU_FIELDS = "index,uuid,name,memory.total,memory.used,driver_version,utilization.gpu,mig.mode.current"
_FORMAT = "--format=csv,noheader,nounits"


def read(timeout_s: float) -> list[Gpu] | None:
    """Return the GPUs with their compute processes; [] without the program, None if it does not answer."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    rows = _ask([program, f"--query-gpu={_GPU_FIELDS}", _FORMAT], timeout_s)
    if rows is None:
        return None
    apps = _ask([program, "--query-compute-apps=gpu_uuid,pid,used_memory", _FORMAT], timeout_s)
    return [_gpu(row, apps) for row in rows if len(row) >= 8]


def _ask(command: list[str], timeout_s: float) -> list[list[str]] | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return [[part.strip() for part in line.split(",")] for line in done.stdout.splitlines() if "," in line]


def _gpu(row: list[str], apps: list[list[str]] | None) -> Gpu:
    index, uuid, name, total, used, driver, busy, mig = row[:8]
    mine = [a for a in apps or [] if len(a) >= 3 and a[0] == uuid and a[1].isdecimal()]
    return Gpu(
        index=int(index),
        uuid=uuid,
        name=name,
        memory_gib=(_number(total) or 0.0) / 1024,
        used_gib=(_number(used) or 0.0) / 1024,
        driver=driver,
        processes=tuple(GpuProcess(int(pid), _gib(memory)) for _, pid, memory in (a[:3] for a in mine)),
        busy_percent=None if _number(busy) is None else round(_number(busy) or 0.0),
        mig=mig == "Enabled",
        fault="" if apps is not None else "nvidia-smi --query-compute-apps",
        source="nvidia-smi",
    )


def _gib(mebibytes: str) -> float | None:
    value = _number(mebibytes)
    return None if value is None else value / 1024


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None
