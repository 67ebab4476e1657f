"""Check `engine_args` against the fields of the pinned TRL, without importing it.

`swiftshell/stages/fields.json` lists every field of SFTConfig, KTOConfig and DPOConfig with type and default;
`python -m swiftshell.engines.dump_fields` writes it and a test holds it to the installed TRL.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from swiftshell import stages
from swiftshell.recipe.suggest import nearest, shown

FILE = Path(stages.__file__).parent / "fields.json"

# Fields that swiftshell sets itself -> what to use instead (a parameter, or the catalogue key of the reason).
_MANAGED: dict[str, str] = {
    "output_dir": "recipe.managed_run",
    "resume_from_checkpoint": "recipe.managed_run",
    "do_train": "recipe.managed_run",
    "do_eval": "recipe.managed_run",
    "do_predict": "recipe.managed_run",
    "run_name": "recipe.managed_run",
    "save_strategy": "recipe.managed_run",
    "load_best_model_at_end": "recipe.managed_run",
    "report_to": "recipe.managed_run",
    "disable_tqdm": "recipe.managed_run",
    "push_to_hub": "recipe.managed_network",
    "hub_model_id": "recipe.managed_network",
    "hub_token": "recipe.managed_network",
    "hub_strategy": "recipe.managed_network",
    "trust_remote_code": "recipe.managed_code",
    "model_init_kwargs": "recipe.managed_loading",
    "use_cpu": "recipe.managed_loading",
    "remove_unused_columns": "recipe.managed_rows",
    "dataset_num_proc": "recipe.managed_rows",
    "dataset_kwargs": "recipe.managed_rows",
    "skip_prepare_dataset": "recipe.managed_rows",
    "dataloader_drop_last": "recipe.managed_rows",
    "auto_find_batch_size": "recipe.managed_rows",
    "sync_ref_model": "recipe.managed_reference",
    "ref_model_mixup_alpha": "recipe.managed_reference",
    "ref_model_sync_steps": "recipe.managed_reference",
    "seed": "recipe.managed_seed",
}
_KTO_MANAGED = {
    "train_sampling_strategy": "recipe.managed_rows",
    "group_by_length": "recipe.managed_rows",
    "per_device_eval_batch_size": "recipe.managed_rows",
}
_COVERED = {"bf16": "dtype", "fp16": "dtype", "bf16_full_eval": "dtype", "fp16_full_eval": "dtype",
            "eval_strategy": "eval_steps"}


@dataclass(frozen=True)
class Finding:
    """One thing to say about a field of `engine_args`."""

    name: str
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    at_key: bool = True
    warning: bool = False


@cache
def _load() -> dict[str, Any]:
    data: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return data


@cache
def fields(stage: str) -> dict[str, dict[str, Any]]:
    """Return a stage's TRL fields by name, each {"type", "default", "deprecated"?}; empty if it has none."""
    found: dict[str, dict[str, Any]] = _load()["stages"].get(stage, {}).get("fields", {})
    return found


def names(stage: str) -> list[str]:
    """Return the names of a stage's TRL fields that may be given through `engine_args`."""
    managed = {**_MANAGED, **(_KTO_MANAGED if stage == "kto" else {}), **_COVERED}
    return [name for name in fields(stage) if name not in managed]


def known_anywhere(name: str) -> bool:
    """Tell whether any stage's TRL configuration has this field."""
    return any(name in fields(stage) for stage in _load()["stages"])


def check(stage: str, args: Mapping[str, Any], typed: Collection[str]) -> Iterator[Finding]:
    """Yield what is wrong with a step's `engine_args`, or worth knowing.

    `typed` names the stage's own parameters.
    """
    known = fields(stage)
    if not known:
        return
    config, version = _load()["stages"][stage]["config"], _load()["versions"]["trl"]
    managed = {**_MANAGED, **(_KTO_MANAGED if stage == "kto" else {})}
    for name, value in args.items():
        if name in typed or name in _COVERED:
            yield Finding(name, "recipe.engine_arg_typed", {"found": name, "name": _COVERED.get(name, name)})
        elif name not in known:
            near = nearest(name, [*names(stage), *typed])
            facts = {"found": name, "config": config, "version": version}
            yield (Finding(name, "recipe.engine_arg_unknown", {**facts, "nearest": near}) if near
                   else Finding(name, "recipe.engine_arg_unknown_far", facts))
        elif name in managed:
            yield Finding(name, managed[name], {"found": name})
        else:
            if not _fits(known[name]["type"], value):
                yield Finding(name, "recipe.engine_arg_type", {"found": shown(value), "type": known[name]["type"]},
                              at_key=False)
            if known[name].get("deprecated"):
                yield Finding(name, "recipe.engine_arg_deprecated", {"found": name, "config": config,
                                                                     "version": version}, warning=True)


_PYTHON: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,),
                                        "list": (list,), "dict": (dict,), "None": (type(None),)}


def _fits(declared: str, value: Any) -> bool:
    """Tell whether a value fits a declared type such as `float | str | None`; types we do not know accept anything."""
    members = [part.strip() for part in declared.split("|")]
    if any(member not in _PYTHON for member in members):
        return True
    if isinstance(value, bool):
        return "bool" in members
    return any(isinstance(value, _PYTHON[member]) for member in members)
