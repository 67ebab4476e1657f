"""The board: what the workspace's runs have produced, read from the run directories alone.

Nothing is remembered apart from the files of the runs, so deleting or moving a run is enough to make the board forget
it, and a run that died is never on it: an output counts when its step has a `result.json` that says succeeded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.run import artifact
from swiftshell.run.files import read_json_or_none
from swiftshell.run.paths import RunPaths, StepPaths
from swiftshell.stages.kinds import MODEL_KINDS

TRAINED_STAGES = ("sft", "kto", "dpo")


@dataclass(frozen=True)
class Entry:
    """One good output: its record (see `swiftshell.run.artifact`), where it lies and when its step ended."""

    record: dict[str, Any]
    path: Path
    stage: str
    slot: str
    run: str
    step: str
    ended: str
    step_root: Path

    @property
    def id(self) -> str:
        return str(self.record.get("id", self.path))

    @property
    def kind(self) -> str:
        return str(self.record.get("kind", ""))

    @property
    def lineage(self) -> str:
        return str(self.record.get("lineage", ""))

    @property
    def reference_id(self) -> str | None:
        """Return the id of the reference model a preference stage was trained against."""
        reference = self.record.get("reference") or {}
        return reference.get("id")


class Board:
    """Every good output of a workspace, newest first."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries = sorted(entries, key=lambda e: (e.ended, e.run, e.step_root.name), reverse=True)

    def lineages(self) -> list[str]:
        """Return the names of the lineages, the one worked on last first."""
        return list(dict.fromkeys(e.lineage for e in self.entries if e.kind in MODEL_KINDS and e.lineage))

    def of(self, stage: str, lineage: str | None = None, kinds: tuple[str, ...] = ()) -> list[Entry]:
        """Return the outputs of a stage, newest first."""
        return [e for e in self.entries if e.stage == stage and (not lineage or e.lineage == lineage)
                and (not kinds or e.kind in kinds)]

    def newest(self, stage: str, lineage: str | None = None, kinds: tuple[str, ...] = ()) -> Entry | None:
        """Return a stage's newest output."""
        return next(iter(self.of(stage, lineage, kinds)), None)

    def by_id(self, artifact_id: str) -> Entry | None:
        """Return the output with this id (`run/step/slot`), or whose run, step or id's end matches uniquely."""
        exact = [e for e in self.entries if e.id == artifact_id]
        loose = [e for e in self.entries if e.id.endswith("/" + artifact_id) or e.record.get("name") == artifact_id]
        return next(iter(exact or loose), None)

    def by_fingerprint(self, fingerprint: str) -> StepPaths | None:
        """Return the newest step whose outputs carry this fingerprint and are still whole."""
        for entry in self.entries:
            if entry.record.get("fingerprint") == fingerprint and not artifact.damaged(entry.path):
                return StepPaths(entry.step_root)
        return None


def read(runs: Path) -> Board:
    """Read the board of a workspace from its `runs/` folder; unreadable runs are left out here (`runs` names them)."""
    return Board(entry for run in _run_folders(runs) for step in RunPaths(run).steps() for entry in _entries(run, step))


def _run_folders(runs: Path) -> list[Path]:
    return [p for p in runs.iterdir() if p.is_dir() and not p.name.startswith(".")] if runs.is_dir() else []


def _entries(run: Path, step: StepPaths) -> Iterable[Entry]:
    result = read_json_or_none(step.result)
    if not isinstance(result, dict) or result.get("result") != "succeeded" or result.get("restored_from"):
        return
    for slot, where in (result.get("outputs") or {}).items():
        folder = step.root / where
        try:
            record = artifact.read(folder)
        except (ValueError, OSError):
            continue
        if record is not None and record.get("good", True):
            yield Entry(record, folder.resolve(), str(record.get("stage", "")), slot, run.name, step.id,
                        str(result.get("ended", "")), step.root)
