"""A recipe after it was read and checked: frozen facts that the planner works from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swiftshell.errors import Problem
from swiftshell.stages.base import Kind

Section = Literal["models", "data", "steps"]


@dataclass(frozen=True)
class Ref:
    """What an input refers to.

    Attributes:
        text: the reference in full, e.g. `models.base`, `data.thumbs`, `sft.adapter`.
        section, name: which entry of `models` or `data`, or which step.
        slot: the step's output slot; empty for `models` and `data`.
        kinds: the artifact kinds it may turn out to be (a `models` entry with a path may be any kind of model).
    """

    text: str
    section: Section
    name: str
    slot: str
    kinds: tuple[Kind, ...]
    line: int | None = None
    column: int | None = None


@dataclass(frozen=True)
class ModelSpec:
    """An entry of `models`: exactly one of `repo`, `path` (absolute) and `starter` is set."""

    id: str
    repo: str | None = None
    path: Path | None = None
    starter: bool = False
    revision: str | None = None
    source: str = "hf"
    line: int | None = None

    def options(self) -> dict[str, Any]:
        """Return what `download` is told (see swiftshell/stages/download.py)."""
        return _origin(self.repo, self.path, self.starter, self.revision, self.source)


@dataclass(frozen=True)
class DataSpec:
    """An entry of `data`: where the rows are and how to read them.

    Attributes:
        starter: which of the starter's files: "sft", "kto", "dpo" or "heldout".
        file, split: which file or split of a repository or folder.
        columns: column the stage needs -> column of the file, e.g. {"completion": "response"}.
        format, label_rule, limit: see `swiftshell.data.load.load_rows`; limit 0 means all rows.
    """

    id: str
    repo: str | None = None
    path: Path | None = None
    starter: str | None = None
    revision: str | None = None
    source: str = "hf"
    split: str | None = None
    file: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    format: str | None = None
    label_rule: Mapping[str, Any] | None = None
    limit: int = 0
    line: int | None = None

    def options(self) -> dict[str, Any]:
        """Return what `download` is told, and how a reader reads the rows, in one mapping without empty entries."""
        origin = _origin(self.repo, self.path, self.starter, self.revision, self.source)
        return {**origin, **self.reading()}

    def reading(self) -> dict[str, Any]:
        """Return only how the rows are read."""
        found = {"split": self.split, "file": self.file, "columns": dict(self.columns), "format": self.format,
                 "label_rule": dict(self.label_rule) if self.label_rule else None, "limit": self.limit}
        return {key: value for key, value in found.items() if value}


@dataclass(frozen=True)
class StepSpec:
    """One step: its stage, inputs and parameters.

    Attributes:
        inputs: slot -> reference; slots that take many hold a list.
        params: as written, over the recipe's defaults, under overrides; what is absent takes the stage's default.
        param_sources: dotted parameter -> where its value comes from: "recipe:LINE", "defaults:LINE" or "flag".
        output_dir: absolute folder to publish the output to, or None.
    """

    id: str
    stage: str
    inputs: Mapping[str, Ref | list[Ref]] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    param_sources: Mapping[str, str] = field(default_factory=dict)
    output_dir: Path | None = None
    line: int | None = None

    def refs(self, slot: str) -> tuple[Ref, ...]:
        """Return a slot's references, in order; empty if it is not filled."""
        found = self.inputs.get(slot, [])
        return (found,) if isinstance(found, Ref) else tuple(found)


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        base_folder: the folder relative paths were counted from.
        text: the YAML as written; `overrides` holds the `--set` arguments that were applied on top.
        file: the recipe's file as it was named, or None.
        notes: warnings found on the way (a default that no step uses, a deprecated engine argument …).
    """

    name: str
    seed: int
    models: Mapping[str, ModelSpec]
    data: Mapping[str, DataSpec]
    steps: tuple[StepSpec, ...]
    base_folder: Path
    text: str
    file: str | None = None
    lang: str | None = None
    overrides: tuple[str, ...] = ()
    notes: tuple[Problem, ...] = ()

    def step(self, step_id: str) -> StepSpec:
        """Return a step by its id.

        Raises:
            KeyError: there is no such step.
        """
        for step in self.steps:
            if step.id == step_id:
                return step
        raise KeyError(step_id)

    def reading(self, ref: Ref) -> dict[str, Any]:
        """Return how a dataset's rows are read: what its `data` entry says, also if a download step fetches it."""
        if ref.section == "data":
            return self.data[ref.name].reading()
        if ref.section == "steps":
            for origin in self.step(ref.name).refs("dataset"):
                return self.reading(origin)
        return {}


def _origin(repo: str | None, path: Path | None, starter: bool | str | None, revision: str | None,
            source: str) -> dict[str, Any]:
    if repo is not None:
        return {"repo": repo, "revision": revision, "source": source}
    return {"path": str(path)} if path is not None else {"starter": starter}
