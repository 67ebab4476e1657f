"""Write runs by hand, as the runner and the worker leave them, so that the planner can be tested without any engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swiftshell.run import artifact
from swiftshell.run.files import write_json
from swiftshell.run.paths import StepPaths

_CLOCK = [0]


def made(workspace: Path, stage: str, *, kind: str = "adapter", slot: str | None = None, lineage: str = "starter",
         reference: str | None = None, reference_path: Path | None = None, good: bool = True,
         result: str = "succeeded", step: str | None = None) -> Path:
    """Write one finished step and return its output folder. Later calls are newer."""
    _CLOCK[0] += 1
    when = f"2026-11-25T00:00:{_CLOCK[0] // 60:02d}.{_CLOCK[0] % 60:03d}+00:00"
    run = f"2026-11-25-{stage}-{_CLOCK[0]:04d}"
    name = slot or ("adapter" if kind == "adapter" else "model")
    paths = StepPaths(workspace / "runs" / run / "steps" / f"01-{step or stage}")
    folder = paths.out / name
    folder.mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"x" * 16)
    record: dict[str, Any] = {
        "id": f"{run}/{step or stage}/{name}", "name": f"{step or stage}.{name}", "kind": kind, "stage": stage,
        "run": run, "lineage": lineage, "fingerprint": run, "good": good, "files": artifact.inventory(folder),
        "stack": [{"kind": kind, "path": str(folder)}],
    }
    if reference:
        record["reference"] = {"id": reference, "path": str(reference_path or folder), "kind": "adapter"}
    artifact.write(folder, record)
    write_json(paths.request, {"stage": stage, "lineage": lineage})
    write_json(paths.result, {"v": 1, "result": result, "ended": when, "duration_s": 12.0,
                              "outputs": {name: f"out/{name}"}})
    write_json(workspace / "runs" / run / "plan.json", {"v": 1, "steps": []})
    return folder


def identity(folder: Path) -> str:
    """Return the id in a folder's record."""
    return str(json.loads((folder / artifact.NAME).read_text(encoding="utf-8"))["id"])
