"""Lay a step's parameters over the recipe's defaults and check them against its stage, every value with its origin."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from swiftshell.errors import Problem
from swiftshell.recipe import engine_args
from swiftshell.recipe.document import Mark
from swiftshell.recipe.suggest import OLD_NAMES, nearest, shown
from swiftshell.stages import registry
from swiftshell.stages.base import Stage
from swiftshell.stages.shared import OUT_OF_RANGE, Training, training_problems

ParamPath = tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """Where a value was written: `source` is "recipe", "defaults" or "flag"; `file` is the flag itself for a flag."""

    source: str
    file: str | None
    field: str
    key: Mark | None = None
    value: Mark | None = None

    def __str__(self) -> str:
        """Return it as plans store it: `recipe:12`, `defaults:5`, `flag`."""
        return f"{self.source}:{self.key.line}" if self.key else self.source


Locate = Callable[[ParamPath], Origin]


@dataclass
class Layers:
    """A step's parameters while they are put together; later values win, mappings are merged."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[ParamPath, Origin] = field(default_factory=dict)

    def put(self, path: ParamPath, value: Any, origin: Locate) -> None:
        """Set one value; a mapping is laid over an existing one, entry by entry."""
        home: Any = self.values
        for part in path[:-1]:
            home = home[part]
        if isinstance(value, dict):
            self._put_mapping(path, home, value, origin)
        else:
            home[path[-1]] = value
            self._forget(path)
            self.origins[path] = origin(path)

    def _put_mapping(self, path: ParamPath, home: dict[str, Any], value: Mapping[str, Any], origin: Locate) -> None:
        if not isinstance(home.get(path[-1]), dict):
            home[path[-1]] = {}
            self._forget(path)
        self.origins.setdefault(path, origin(path))
        for key, inner in value.items():
            self.put((*path, key), inner, origin)

    def _forget(self, path: ParamPath) -> None:
        for stale in [p for p in self.origins if p[: len(path)] == path]:
            del self.origins[stale]

    def origin(self, path: ParamPath) -> Origin | None:
        """Return where a value, or the nearest thing around it, was written."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origins:
                return self.origins[path[:end]]
        return None

    def sources(self) -> dict[str, str]:
        """Return every leaf's origin by its dotted name."""
        return {".".join(path): str(origin) for path, origin in self.origins.items()
                if not any(other[: len(path)] == path for other in self.origins if len(other) > len(path))}


@dataclass(frozen=True)
class _Fault:
    """One thing wrong with a parameter, before its place is known."""

    path: tuple[str | int, ...]
    code: str
    values: Mapping[str, Any]
    at_key: bool = False
    warning: bool = False


def check(stage: Stage, layers: Layers, field_name: str, fallback: Origin) -> list[Problem]:
    """Return everything wrong with a step's parameters.

    `field_name` is the dotted name of the step's parameters; `fallback` the place of what has no origin of its own.
    """
    faults = [*_finite(layers.values, ()), *_pydantic(stage, layers.values)]
    extra = layers.values.get("engine_args")
    if isinstance(extra, dict):
        faults += [_Fault(("engine_args", f.name), f.code, f.values, at_key=f.at_key, warning=f.warning)
                   for f in engine_args.check(stage.name, extra, stage.params.model_fields)]
    faults += _together(stage, layers.values) if not any(not fault.warning for fault in faults) else []
    return [_placed(fault, layers, field_name, fallback) for fault in faults]


def _together(stage: Stage, values: Mapping[str, Any]) -> Iterator[_Fault]:
    """Find values that are right each by itself and wrong together (full fine-tuning of a quantized model …)."""
    if issubclass(stage.params, Training):
        for problem in training_problems(stage.params.model_validate_json(json.dumps(values), strict=True)):
            path = tuple((problem.field_name or "").split(".")) if problem.field_name else ()
            yield _Fault(path, problem.code, problem.values, warning=problem.severity != "error")


def _placed(fault: _Fault, layers: Layers, field_name: str, fallback: Origin) -> Problem:
    names = tuple(str(part) for part in fault.path)
    origin = layers.origin(names) or fallback
    base = origin.field if origin.source == "defaults" else field_name
    mark = origin.key if fault.at_key else origin.value
    dotted = base + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in fault.path)
    return Problem(fault.code, fault.values, file=origin.file, line=mark.line if mark else None,
                   column=mark.column if mark else None, field_name=dotted,
                   severity="warning" if fault.warning else "error")


def _finite(node: Any, path: tuple[str | int, ...]) -> Iterator[_Fault]:
    """Find numbers that are no numbers; JSON and the checks below cannot hold them."""
    if isinstance(node, float) and not math.isfinite(node):
        yield _Fault(path, "recipe.param_not_finite", {"found": str(node)})
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _finite(value, (*path, key))
    elif isinstance(node, list):
        for i, value in enumerate(node):
            yield from _finite(value, (*path, i))


def _pydantic(stage: Stage, values: Mapping[str, Any]) -> list[_Fault]:
    """Validate strictly (no text taken for a number, no `true` for 1) and say what pydantic says in our words."""
    try:
        stage.params.model_validate_json(json.dumps(values), strict=True)
    except ValidationError as error:
        found: dict[tuple[str | int, ...], list[Any]] = {}
        for entry in error.errors(include_url=False):
            found.setdefault(_real_path(entry["loc"], values), []).append(entry)
        # Of a union such as `all-linear` or a list, a wrong item of the list says more than "not all-linear".
        inside = {path[:end] for path in found for end in range(1, len(path))}
        return [_fault(stage, path, entries, values) for path, entries in found.items()
                if not _is_not_finite(values, path) and path not in inside]
    return []


def _real_path(loc: Iterable[str | int], values: Any) -> tuple[str | int, ...]:
    """Drop the names of union members that pydantic puts into a location."""
    path: list[str | int] = []
    node: Any = values
    loc = list(loc)
    for i, part in enumerate(loc):
        if isinstance(node, dict) and (part in node or i == len(loc) - 1):
            path.append(part)
            node = node.get(part)
        elif isinstance(node, list) and isinstance(part, int) and part < len(node):
            path.append(part)
            node = node[part]
    return tuple(path)


def _is_not_finite(values: Any, path: tuple[str | int, ...]) -> bool:
    node = _value_at(values, path)
    return isinstance(node, float) and not math.isfinite(node)


def _value_at(node: Any, path: Iterable[str | int]) -> Any:
    for part in path:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return None
    return node


_TYPES = (("int", "int"), ("float", "float"), ("bool", "bool"), ("string", "str"), ("list", "list"), ("dict", "map"),
          ("model", "map"))
_BOUNDS = (("gt", ">"), ("ge", "≥"), ("lt", "<"), ("le", "≤"), ("multiple_of", "multiple of"))


def _fault(stage: Stage, path: tuple[str | int, ...], entries: list[Any], values: Mapping[str, Any]) -> _Fault:
    """Turn pydantic's entries for one value (several for a union) into one fault."""
    first = entries[0]
    found = shown(_value_at(values, path))
    kinds = {entry["type"] for entry in entries}
    if "extra_forbidden" in kinds:
        return _unknown(stage, path, values)
    if "missing" in kinds:
        return _Fault(path, "recipe.param_missing", {"name": str(path[-1]), "stage": stage.name})
    for entry in entries:
        context = entry.get("ctx") or {}
        bounds = [f"{sign} {context[key]:g}" for key, sign in _BOUNDS if isinstance(context.get(key), int | float)]
        if bounds:
            code, usual = _range_of(stage, path)
            return _Fault(path, code, {"found": found, "bounds": ", ".join(bounds), "usual": usual})
    choices = [c for e in entries if e["type"] in ("literal_error", "enum") for c in _choices(e)]
    types = [name for e in entries for prefix, name in _TYPES if e["type"].startswith(prefix)]
    if "bool" in types and choices:
        types, choices = [], ["true", "false", *choices]
    if types:
        code = f"recipe.param_{types[0]}" + ("_or" if choices else "")
        return _Fault(path, code, {"found": found, "choices": ", ".join(choices)})
    if choices:
        return _Fault(path, "recipe.choice", {"found": found, "choices": ", ".join(choices)})
    if "." in first["type"]:  # a stage's own validator raised PydanticCustomError("<catalogue key>", …)
        return _Fault(path, first["type"], {"found": found, **(first.get("ctx") or {})})
    reason = str((first.get("ctx") or {}).get("error", first["msg"]))
    return _Fault(path, "recipe.param_invalid", {"found": found, "reason": reason})


def _range_of(stage: Stage, path: tuple[str | int, ...]) -> tuple[str, str]:
    """Return the code of what a parameter's limits mean, where its field says it (`out_of_range`), and its default."""
    info = stage.params.model_fields.get(str(path[0])) if len(path) == 1 else None
    extra = info.json_schema_extra if info else None
    code = extra.get(OUT_OF_RANGE) if isinstance(extra, dict) else None
    return str(code or "recipe.param_range"), f"{info.default:g}" if info and code else ""


def _choices(entry: Any) -> list[str]:
    expected = str((entry.get("ctx") or {}).get("expected", ""))
    return re.findall(r"'([^']*)'", expected) or [expected]


def _unknown(stage: Stage, path: tuple[str | int, ...], values: Mapping[str, Any]) -> _Fault:
    """Name the parameter that was meant: an old name, an engine's own field, another stage's, or the nearest."""
    name = str(path[-1])
    known = _known_at(stage.params, path[:-1])
    facts = {"found": name, "stage": stage.name}
    if len(path) == 1:
        fields = engine_args.names(stage.name)
        if name in fields:
            return _Fault(path, "recipe.param_is_engine_arg", facts, at_key=True)
        ours = OLD_NAMES.get(name, "")
        if ours and ours.partition(".")[0] in known:
            return _Fault(path, "recipe.param_old_name", {**facts, "name": ours}, at_key=True)
        owners = [s for s in registry.PIPELINE if s != stage.name and name in registry.get(s).params.model_fields]
        if owners:
            return _Fault(path, "recipe.param_other_stage", {**facts, "stages": ", ".join(owners)}, at_key=True)
        near = nearest(name, known)
        if not near and (field_near := nearest(name, fields)):
            return _Fault(path, "recipe.unknown_param", {**facts, "nearest": f"engine_args.{field_near}"}, at_key=True)
    else:
        near = nearest(name, known)
    if near:
        return _Fault(path, "recipe.unknown_param", {**facts, "nearest": near}, at_key=True)
    return _Fault(path, "recipe.unknown_param_far", {**facts, "known": ", ".join(known) or "-"}, at_key=True)


def _known_at(model: type[BaseModel], path: Iterable[str | int]) -> list[str]:
    """Return the field names of a (nested) parameter model."""
    for part in path:
        info = model.model_fields.get(str(part))
        inner = info.annotation if info else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        model = inner
    return list(model.model_fields)
