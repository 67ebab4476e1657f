"""What a plan is: plain facts, ready to be written as `plan.json` and rendered by any front."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem
from swiftshell.stages.base import Needs


@dataclass
class PlanInput:
    """One input, decided.

    `producer` is the id of the step of this plan that makes it, or None if it exists already. `stage` is the stage that
    made (or will make) it, empty for files and outside models. `why` is a catalogue key with values.
    """

    slot: str
    name: str
    kind: str
    path: Path | None
    options: dict[str, Any] = field(default_factory=dict)
    producer: str | None = None
    stage: str = ""
    artifact_id: str = ""
    reference_id: str | None = None
    fingerprint: str = ""
    why: tuple[str, dict[str, Any]] = ("plan.why_recipe", {})

    def as_request(self) -> dict[str, Any]:
        """Return the form `request.json` has."""
        return {"kind": self.kind, "path": str(self.path) if self.path else None, "name": self.name,
                "options": self.options}

    def as_json(self) -> dict[str, Any]:
        """Return the form `plan.json` has."""
        return {**self.as_request(), "slot": self.slot, "producer": self.producer, "stage": self.stage,
                "why": {"code": self.why[0], "values": self.why[1]}}


@dataclass
class PlanStep:
    """One step, decided: parameters complete, inputs bound, fingerprint known."""

    number: int
    id: str
    stage: str
    params: dict[str, Any]
    param_sources: dict[str, str]
    inputs: dict[str, list[PlanInput]]
    many: frozenset[str]
    lineage: str
    fingerprint: str
    output_dir: Path | None = None
    restored_from: Path | None = None
    network: bool = False
    needs: Needs = field(default_factory=Needs)
    gpus: int = 0  # reserved for it where the machine has any
    estimate_s: float | None = None
    estimate_from: str = ""
    implied: bool = False  # added by the planner (a download nobody wrote down)
    rows: dict[str, int] = field(default_factory=dict)
    image_rows: dict[str, int] = field(default_factory=dict)  # rows with images, by slot
    image_marks: dict[str, str] = field(default_factory=dict)  # what changes when one of these images does
    thumbs: dict[str, Any] = field(default_factory=dict)  # KTO: what the rows weigh (`DataReport.thumbs`)
    row_tokens: float = 0.0  # mean length of a training row, estimated from its characters

    @property
    def folder(self) -> str:
        """Return the step's folder name in the run directory."""
        return f"{self.number:02d}-{self.id}"

    def as_json(self) -> dict[str, Any]:
        """Return the form `plan.json` has."""
        return {
            "number": self.number, "id": self.id, "stage": self.stage, "params": self.params,
            "param_sources": self.param_sources, "lineage": self.lineage, "fingerprint": self.fingerprint,
            "inputs": {slot: [i.as_json() for i in refs] for slot, refs in self.inputs.items()},
            "output_dir": str(self.output_dir) if self.output_dir else None,
            "restored_from": str(self.restored_from) if self.restored_from else None, "network": self.network,
            "needs": {"gpus": self.gpus, "vram_gib": self.needs.vram_gib, "disk_gib": self.needs.disk_gib},
            "estimate_s": self.estimate_s, "estimate_from": self.estimate_from, "implied": self.implied,
            "rows": self.rows, "thumbs": self.thumbs,
        }


@dataclass
class Plan:
    """A recipe with everything decided, bound to the run folder it will fill."""

    run: str
    name: str
    recipe_text: str
    recipe_file: str
    seed: int
    workspace: Path
    steps: list[PlanStep]
    notes: list[Problem] = field(default_factory=list)
    command: str = ""  # the equal command line
    priority: str = "normal"  # in the queue for GPUs
    wait: bool = True  # for GPUs; else a step whose GPUs are not free is refused instead of queued
    machine_gpus: int | None = 0  # None: a driver is here and does not answer

    @property
    def root(self) -> Path:
        """Return the run folder."""
        return self.workspace / "runs" / self.run

    def as_json(self) -> dict[str, Any]:
        """Return the form `plan.json` has."""
        return {"v": 1, "run": self.run, "name": self.name, "recipe": self.recipe_file, "seed": self.seed,
                "workspace": str(self.workspace), "command": self.command, "steps": [s.as_json() for s in self.steps],
                "machine_gpus": self.machine_gpus, "priority": self.priority,
                "notes": [n.as_json() for n in self.notes]}

    def requests(self) -> dict[str, dict[str, Any]]:
        """Return every step's `request.json`, in order, by step id."""
        return {s.id: self._request(s) for s in self.steps}

    def _request(self, step: PlanStep) -> dict[str, Any]:
        inputs = {slot: [i.as_request() for i in refs] if slot in step.many else refs[0].as_request()
                  for slot, refs in step.inputs.items() if refs}
        return {"v": 1, "run": self.run, "step": step.id, "stage": step.stage, "params": step.params, "inputs": inputs,
                "seed": self.seed, "lineage": step.lineage, "fingerprint": step.fingerprint, "network": step.network,
                "resume": True, "publish": str(step.output_dir) if step.output_dir else None,
                "restored_from": str(step.restored_from) if step.restored_from else None, "python": None, "env": {},
                "gpus": step.gpus, "priority": self.priority}
