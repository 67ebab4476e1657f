"""The contract between the shell, a stage and its engine.

A *stage* says what a kind of work needs and makes; it imports in milliseconds. Its *engine* is a function
`run(request: StepRequest, ctx: Context) -> Outcome`, named by string and imported by the worker process only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict

from swiftshell.errors import Problem
from swiftshell.stages.kinds import MODEL_KINDS, Kind

__all__ = ["MODEL_KINDS", "Context", "Facts", "InputRef", "Kind", "Needs", "Outcome", "Params", "SimpleStage", "Slot",
           "Stage", "StepRequest", "Stopped"]


class Params(BaseModel):
    """Base of every stage's parameters: unknown keys are refused, values are checked, nothing is coerced silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


@dataclass(frozen=True)
class Slot:
    """A named input or output of a stage and the artifact kinds it takes or makes."""

    name: str
    kinds: tuple[Kind, ...]
    required: bool = True
    many: bool = False  # the input takes a list of references


@dataclass(frozen=True)
class Needs:
    """An honest upper bound of what a step takes, known before it starts. `None` means unknown, never zero."""

    gpus: int = 0
    vram_gib: float | None = None
    disk_gib: float | None = None
    network: bool = False
    time_s: float | None = None


@dataclass(frozen=True)
class Facts:
    """What the planner knows when it asks a stage to check itself. Paths may not exist yet (`produced`)."""

    inputs: Mapping[str, Any]  # slot name -> InputRef or tuple of InputRef
    gpus: int
    workspace: Path
    data_report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class InputRef:
    """An input of a step as the worker gets it.

    Attributes:
        path: absolute folder (artifact) or file (data).
        kind: artifact kind.
        artifact: the parsed ARTIFACT.json if the input existed at planning time, else None: it is produced earlier in
            the same run and the worker reads it from `path`.
        columns, format, options: how to read a data file (see `swiftshell.data`).
        why: catalogue key and values that say why this input was chosen.
    """

    slot: str
    path: Path
    kind: Kind
    artifact: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # data: columns, format, split, limit …
    name: str = ""  # short name shown to people, e.g. "sft.adapter" or "starter"


class Stage(Protocol):
    """A kind of work. Instances are stateless; menus and the planner only read them."""

    name: str
    params: type[Params]
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    engine: str  # "swiftshell.engines.trl_kto:run", imported by the worker only
    distributions: tuple[str, ...]  # pip distributions whose versions are part of the fingerprint
    extra: str  # the pip extra (or environment) that installs the engine: "train", "serve", ""

    def check(self, params: Any, facts: Facts) -> Iterable[Problem]:
        """Yield every problem that can be known now; pure, fast, complete."""
        ...

    def needs(self, params: Any, facts: Facts) -> Needs:
        """Return an honest upper bound of what the step takes."""
        ...


class SimpleStage:
    """Defaults most stages share: no further checks, one GPU where there is one."""

    name: ClassVar[str]
    params: ClassVar[type[Params]]
    inputs: ClassVar[tuple[Slot, ...]] = ()
    outputs: ClassVar[tuple[Slot, ...]] = ()
    engine: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]] = ()
    extra: ClassVar[str] = "train"
    gpus: ClassVar[int] = 1  # reserved for it where the machine has any; a stage that needs none sees none

    def check(self, params: Any, facts: Facts) -> Iterable[Problem]:
        """Find nothing beyond what the parameter types already hold."""
        return ()

    def needs(self, params: Any, facts: Facts) -> Needs:
        """Ask for the stage's GPUs and nothing else."""
        return Needs(gpus=self.gpus)


@dataclass(frozen=True)
class StepRequest:
    """Everything an engine is told; the worker builds it from `request.json`.

    Attributes:
        run, step, stage: names.
        params: an instance of the stage's `Params`.
        inputs: slot name -> InputRef; slots with `many` hold a tuple of InputRef.
        resume_from: checkpoint folder that validated, or None for a start from scratch.
        seed: the run's seed.
        chosen: planner's facts for the artifact (lineage name and the like).
    """

    run: str
    step: str
    stage: str
    params: Any
    inputs: Mapping[str, Any]
    seed: int
    resume_from: Path | None = None
    lineage: str = ""
    fingerprint: str = ""

    def input(self, slot: str) -> InputRef:
        """Return the single input of a slot.

        Raises:
            KeyError: the slot was not filled (optional slots: use `inputs.get`).
        """
        ref: InputRef | tuple[InputRef, ...] = self.inputs[slot]
        return ref[0] if isinstance(ref, tuple) else ref

    def many(self, slot: str) -> tuple[InputRef, ...]:
        """Return all inputs of a slot, in order; empty if it was not filled."""
        ref = self.inputs.get(slot, ())
        return ref if isinstance(ref, tuple) else (ref,)


class Context(Protocol):
    """All an engine may ask of the shell. Every call is one appended line; none raises for a full disk mid-training."""

    out: Path  # this attempt's partial output: write each slot under out/<slot>/
    checkpoints: Path  # survives attempts: resumable training state
    work: Path  # scratch of this attempt, removed afterwards
    cache: Path  # shared by all runs of the workspace; may be deleted at any time, so nothing may depend on it

    def phase(self, name: str) -> None:
        """Say what is being done now: loading, tokenizing, training, saving, evaluating, merging, downloading."""

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Report progress of the current phase; unit is steps, rows, bytes, prompts, tensors."""

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Record one measured number; names as TRL logs them (loss, rewards/chosen, …)."""

    def checkpoint(self, path: Path, step: int) -> None:
        """Say that a checkpoint was written whole."""

    def note(self, code: str, **values: Any) -> None:
        """Tell the user something worth knowing (catalogue key)."""

    def warn(self, code: str, **values: Any) -> None:
        """Warn the user (catalogue key)."""

    def stop_requested(self) -> bool:
        """Tell whether a stop was asked for: save a checkpoint and raise `Stopped`."""
        ...


class Stopped(Exception):
    """Raise from an engine after it saved its state because `ctx.stop_requested()` was true."""


@dataclass
class Outcome:
    """What an engine made.

    Attributes:
        artifacts: slot name -> facts for its ARTIFACT.json beyond what the worker knows (kind, stack, dtype,
            reference, probe, dataset, …). Files lie under ctx.out/<slot>/.
        metrics: final numbers, flat, names as logged.
        summary: JSON-ready facts for the final table and report (per stage, free form).
        gate: None, or the problems that make the result unfit: the artifact is kept but not called good (exit 3).
    """

    artifacts: dict[str, dict[str, Any]] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    gate: list[Problem] = field(default_factory=list)
