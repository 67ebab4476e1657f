"""Describe what comes from outside the workspace's runs: model folders, data files, the starter's files."""

from __future__ import annotations

import os
from pathlib import Path

from swiftshell.errors import Problem
from swiftshell.plan import fingerprint
from swiftshell.plan.model import PlanInput
from swiftshell.plan.quick import STARTER_FOLDER
from swiftshell.recipe.model import DataSpec, Ref
from swiftshell.run import artifact
from swiftshell.run.checkpoints import safetensors_whole
from swiftshell.run.files import read_json_or_none

# One of these is what a tokenizer is loaded from; which one depends on the model's family.
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt", "spiece.model")


def data_path(entry: DataSpec) -> Path:
    """Return where an entry's rows lie on this disk (hub entries are downloaded by a step first)."""
    if entry.starter:
        return STARTER_FOLDER / "data" / f"{entry.starter}.jsonl"
    base = entry.path or Path()
    return base / entry.file if entry.file and base.is_dir() else base


def describe_model(slot: str, path: Path, ref: Ref, recipe_file: str | None) -> tuple[PlanInput, list[Problem]]:
    """Return a model folder as an input, and what is wrong with it.

    A folder made here has an ARTIFACT.json; any other is judged by the files a model must have.
    """
    if not path.is_dir():
        problem = Problem("plan.path_missing", {"path": str(path), "name": ref.text}, file=recipe_file, line=ref.line)
        return PlanInput(slot, str(path), "model", path), [problem]
    try:
        record = artifact.read(path)
    except ValueError as error:
        return PlanInput(slot, str(path), "model", path), [_bad(path, str(error), recipe_file, ref)]
    if record is None:
        return _outside_model(slot, path, ref, recipe_file)
    wrong = artifact.damaged(path)
    problems = [_bad(path, ", ".join(wrong[:3]), recipe_file, ref)] if wrong else []
    below = [Path(e["path"]) for e in record.get("stack") or [] if e.get("path") and Path(e["path"]) != path.resolve()]
    problems += [_base_gone(path, base, recipe_file, ref) for base in below if not (base / "config.json").is_file()]
    reference = record.get("reference") or {}
    return PlanInput(
        slot=slot, name=str(record.get("name", path.name)), kind=str(record.get("kind", "model")), path=path,
        stage=str(record.get("stage", "")), artifact_id=str(record.get("id", path)), reference_id=reference.get("id"),
        fingerprint=f"{record.get('fingerprint') or fingerprint.of_model_folder(path)}.{path.name}"), problems


def _outside_model(slot: str, path: Path, ref: Ref, recipe_file: str | None) -> tuple[PlanInput, list[Problem]]:
    config = read_json_or_none(path / "config.json")
    is_adapter = (path / "adapter_config.json").is_file()
    kind = "adapter" if is_adapter else "quantized_model" if (config or {}).get("quantization_config") else "model"
    wrong = wrong_with(path, is_adapter=is_adapter)
    problems = [_bad(path, ", ".join(wrong[:3]), recipe_file, ref)] if wrong else []
    if is_adapter:
        base = str((read_json_or_none(path / "adapter_config.json") or {}).get("base_model_name_or_path") or "")
        if os.path.isabs(base) and not (Path(base) / "config.json").is_file():
            problems.append(_base_gone(path, base, recipe_file, ref))
    return PlanInput(slot, path.name, kind, path, artifact_id=str(path),
                     fingerprint=fingerprint.of_model_folder(path)), problems


def wrong_with(path: Path, *, is_adapter: bool) -> list[str]:
    """Return the files that a model folder from elsewhere lacks, or has only in part.

    Weights are judged by their headers: a download that broke off is told in milliseconds, before anything loads.
    """
    needed = "adapter_config.json" if is_adapter else "config.json"
    wrong = [] if isinstance(read_json_or_none(path / needed), dict) else [needed]
    weights = sorted(path.glob("*.safetensors"))
    wrong += [] if weights else ["*.safetensors"]
    wrong += [f.name for f in weights if not os.access(f, os.R_OK) or not safetensors_whole(f)]
    index = read_json_or_none(path / "model.safetensors.index.json")
    shards = set(index["weight_map"].values()) if isinstance(index, dict) and isinstance(index.get("weight_map"), dict) \
        else set()
    wrong += sorted(str(name) for name in shards - {f.name for f in weights})
    if not is_adapter and not any((path / name).is_file() for name in _TOKENIZERS):
        wrong.append("tokenizer.json")
    return wrong


def _base_gone(path: Path, base: Path | str, recipe_file: str | None, ref: Ref) -> Problem:
    return Problem("plan.base_gone", {"path": str(path), "base": str(base)}, file=recipe_file, line=ref.line)


def _bad(path: Path, why: str, recipe_file: str | None, ref: Ref) -> Problem:
    return Problem("plan.model_folder_bad", {"path": str(path), "why": why}, file=recipe_file, line=ref.line)


def starter_mark() -> str:
    """Return a hash of the starter's weights by size and time: cheap, and another release has another one."""
    return fingerprint.of_model_folder(STARTER_FOLDER / "model")
