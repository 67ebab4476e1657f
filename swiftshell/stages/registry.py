"""Find stages by name: the shipped ones by convention, third-party ones by the entry point group `swiftshell.stages`.

A stage lives in `swiftshell/stages/<name>.py` as `STAGE`; nothing else lists it, except the pipeline's order here.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftshell.errors import fail

if TYPE_CHECKING:
    from swiftshell.stages.base import Stage

# The order of the pipeline, as the board and the menu show it.
PIPELINE = ("download", "sft", "kto", "dpo", "merge", "infer", "quantize", "evaluate")
_NOT_STAGES = {"__init__", "base", "kinds", "registry", "shared", "fields", "guard"}


@cache
def names() -> tuple[str, ...]:
    """Return every stage's name: the pipeline first, then the others (echo, third-party) in alphabetical order."""
    here = {p.stem for p in Path(__file__).parent.glob("*.py")} - _NOT_STAGES
    return (*PIPELINE, *sorted((here | set(_third_party())) - set(PIPELINE)))


@cache
def get(name: str) -> Stage:
    """Return a stage.

    Raises:
        SwiftshellError: no stage has this name; the nearest one is named.
    """
    if name not in names():
        from difflib import get_close_matches

        near = get_close_matches(name, names(), n=1)
        raise fail("core.stage_unknown", stage=name, nearest=near[0] if near else "", stages=", ".join(PIPELINE))
    if name in _third_party():
        stage: Stage = _third_party()[name].load()
        return stage
    found: Stage = import_module(f"swiftshell.stages.{name}").STAGE
    return found


@cache
def _third_party() -> dict[str, Any]:
    from importlib.metadata import entry_points

    return {e.name: e for e in entry_points(group="swiftshell.stages")}
