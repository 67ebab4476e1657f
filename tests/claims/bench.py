"""A machine with GPUs that is a file: processes come and go on it, seen as late as a real driver sees them."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swiftshell.claims.area import Area
from swiftshell.claims.tickets import Want
from swiftshell.machine.gpu import FILE_VARIABLE, Gpu
from swiftshell.machine.gpu_file import read


def uuid(index: int) -> str:
    return f"GPU-0000000{index}-fake"


class Machine:
    """The file, and ways to change it. Changes are atomic and one at a time, also between processes."""

    def __init__(self, path: Path, count: int = 4) -> None:
        self.path = path
        self._guard = Path(f"{path}.guard")
        if not path.exists():
            self._guard.touch()
            self._guard.chmod(0o666)
            self._write([{"index": i, "uuid": uuid(i), "name": f"Fake {i}", "used_gib": 0.1, "processes": []}
                         for i in range(count)])  # fmt: skip

    @property
    def environ(self) -> dict[str, str]:
        return {FILE_VARIABLE: str(self.path)}

    def gpus(self) -> list[Gpu] | None:
        return read(self.path)

    def set(self, index: int, **fields: Any) -> None:
        """Change what the driver says of a GPU."""
        with self._changing() as gpus:
            gpus[index].update(fields)

    def appear(self, index: int, pid: int, used_gib: float = 1.0) -> list[int]:
        """Have a process compute on a GPU; return the processes seen there before."""
        with self._changing() as gpus:
            before = [p["pid"] for p in gpus[index]["processes"]]
            gpus[index]["processes"].append({"pid": pid, "used_gib": used_gib})
        return before

    def vanish(self, index: int, pid: int) -> None:
        with self._changing() as gpus:
            gpus[index]["processes"] = [p for p in gpus[index]["processes"] if p["pid"] != pid]

    def hang(self) -> None:
        """Have the driver stop answering."""
        self._replace(json.dumps({"gpus": None}))

    @contextmanager
    def _changing(self) -> Iterator[list[dict[str, Any]]]:
        guard = os.open(self._guard, os.O_RDWR)
        try:
            fcntl.flock(guard, fcntl.LOCK_EX)
            gpus = json.loads(self.path.read_text())["gpus"]
            yield gpus
            self._write(gpus)
        finally:
            os.close(guard)

    def _write(self, gpus: list[dict[str, Any]]) -> None:
        self._replace(json.dumps({"gpus": gpus}))

    def _replace(self, text: str) -> None:
        fd, name = tempfile.mkstemp(dir=self.path.parent)
        with os.fdopen(fd, "w") as file:
            file.write(text)
        os.chmod(name, 0o666)
        os.replace(name, self.path)


def want(gpus: int = 1, run: str = "2026-01-01-echo-aaaa", **fields: Any) -> Want:
    return Want(run=run, step="one", stage="echo", gpus=gpus, **fields)


def own_area(root: Path) -> Area:
    """An area as a user's own is, at a place of the test's choice."""
    area = Area(root, shared=False)
    for folder in (area.root, area.sched.parent, area.tickets, area.claims, area.usage):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return area
