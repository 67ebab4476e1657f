"""A stage's form: its inputs as the board chooses them, its settings from the stage's own declaration, what was changed.

A form is nothing but what a command line could say: `Options` for the inputs and `--set` texts for the settings, so the
plan of a form is the plan of its command line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem, SwiftshellError
from swiftshell.i18n import t
from swiftshell.plan.board import Board, Entry
from swiftshell.plan.quick import STARTER, STARTER_FOLDER, Options, Quick, build
from swiftshell.stages import registry

# Per stage the inputs a person may choose: the option that names each, and the stage's slot it fills.
INPUTS: Mapping[str, Mapping[str, str]] = {
    "download": {"model": "model", "dataset": "dataset"},
    "sft": {"policy": "policy", "data": "train_data", "eval_data": "eval_data"},
    "kto": {"policy": "policy", "reference": "reference", "data": "train_data", "replay": "replay_data",
            "eval_data": "eval_data"},
    "dpo": {"policy": "policy", "reference": "reference", "data": "train_data", "eval_data": "eval_data"},
    "merge": {"model": "adapter"},
    "infer": {"model": "model", "data": "prompts"},
    "quantize": {"model": "model"},
    "evaluate": {"model": "models", "data": "eval_data"},
    "serve": {"model": "model"},
}
MODEL_OPTIONS = ("model", "policy", "reference")

# The few settings people change; everything else is one row further.
_TRAINING = ("learning_rate", "num_train_epochs", "per_device_train_batch_size", "quantization", "lora.r", "max_length")
SHORT: Mapping[str, tuple[str, ...]] = {
    "sft": _TRAINING,
    "kto": ("learning_rate", "beta", *_TRAINING[1:]),
    "dpo": ("learning_rate", "beta", *_TRAINING[1:]),
    "merge": ("dtype",),
    "infer": ("max_new_tokens", "temperature", "limit"),
    "quantize": ("quantization",),
    "evaluate": ("metrics", "max_new_tokens", "limit"),
    "serve": ("port", "host", "max_model_len"),
}


@dataclass
class Form:
    """What a person chose for one stage so far. `sets` maps dotted names to YAML text, as `--set` takes it."""

    stage: str
    options: Options = field(default_factory=Options)
    sets: dict[str, str] = field(default_factory=dict)
    fresh: bool = False
    gpus: int | None = None  # None: one where the machine has any
    priority: str = "normal"  # among those who wait for GPUs

    def settings(self) -> list[str]:
        """Return the changed settings as `--set` arguments."""
        return [f"{name}={value}" for name, value in self.sets.items()]

    def quick(self, board: Board) -> Quick:
        """Choose the inputs that are not named, as the command line does.

        Raises:
            SwiftshellError: an input is missing or a name fits nothing.
        """
        return build(self.stage, board, self.options)

    def named(self, option: str) -> Any:
        """Return what the person chose for an input; None where the board chooses."""
        return getattr(self.options, option)


@dataclass(frozen=True)
class Chosen:
    """What fills an input now. `problem` says why nothing does."""

    name: str = ""
    why: str = ""
    problem: Problem | None = None


def chosen(form: Form, board: Board) -> dict[str, Chosen]:
    """Return by option what fills each input of a form, and why."""
    try:
        quick = form.quick(board)
    except SwiftshellError as error:
        return {option: _unfilled(form, option, error.problems[0]) for option in INPUTS[form.stage]}
    return {option: _filled(form, quick, option) for option in INPUTS[form.stage]}


def _unfilled(form: Form, option: str, problem: Problem) -> Chosen:
    named = form.named(option)
    if named and not (option == "replay" and problem.code.startswith("rounds.")):
        return Chosen(str(named), t("plan.why_named", name=named))
    about = "data" if problem.code.startswith("plan.data") else "replay" if problem.code.startswith("rounds.") else ""
    is_model = option in MODEL_OPTIONS or option == "dataset"
    return Chosen(problem=problem if option == about or (not about and is_model) else None)


def _filled(form: Form, quick: Quick, option: str) -> Chosen:
    refs = quick.recipe["steps"][0]["inputs"].get(INPUTS[form.stage][option])
    names = [refs] if isinstance(refs, str) else list(refs or [])
    if not names:
        return Chosen()
    whys = [quick.whys.get(name) for name in names]
    shown = [_name(name, why, quick) for name, why in zip(names, whys, strict=True)]
    reasons = dict.fromkeys(t(why[0], **why[1]) for why in whys if why)
    return Chosen(", ".join(shown), "; ".join(reasons) if len(names) == 1 or option == "replay" else t("menu.whole_lineage"))


def _name(ref: str, why: tuple[str, dict[str, Any]] | None, quick: Quick) -> str:
    section, _, key = ref.partition(".")
    entry = quick.recipe[section][key]
    if entry.get("starter"):
        return STARTER if entry["starter"] is True else f"{STARTER} {entry['starter']}"
    if (why is not None and why[0] == "plan.why_reference_sft") or (why is not None and why[0] == "plan.why_same_reference"):
        return short_id(str(why[1].get("name", "")))
    return str((why[1].get("name") if why else "") or entry.get("repo") or entry.get("path"))


def short_id(artifact_id: str) -> str:
    """Return `sft.adapter` for `2026-11-23-sft-k3f9/sft/adapter`."""
    parts = artifact_id.split("/")
    return ".".join(parts[-2:]) if len(parts) == 3 else artifact_id


def candidates(stage: str, option: str, board: Board, lineage: str) -> list[Entry]:
    """Return the board's outputs that fit an input: this lineage's first, newest first."""
    slot = next(s for s in registry.get(stage).inputs if s.name == INPUTS[stage][option])
    fitting = [e for e in board.entries if e.kind in slot.kinds]
    return sorted(fitting, key=lambda entry: entry.lineage != lineage)


# ----------------------------------------------------------------------------------------------- settings


def schema(stage: str) -> dict[str, dict[str, Any]]:
    """Return every setting of a stage by dotted name, with its JSON schema; a group itself is left out."""
    root = registry.get(stage).params.model_json_schema()
    found: dict[str, dict[str, Any]] = {}

    def walk(node: Mapping[str, Any], prefix: str) -> None:
        for name, entry in node.get("properties", {}).items():
            target = root.get("$defs", {}).get(str(entry.get("$ref", "")).rsplit("/", 1)[-1])
            if target is not None and "properties" in target:
                walk(target, f"{prefix}{name}.")
            else:
                found[prefix + name] = entry
    walk(root, "")
    return found


def values(form: Form, board: Board) -> dict[str, Any]:
    """Return every setting's value in force by dotted name: default, the starter's, then the person's own text."""
    params: dict[str, Any] = registry.get(form.stage).params.model_construct().model_dump(mode="json", warnings=False)
    try:
        over = form.quick(board).recipe["steps"][0]["params"]
    except SwiftshellError:
        over = {}
    found = {name: _find(params, name) for name in schema(form.stage)}
    for name in found:
        given = _find(over, name)
        found[name] = found[name] if given is None else given
    return {**found, **form.sets}


def _find(params: Any, name: str) -> Any:
    for part in name.split("."):
        params = params.get(part) if isinstance(params, Mapping) else None
    return params


def as_text(value: Any) -> str:
    """Return a value the way `--set` takes it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(map(as_text, value))}]"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k}: {as_text(v)}" for k, v in value.items()) + "}"
    return str(value)


def choices(entry: Mapping[str, Any]) -> list[str]:
    """Return all values a setting can have, where they can be counted; else nothing."""
    if "enum" in entry:
        return [as_text(v) for v in entry["enum"]]
    if "const" in entry:
        return [as_text(entry["const"])]
    if entry.get("type") == "boolean":
        return ["true", "false"]
    parts = [choices(part) for part in entry.get("anyOf", [])]
    return [c for part in parts for c in part] if parts and all(parts) else []


def wrong(stage: str, name: str, text: str) -> str:
    """Return what is wrong with a setting's new value in a sentence, or nothing; the recipe's own check decides."""
    from swiftshell.i18n import hint_of, what
    from swiftshell.recipe.override import read_overrides
    from swiftshell.recipe.parameters import Layers, Origin, check

    overrides, problems = read_overrides([f"{name}={text}"], [(stage, registry.get(stage))])
    layers = Layers()
    for override in overrides:
        override.apply(layers)
    problems = [*problems, *check(registry.get(stage), layers, stage, Origin("flag", None, stage))]
    return "  ".join(f"{what(p)}  {hint_of(p)}".strip() for p in problems[:1])


def data_path(form: Form, board: Board) -> Path | None:
    """Return the file or folder that the form's training data is read from, if it is on this disk already."""
    try:
        quick = form.quick(board)
    except SwiftshellError:
        return None
    ref = quick.recipe["steps"][0]["inputs"].get("train_data")
    section, _, name = str(ref).partition(".")
    entry = quick.recipe.get(section, {}).get(name)
    if not isinstance(entry, Mapping):
        return None
    starter = entry.get("starter")
    path = STARTER_FOLDER / "data" / f"{starter}.jsonl" if isinstance(starter, str) else entry.get("path")
    return Path(path) if path and Path(path).exists() else None


def data_files(folder: Path, most: int = 8) -> list[str]:
    """Return names of data files in a folder, newest first."""
    endings = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
    try:
        files = [p for p in folder.iterdir() if p.suffix in endings and p.is_file() and not p.name.startswith(".")]
        return [p.name for p in sorted(files, key=lambda p: p.stat().st_mtime, reverse=True)[:most]]
    except OSError:
        return []
