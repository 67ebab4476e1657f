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
from swiftshell.stages.shared import REFUSED_ARGS

FILE = Path(stages.__file__).parent / "fields.json"

# Fields of which a parameter of ours is the other name.
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
    return [name for name in fields(stage) if name not in REFUSED_ARGS and name not in _COVERED]


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
    for name, value in args.items():
        if name in typed or name in _COVERED:
            yield Finding(name, "recipe.engine_arg_typed", {"found": name, "name": _COVERED.get(name, name)})
        elif name in REFUSED_ARGS:
            yield Finding(name, REFUSED_ARGS[name], {"name": name})
        elif name not in known:
            near = nearest(name, [*names(stage), *typed])
            facts = {"found": name, "config": config, "version": version}
            yield (Finding(name, "recipe.engine_arg_unknown", {**facts, "nearest": near}) if near
                   else Finding(name, "recipe.engine_arg_unknown_far", facts))
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
