"""Apply `--set key=value` and `--set STEP.key=value` to a recipe; the whole recipe is checked again afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swiftshell.errors import Problem, SwiftshellError
from swiftshell.recipe.document import parse_value
from swiftshell.recipe.model import Recipe
from swiftshell.recipe.parameters import Layers, Origin, ParamPath
from swiftshell.recipe.suggest import nearest
from swiftshell.stages.base import Stage

Steps = Sequence[tuple[str, Stage | None]]  # the recipe's step ids and stages (None: unknown)


@dataclass(frozen=True)
class Override:
    """One `--set` argument: a parameter of a step, set to a value."""

    text: str
    step: str
    path: ParamPath
    value: Any

    def apply(self, layers: Layers) -> None:
        """Lay the value over a step's parameters."""
        nested = self.value
        for part in reversed(self.path[1:]):
            nested = {part: nested}
        layers.put(self.path[:1], nested, self._origin)

    def _origin(self, _path: ParamPath) -> Origin:
        return Origin("flag", f"--set {self.text}", "")


def apply_overrides(recipe: Recipe, settings: Sequence[str]) -> Recipe:
    """Return the recipe with `key=value` settings on top of those it already has; a later one wins.

    Values are YAML (`5e-6`, `true`, `[q_proj, v_proj]`), keys dotted (`lora.r`, `sft.lora.r`).

    Raises:
        SwiftshellError: with everything that is wrong with the settings, or with the recipe after them.
    """
    from swiftshell.recipe.load import parse_recipe

    return parse_recipe(recipe.text, recipe.file, base_folder=recipe.base_folder,
                        overrides=(*recipe.overrides, *settings))


def read_overrides(settings: Sequence[str], steps: Steps) -> tuple[list[Override], list[Problem]]:
    """Split settings into step, parameter and value; what cannot be split is a problem."""
    overrides: list[Override] = []
    problems: list[Problem] = []
    for text in settings:
        found = _read(text, steps)
        if isinstance(found, Override):
            overrides.append(found)
        else:
            problems.append(found)
    return overrides, problems


def _read(text: str, steps: Steps) -> Override | Problem:
    place = f"--set {text}"
    key, equals, raw = text.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        return Problem("recipe.set_form", {"found": text}, file=place)
    try:
        value = parse_value(raw)
    except SwiftshellError:
        return Problem("recipe.set_value", {"found": raw}, file=place)
    ids = [step_id for step_id, _stage in steps]
    by_stage = [step_id for step_id, stage in steps if stage and stage.name == path[0]]
    owner = path[0] if path[0] in ids else by_stage[0] if len(by_stage) == 1 else None
    if owner is not None and len(path) > 1:
        return Override(text, owner, path[1:], value)
    if len(steps) == 1:
        return Override(text, ids[0], path, value)
    return _which_step(text, place, path, steps)


def _which_step(text: str, place: str, path: ParamPath, steps: Steps) -> Problem:
    """Say which step was meant, or could be."""
    having = [step_id for step_id, stage in steps if stage and path[0] in stage.params.model_fields]
    rest = ".".join(path)
    if having:
        choices = ", ".join(f"{step_id}.{rest}" for step_id in having)
        return Problem("recipe.set_which", {"found": rest, "choices": choices}, file=place)
    ids = [step_id for step_id, _stage in steps]
    near = nearest(path[0], ids)
    if near and len(path) > 1:
        return Problem("recipe.set_step", {"found": path[0], "nearest": near}, file=place)
    return Problem("recipe.set_step_far", {"found": path[0], "known": ", ".join(ids)}, file=place)
