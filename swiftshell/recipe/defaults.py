"""Lay the recipe's `defaults` under each step whose stage has the parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swiftshell.recipe import engine_args
from swiftshell.recipe.checking import Checker
from swiftshell.recipe.parameters import Layers, Origin, ParamPath
from swiftshell.recipe.suggest import OLD_NAMES, nearest
from swiftshell.stages import registry
from swiftshell.stages.base import Stage


class Defaults:
    """The `defaults` section; what no step can use is recorded when it is read."""

    def __init__(self, checker: Checker, value: Any, stages: Sequence[Stage]) -> None:
        self._checker = checker
        self._values = checker.mapping(("defaults",), value)
        names = {name for stage in stages for name in stage.params.model_fields}
        for name in self._values:
            if name not in names and stages:
                self._unused(name, names)

    def apply(self, stage: Stage, layers: Layers) -> None:
        """Put the defaults that this stage knows into a step's parameters."""
        for name, value in self._values.items():
            if name not in stage.params.model_fields:
                continue
            if name == "engine_args" and isinstance(value, dict):
                known = engine_args.fields(stage.name)
                # A field of one trainer is no mistake in the others' steps; a field of none is one in all.
                value = {k: v for k, v in value.items() if k in known or not engine_args.known_anywhere(k)}
            layers.put((name,), value, self._origin)

    def _origin(self, path: ParamPath) -> Origin:
        where = ("defaults", *path)
        document = self._checker.document
        return Origin("defaults", document.file, "defaults", document.key_mark(where), document.value_mark(where))

    def _unused(self, name: str, names: set[str]) -> None:
        path = ("defaults", name)
        owners = [s for s in registry.names() if name in registry.get(s).params.model_fields]
        near = OLD_NAMES.get(name, "") if OLD_NAMES.get(name, "").partition(".")[0] in names else nearest(name, names)
        if owners:
            self._checker.add(path, "recipe.default_unused", key=True, severity="warning", found=name,
                              stages=", ".join(owners))
        elif any(name in engine_args.fields(s) for s in registry.PIPELINE):
            self._checker.add(path, "recipe.default_engine_arg", key=True, found=name)
        elif near:
            self._checker.add(path, "recipe.default_unknown", key=True, found=name, nearest=near)
        else:
            self._checker.add(path, "recipe.default_unknown_far", key=True, found=name)
