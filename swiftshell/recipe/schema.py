"""Check a whole recipe in one go and return it as facts, or raise every problem it has.

Nothing is loaded and no file but the recipe is read: whether data and models are there is the plan's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem, SwiftshellError
from swiftshell.recipe import parameters
from swiftshell.recipe.checking import Checker
from swiftshell.recipe.defaults import Defaults
from swiftshell.recipe.document import Document, KeyPath
from swiftshell.recipe.model import Recipe, StepSpec
from swiftshell.recipe.override import Override, read_overrides
from swiftshell.recipe.parameters import Layers, Origin, ParamPath
from swiftshell.recipe.references import SECTIONS, Made, Scope, check_inputs, effective_outputs
from swiftshell.recipe.sections import absolute, read_data, read_id, read_models
from swiftshell.recipe.suggest import nearest, shown
from swiftshell.stages import registry
from swiftshell.stages.base import Stage

VERSION = 1
TOP_KEYS = ("schema", "name", "seed", "lang", "models", "data", "defaults", "steps")
STEP_KEYS = ("id", "stage", "inputs", "params", "output_dir")
DEFAULT_SEED = 42
MAX_SEED = 2**32 - 1


def check_document(document: Document, base: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Check a document and return the recipe it is; relative paths count from `base`, overrides lie on top.

    Raises:
        SwiftshellError: with all problems, each with file, line, column and field.
    """
    builder = _Builder(document, base, overrides)
    recipe = builder.recipe()
    errors = _unique(builder.checker.errors())
    if errors:
        raise SwiftshellError(errors)
    return recipe


def _unique(problems: list[Problem]) -> list[Problem]:
    """Drop repeats: a default that is wrong for three steps is one mistake."""
    seen: set[tuple[Any, ...]] = set()
    kept = []
    for problem in problems:
        key = (problem.code, problem.file, problem.line, problem.column, problem.field_name)
        if key not in seen:
            seen.add(key)
            kept.append(problem)
    return kept


class _Builder:
    """Walk the document once, top to bottom."""

    def __init__(self, document: Document, base: Path, overrides: Sequence[str]) -> None:
        self.document, self.base = document, base
        self.checker = Checker(document)
        self.raw_overrides = tuple(overrides)
        self.data = self.checker.mapping((), document.data, TOP_KEYS)

    def recipe(self) -> Recipe:
        data, checker = self.data, self.checker
        if data:
            self._version()
        name = checker.text(("name",), data.get("name"))
        if name is not None:
            read_id(checker, ("name",), name, dots=True)
        seed = checker.whole(("seed",), data.get("seed"), DEFAULT_SEED, 0, MAX_SEED)
        lang = checker.choice(("lang",), data.get("lang"), ("zh", "en"))
        models = read_models(checker, data.get("models"), self.base)
        rows = read_data(checker, data.get("data"), self.base)
        raw_steps = self._raw_steps()
        sections = {section: data.get(section) for section in SECTIONS}
        declared = frozenset(f"{section}.{key}" for section, entries in sections.items()
                             if isinstance(entries, dict) for key in entries)
        scope = Scope(models, rows, declared, tuple(str(step["id"]) for _path, step in raw_steps if step.get("id")))
        steps = self._steps(raw_steps, scope)
        stem = Path(self.document.file).stem if self.document.file else "recipe"
        return Recipe(name or stem, seed, models, rows, tuple(steps), self.base, self.document.text, self.document.file,
                      lang, self.raw_overrides, tuple(_unique(list(checker.notes()))))

    def _version(self) -> None:
        version = self.data.get("schema")
        if "schema" not in self.data:
            self.checker.add((), "recipe.schema_missing", version=VERSION, field="schema")
        elif isinstance(version, bool) or not isinstance(version, int) or version < 1:
            self.checker.add(("schema",), "recipe.schema_wrong", found=shown(version), version=VERSION)
        elif version > VERSION:
            self.checker.add(("schema",), "recipe.schema_newer", found=version, version=VERSION)

    def _raw_steps(self) -> list[tuple[KeyPath, dict[str, Any]]]:
        """Return the steps that are mappings, each with its path."""
        steps = self.data.get("steps")
        if not self.data:
            return []
        if steps is None or steps == []:
            self.checker.add(("steps",), "recipe.no_steps", field="steps")
            return []
        if not isinstance(steps, list):
            self.checker.add(("steps",), "recipe.steps_not_list", found=shown(steps))
            return []
        found = []
        for i, step in enumerate(steps):
            path: KeyPath = ("steps", i)
            if isinstance(step, dict):
                found.append((path, self.checker.mapping(path, step, STEP_KEYS)))
            else:
                self.checker.add(path, "recipe.step_not_map", found=shown(step))
        return found

    def _steps(self, raw: list[tuple[KeyPath, dict[str, Any]]], scope: Scope) -> list[StepSpec]:
        stages = [self._stage(path, step) for path, step in raw]
        known = [stage for stage in stages if stage is not None]
        defaults = Defaults(self.checker, self.data.get("defaults"), known)
        ids = [(str(step.get("id", "")), stage) for (_path, step), stage in zip(raw, stages, strict=True)]
        overrides, problems = read_overrides(self.raw_overrides, ids)
        self.checker.problems += problems
        steps = []
        published: dict[Path, str] = {}
        for (path, step), stage in zip(raw, stages, strict=True):
            spec = self._step(path, step, stage, defaults, overrides, scope)
            if spec.output_dir is not None and spec.output_dir in published:
                self.checker.add((*path, "output_dir"), "recipe.output_twice", found=str(spec.output_dir),
                                 other=published[spec.output_dir])
            elif spec.output_dir is not None:
                published[spec.output_dir] = spec.id
            steps.append(spec)
        return steps

    def _stage(self, path: KeyPath, step: dict[str, Any]) -> Stage | None:
        """Return a step's stage, or None after recording that there is none."""
        name = self.checker.text((*path, "stage"), step.get("stage"))
        if name is None:
            if step.get("stage") is None:
                self.checker.add(path, "recipe.step_without", key=True, what="stage")
            return None
        if name in registry.names():
            return registry.get(name)
        near = nearest(name, registry.names())
        code = "recipe.stage_unknown" if near else "recipe.stage_unknown_far"
        self.checker.add((*path, "stage"), code, found=name, nearest=near, known=", ".join(registry.PIPELINE))
        return None

    def _step(self, path: KeyPath, step: dict[str, Any], stage: Stage | None, defaults: Defaults,
              overrides: list[Override], scope: Scope) -> StepSpec:
        checker = self.checker
        step_id = self._step_id(path, step, scope)
        layers = Layers()
        written = checker.mapping((*path, "params"), step.get("params"))
        if stage is not None:
            defaults.apply(stage, layers)
            for name, value in written.items():
                layers.put((name,), value, lambda p: self._origin((*path, "params", *p), p))
            for override in overrides:
                if override.step in ("", step_id):
                    override.apply(layers)
            field = checker.dotted((*path, "params"))
            fallback = Origin("recipe", self.document.file, field, checker.document.key_mark((*path, "params")),
                              checker.document.value_mark((*path, "params")))
            checker.problems += parameters.check(stage, layers, field, fallback)
            inputs = check_inputs(checker, (*path, "inputs"), stage, step.get("inputs"), scope, step_id)
        else:
            inputs = {}
        if step_id and step_id not in scope.made:
            scope.made[step_id] = self._made(step_id, stage, layers, step)
        output = checker.text((*path, "output_dir"), step.get("output_dir"))
        return StepSpec(step_id, stage.name if stage else "", inputs, layers.values, layers.sources(),
                        absolute(output, self.base) if output else None, checker.document.key_mark(path).line)

    def _made(self, step_id: str, stage: Stage | None, layers: Layers, step: dict[str, Any]) -> Made:
        if stage is None:
            return Made(step_id, None)
        inputs = step.get("inputs")
        outputs, why = effective_outputs(stage, layers.values, set(inputs) if isinstance(inputs, dict) else set())
        return Made(step_id, stage, outputs, why)

    def _origin(self, path: KeyPath, inner: ParamPath) -> Origin:
        return Origin("recipe", self.document.file, ".".join(inner), self.document.key_mark(path),
                      self.document.value_mark(path))

    def _step_id(self, path: KeyPath, step: dict[str, Any], scope: Scope) -> str:
        step_id = self.checker.text((*path, "id"), step.get("id"))
        if step_id is None:
            if step.get("id") is None:
                self.checker.add(path, "recipe.step_without", key=True, what="id")
            return ""
        read_id(self.checker, (*path, "id"), step_id)
        if step_id in TOP_KEYS:
            self.checker.add((*path, "id"), "recipe.id_reserved", found=step_id)
        elif step_id in scope.made:
            first = next(i for i, s in enumerate(self.data["steps"]) if isinstance(s, dict) and s.get("id") == step_id)
            self.checker.add((*path, "id"), "recipe.id_twice", found=step_id,
                             first=self.document.value_mark(("steps", first, "id")).line)
        return step_id

