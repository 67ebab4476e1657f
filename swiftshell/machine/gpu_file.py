"""Read the GPUs from a file instead of a driver: how tests and demonstrations get a machine with GPUs.

The file is JSON: `{"gpus": [{"index": 0, "uuid": "GPU-…", "name": …, "memory_gib": …, "used_gib": …, "driver": …,
"processes": [{"pid": …, "used_gib": …, "kind": "compute"}], "busy_percent": …, "mig": false, "fault": ""}]}`; only index
and uuid are needed. `{"gpus": null}` stands for a driver that does not answer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swiftshell.machine.gpu import Gpu, GpuProcess


def read(path: Path) -> list[Gpu] | None:
    """Return what the file says; a file that cannot be read or understood is a driver that does not answer."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return None if data["gpus"] is None else [_gpu(entry) for entry in data["gpus"]]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _gpu(entry: dict[str, Any]) -> Gpu:
    return Gpu(
        index=int(entry["index"]),
        uuid=str(entry["uuid"]),
        name=str(entry.get("name", "GPU of a file")),
        memory_gib=float(entry.get("memory_gib", 24.0)),
        used_gib=float(entry.get("used_gib", 0.0)),
        driver=str(entry.get("driver", "-")),
        processes=tuple(_process(p) for p in entry.get("processes") or ()),
        busy_percent=entry.get("busy_percent"),
        mig=bool(entry.get("mig", False)),
        fault=str(entry.get("fault", "")),
        source="file",
    )


def _process(entry: dict[str, Any]) -> GpuProcess:
    return GpuProcess(int(entry["pid"]), entry.get("used_gib"), entry.get("kind", "compute"))
