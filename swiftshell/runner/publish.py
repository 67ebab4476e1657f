"""Put a step's output at the place the user named, for one run at a time and never over something else.

A sibling lock file `.<name>.swiftshell.lock` is held for the whole attempt, by the worker too: it is free when both are
gone. The copy is made beside the target and renamed, so the target is absent or whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftshell.run import artifact, lock
from swiftshell.run.crash import crash_point
from swiftshell.run.files import read_json_or_none, sync_folder
from swiftshell.run.lock import Lock
from swiftshell.runner.records import now, problem, user

# Weights are hard-linked, small files (configurations people edit) are copied.
_LINK_FROM_BYTES = 1 << 20


def lock_output(target: Path, run: str, step: str, *, wait_s: float = 0.1) -> Lock | dict[str, Any]:
    """Take the lock of an output folder, or return the problem that names its holder or what stands in the way."""
    path = target.parent / f".{target.name}.swiftshell.lock"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        held = lock.acquire(path, wait_s=wait_s)
    except OSError as error:
        return problem("run.output_unwritable", path=str(target), reason=error.strerror or str(error))
    if held is None:
        holder = lock.noted(path)
        return problem("run.output_busy", path=str(target), run=holder.get("run", "?"), pid=holder.get("pid", "?"),
                       user=holder.get("user", "?"))
    held.note({"v": 1, "run": run, "step": step, "pid": os.getpid(), "user": user(), "since": now()})
    return held


def taken(target: Path, run: str, step: str) -> dict[str, Any] | None:
    """Return the problem if something that is not this step's own output lies at the target."""
    try:
        if not target.exists() or (target.is_dir() and not any(target.iterdir())) or ours(target, run, step):
            return None
    except OSError as error:
        return problem("run.output_unwritable", path=str(target), reason=error.strerror or str(error))
    return problem("run.output_exists", path=str(target))


def ours(target: Path, run: str, step: str) -> bool:
    """Tell whether a folder is what this step of this run published (the folder itself, or one folder per slot)."""
    if not target.is_dir():
        return False
    folders = [target] if (target / artifact.NAME).exists() else [p for p in target.iterdir() if p.is_dir()]
    records = [read_json_or_none(folder / artifact.NAME) for folder in folders]
    ids = [str(record.get("id", "")) if isinstance(record, dict) else "" for record in records]
    return bool(ids) and all(artifact_id.startswith(f"{run}/{step}/") for artifact_id in ids)


def publish(target: Path, outputs: Mapping[str, Path], run: str, step: str) -> dict[str, Any] | None:
    """Copy outputs to the target: one slot becomes the folder itself, several become a folder each.

    Repeatable: what this step already published is left alone. Returns a problem instead of raising.
    """
    if found := taken(target, run, step):
        return found
    if ours(target, run, step):
        return None
    partial = target.parent / f".{target.name}.publish.partial"
    try:
        if partial.exists():
            shutil.rmtree(partial)
        for slot, source in outputs.items():
            single = len(outputs) == 1
            copy_artifact(source, partial if single else partial / slot, target if single else target / slot)
        sync_folder(partial)
        crash_point("publish.copied")
        os.rename(partial, target)  # replaces an empty folder
        sync_folder(target.parent)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        return problem("run.output_unwritable", path=str(target), reason=error.strerror or str(error))
    crash_point("publish.renamed")
    return None


def copy_artifact(source: Path, place: Path, final: Path) -> None:
    """Copy an artifact's files to `place` and write its record for where it will lie.

    Raises:
        OSError: no space, no permission.
        ValueError: the record cannot be read.
    """
    for path in sorted(source.rglob("*")):
        goal = place / path.relative_to(source)
        if path.is_dir():
            goal.mkdir(parents=True, exist_ok=True)
        elif path.name != artifact.NAME:
            goal.parent.mkdir(parents=True, exist_ok=True)
            _copy(path.resolve(), goal)
    place.mkdir(parents=True, exist_ok=True)
    record = artifact.read(source)
    if record is None:
        return
    home = str(source.resolve())
    for entry in record.get("stack", ()):
        if entry.get("path") == home:
            entry["path"] = str(final)
    artifact.write(place, record, final)


def _copy(source: Path, goal: Path) -> None:
    if source.stat().st_size >= _LINK_FROM_BYTES:
        try:
            os.link(source, goal)
            return
        except OSError:
            pass  # another filesystem, or one without hard links
    shutil.copy2(source, goal)
    sync_file(goal)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
