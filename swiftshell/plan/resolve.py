"""Turn a checked recipe into a plan: bind every input, complete every parameter, find what was done before.

Nothing here starts, locks or writes anything: `--dry-run` is this module and a renderer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from swiftshell.data import sources
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.plan import check, estimate, fingerprint, vision
from swiftshell.plan.board import Board
from swiftshell.plan.model import Plan, PlanInput, PlanStep
from swiftshell.plan.outside import data_path, describe_model
from swiftshell.plan.quick import STARTER, Why
from swiftshell.recipe.model import DataSpec, ModelSpec, Recipe, Ref, StepSpec
from swiftshell.run.files import read_json_or_none
from swiftshell.stages import registry
from swiftshell.stages.base import MODEL_KINDS, Facts, InputRef, Kind


class Resolver:
    """Resolve one recipe for one workspace; `plan()` does it once."""

    def __init__(self, recipe: Recipe, workspace: Path, run: str, board: Board, *,
                 whys: Mapping[str, Why] | None = None, lineage: str = "", fresh: bool = False) -> None:
        self.recipe, self.workspace, self.run, self.board = recipe, workspace, run, board
        self.whys = whys or {}
        self.lineage, self.fresh = lineage, fresh
        self.steps: list[PlanStep] = []
        self.problems: list[Problem] = []
        self.notes: list[Problem] = list(recipe.notes)
        own = workspace / ".swiftshell"
        self.cache = own / "cache" if own.is_dir() else None  # a folder that is no workspace yet stays as it is
        self.sizes = estimate.Sizes(workspace)

    def plan(self) -> Plan:
        """Return the plan.

        Raises:
            SwiftshellError: everything that is wrong, at once.
        """
        for spec in self.recipe.steps:
            for ref in [r for slot in spec.inputs for r in spec.refs(slot)]:
                self._imply_download(spec, ref)
            self._step(spec)
        self.problems += check.outputs(self.steps)
        self.problems += check.leaks(self.steps)
        self.problems += check.disk(self.steps, self.workspace)
        self.problems = _each_once(self.problems)
        if any(p.severity == "error" for p in self.problems):
            raise SwiftshellError(self.problems)
        self.notes += self.problems
        return Plan(run=self.run, name=self.recipe.name, recipe_text=self.recipe.text,
                    recipe_file=self.recipe.file or "", seed=self.recipe.seed, workspace=self.workspace,
                    steps=self.steps, notes=self.notes)

    def _imply_download(self, spec: StepSpec, ref: Ref) -> None:
        """Put a download before the first step that uses something which is not on this disk."""
        if spec.stage == "download" or ref.section == "steps" or self._implied(ref) is not None:
            return
        entry: ModelSpec | DataSpec = (self.recipe.models if ref.section == "models" else self.recipe.data)[ref.name]
        if entry.repo is None and not (isinstance(entry, ModelSpec) and entry.starter):
            return
        slot = "model" if ref.section == "models" else "dataset"
        source = Ref(ref.text, ref.section, ref.name, "", ref.kinds)
        self._step(StepSpec(f"download-{ref.name}", "download", {slot: source}), implied=True)
        self.steps[-1].inputs[slot][0].why = ("plan.why_implied_download", {"name": entry.repo or STARTER})

    def _implied(self, ref: Ref) -> PlanStep | None:
        return next((s for s in self.steps if s.implied and s.id == f"download-{ref.name}"
                     and ("model" in s.inputs) == (ref.section == "models")), None)

    def _step(self, spec: StepSpec, *, implied: bool = False) -> None:
        stage = registry.get(spec.stage)
        params = stage.params.model_validate(dict(spec.params)).model_dump(mode="json")
        inputs = {slot: [self._input(slot, r, spec) for r in spec.refs(slot)] for slot in spec.inputs}
        step = PlanStep(
            number=len(self.steps) + 1, id=spec.id, stage=spec.stage, params=params,
            param_sources=dict(spec.param_sources), inputs=inputs, implied=implied, output_dir=spec.output_dir,
            many=frozenset(s.name for s in stage.inputs if s.many), lineage=self._lineage_of(spec, inputs),
            fingerprint="", network=spec.stage == "download" and any(i.options.get("repo") for r in inputs.values()
                                                                     for i in r))
        step.fingerprint = fingerprint.of_step(
            spec.stage, params, {slot: [i.fingerprint for i in refs] for slot, refs in inputs.items()},
            self.recipe.seed, stage.distributions)
        self.problems += check.references(step, self.board)
        facts, given = self._facts(step), stage.params.model_validate(params)
        self.problems += stage.check(given, facts)
        step.gpus = stage.needs(given, facts).gpus
        self.problems += check.data(step)
        self.problems += vision.check(step, self.steps)
        step.fingerprint = vision.fingerprint_with_images(step)
        self._restore(step)
        self.sizes.estimate(step)
        self.steps.append(step)

    def _facts(self, step: PlanStep) -> Facts:
        """Return what a stage may look at when it checks itself."""
        refs: dict[str, Any] = {}
        for slot, items in step.inputs.items():
            made = tuple(InputRef(slot, i.path or Path(), cast(Kind, i.kind), None, i.options, i.name) for i in items)
            refs[slot] = made if slot in step.many else made[0]
        return Facts(refs, 0, self.workspace)

    def _restore(self, step: PlanStep) -> None:
        """Reuse the output of the same step done before, if all it was made from is reused too."""
        made_here = [p for refs in step.inputs.values() for i in refs if (p := self._producer(i)) is not None]
        if self.fresh or any(p.restored_from is None for p in made_here):
            return
        before = self.board.by_fingerprint(step.fingerprint)
        if before is not None:
            step.restored_from = before.root
            self.notes.append(Problem("plan.restored", {"step": step.id}, severity="note"))

    def _producer(self, item: PlanInput) -> PlanStep | None:
        return next((s for s in self.steps if s.id == item.producer), None)

    def _input(self, slot: str, ref: Ref, spec: StepSpec) -> PlanInput:
        if ref.section == "steps":
            item = self._made_here(slot, next(s for s in self.steps if s.id == ref.name), ref.slot)
            item.options = dict(self.recipe.reading(ref))
            return item
        implied = self._implied(ref) if spec.stage != "download" else None
        if implied is not None:
            item = self._made_here(slot, implied, "model" if ref.section == "models" else "dataset")
            if isinstance(entry := self.recipe.data.get(ref.name), DataSpec) and ref.section == "data":
                item.options = entry.reading()
            return item
        if ref.section == "models":
            return self._model(slot, ref, self.recipe.models[ref.name], spec)
        return self._data(slot, ref, self.recipe.data[ref.name], spec)

    def _made_here(self, slot: str, producer: PlanStep, output: str) -> PlanInput:
        home = self.workspace / "runs" / self.run
        path = home / "steps" / producer.folder / "out" / output
        if producer.restored_from is not None:
            result = read_json_or_none(producer.restored_from / "result.json") or {}
            path = (producer.restored_from / result.get("outputs", {}).get(output, f"out/{output}")).resolve()
        reference = producer.inputs.get("reference")
        return PlanInput(
            slot=slot, name=f"{producer.id}.{output}", kind=_made_kind(producer, output), path=path,
            producer=producer.id, stage=producer.stage,
            artifact_id=_artifact_id(path, f"{self.run}/{producer.id}/{output}"),
            reference_id=reference[0].artifact_id if reference else None,
            fingerprint=f"{producer.fingerprint}.{output}", why=("plan.why_step", {"step": producer.id}))

    def _model(self, slot: str, ref: Ref, entry: ModelSpec, spec: StepSpec) -> PlanInput:
        why = self.whys.get(ref.text, ("plan.why_recipe", {}))
        if spec.stage == "download" or entry.path is None:
            options = {k: v for k, v in entry.options().items() if v is not None}
            name = entry.repo or (STARTER if entry.starter else str(entry.path))
            print_ = fingerprint.of_model_folder(entry.path) if entry.path and entry.path.is_dir() else None
            if entry.path and print_ is None:
                self.problems.append(Problem("plan.path_missing", {"path": str(entry.path), "name": ref.text},
                                             file=self.recipe.file, line=entry.line))
            return PlanInput(slot, name, "model", None, options, why=why, artifact_id=name,
                             fingerprint=print_ or fingerprint.of_spec(_starter_mark(options)))
        item, problems = describe_model(slot, entry.path, ref, self.recipe.file)
        self.problems += problems
        item.why = why
        return item

    def _data(self, slot: str, ref: Ref, entry: DataSpec, spec: StepSpec) -> PlanInput:
        why = self.whys.get(ref.text, ("plan.why_recipe", {}))
        if spec.stage == "download":
            options = {k: v for k, v in entry.options().items() if v is not None}
            return PlanInput(slot, entry.repo or str(entry.path or entry.starter), "dataset", None, options, why=why,
                             fingerprint=fingerprint.of_spec(options))
        path = data_path(entry)
        name = f"starter {entry.starter}" if entry.starter else str(path)
        if not sources.exists(path):
            self.problems.append(Problem("plan.path_missing", {"path": str(path), "name": ref.text},
                                         file=self.recipe.file, line=entry.line))
            return PlanInput(slot, name, "dataset", path, entry.reading(), why=why)
        return PlanInput(slot, name, "dataset", path, entry.reading(), why=why,
                         fingerprint=fingerprint.of_file(path, entry.reading(), self.cache))

    def _lineage_of(self, spec: StepSpec, inputs: Mapping[str, list[PlanInput]]) -> str:
        models = [i for slot in ("policy", "model", "adapter", "models") for i in inputs.get(slot, [])
                  if i.kind in MODEL_KINDS]
        for item in models:
            producer = self._producer(item)
            if producer is not None:
                return producer.lineage
            if (entry := self.board.by_id(item.artifact_id)) is not None and entry.lineage:
                return entry.lineage
            return slug(item.name, is_starter=bool(item.options.get("starter")))
        return self.lineage


def _each_once(problems: list[Problem]) -> list[Problem]:
    """Leave out what reads the same as one before: policy and reference are often one model."""
    found: list[tuple[Any, ...]] = []
    kept = []
    for p in problems:
        key = (p.code, dict(p.values), p.file, p.line if p.file else None, p.row, p.severity)
        if key not in found:
            found.append(key)
            kept.append(p)
    return kept


def slug(name: str, *, is_starter: bool = False) -> str:
    """Return a lineage name for a model: the last part of its path or repository, in lower case."""
    short = re.sub(r"[^a-z0-9._-]+", "-", name.rstrip("/").split("/")[-1].lower()).strip("-") or "model"
    return STARTER if is_starter else ("starter-model" if short == STARTER else short)


def _made_kind(producer: PlanStep, output: str) -> str:
    stage = registry.get(producer.stage)
    return next((s.kinds[0] for s in stage.outputs if s.name == output), "note")


def _artifact_id(path: Path, otherwise: str) -> str:
    record = read_json_or_none(path / "ARTIFACT.json")
    return str(record.get("id", otherwise)) if isinstance(record, dict) else otherwise


def _starter_mark(options: dict[str, Any]) -> dict[str, Any]:
    """Add the starter's content to what its fingerprint covers, so that a new release is not taken for the old one."""
    if not options.get("starter"):
        return options
    from swiftshell.plan.outside import starter_mark

    return {**options, "content": starter_mark()}
