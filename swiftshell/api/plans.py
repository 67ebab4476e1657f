"""Plan: from a stage name, a recipe file or a recipe as data to exactly what will run. Changes nothing on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem, SwiftshellError, fail
from swiftshell.plan import board as boards
from swiftshell.plan.model import Plan
from swiftshell.plan.quick import ROUNDS, Options, build
from swiftshell.plan.resolve import Resolver
from swiftshell.run.workspace import Workspace
from swiftshell.stages import registry

_FLAGS = {"model": "--model", "policy": "--policy", "reference": "--reference", "dataset": "--dataset",
          "data": "--data",
          "eval_data": "--eval-data", "lineage": "--lineage", "continue_": "--continue", "replay": "--replay",
          "output_dir": "--out",
          "columns": "--column"}


def plan_target(workspace: Workspace, target: str, options: Options | None = None, *, sets: Sequence[str] = (),
                fresh: bool = False, gpus: int | None = None, priority: str = "normal") -> Plan:
    """Plan a stage (inputs from the board) or a recipe (a file, or a shipped recipe's name).

    `gpus` replaces how many GPUs each step that uses any is given; `priority` is its place among those who wait.

    Raises:
        SwiftshellError: everything that is wrong with it, at once (exit code 2).
    """
    options = options or Options()
    if target in registry.names():
        return plan_stage(workspace, target, options, sets=sets, fresh=fresh, gpus=gpus, priority=priority)
    from swiftshell.recipe.catalog import find
    from swiftshell.recipe.load import load_recipe

    path = find(target)
    if path is None:
        from swiftshell.recipe.catalog import shipped

        known = [*registry.PIPELINE, *(r.name for r in shipped())]
        near = get_close_matches(target, known, n=1, cutoff=0.4)
        raise fail("plan.recipe_not_found" if near else "plan.recipe_not_found_far", name=target,
                   stages=" ".join(registry.PIPELINE), nearest=near[0] if near else "")
    _refuse_flags(options)
    recipe = load_recipe(path)
    return plan_recipe(workspace, recipe, sets=sets, fresh=fresh, command=f"swiftshell run {target}",
                       seed=None if options.seed == Options().seed else options.seed, gpus=gpus, priority=priority)


def plan_stage(workspace: Workspace, stage: str, options: Options, *, sets: Sequence[str] = (),
               fresh: bool = False, gpus: int | None = None, priority: str = "normal") -> Plan:
    """Plan one stage with its inputs chosen from the workspace's board."""
    from swiftshell.recipe.load import recipe_from_mapping

    board = boards.read(workspace.runs)
    if options.continue_ and not options.replay and _asks_replay(sets, options.params):
        options = replace(options, replay=ROUNDS)
    quick = build(stage, board, options)
    recipe = recipe_from_mapping(quick.recipe)
    command = "swiftshell run " + " ".join([stage, *_flags(options)])
    return plan_recipe(workspace, recipe, sets=sets, fresh=fresh, command=command, board=board, whys=quick.whys,
                       lineage=quick.lineage, gpus=gpus, priority=priority)


def _asks_replay(sets: Sequence[str], params: Mapping[str, Any]) -> bool:
    """Tell whether a replay_ratio above 0 was set: in a further round that asks for the rows of the earlier ones."""
    given = [text.partition("=")[2] for text in sets if text.partition("=")[0].strip() == "replay_ratio"]
    value = given[-1].strip() if given else params.get("replay_ratio", 0)
    try:
        return float(value) > 0
    except (TypeError, ValueError):
        return False  # the check of the setting says what is wrong with it


def plan_recipe(workspace: Workspace, recipe: Any, *, sets: Sequence[str] = (), fresh: bool = False, command: str = "",
                board: boards.Board | None = None, whys: Mapping[str, Any] | None = None, lineage: str = "",
                notes: Sequence[Problem] = (), seed: int | None = None, gpus: int | None = None,
                priority: str = "normal") -> Plan:
    """Plan a checked recipe, with `--set` overrides applied."""
    from swiftshell.api.gpus import demand, outlook
    from swiftshell.jobs.launch import new_run_id

    if sets:
        from swiftshell.recipe.override import apply_overrides

        recipe = apply_overrides(recipe, sets)
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    run = new_run_id(workspace.runs, recipe.name)
    found = board or boards.read(workspace.runs)
    plan = Resolver(recipe, workspace.root, run, found, whys=whys, lineage=lineage, fresh=fresh).plan()
    plan.command = " ".join([command or f"swiftshell run {recipe.file}", *(f"--set {_quoted(s)}" for s in sets),
                             *(["--fresh"] if fresh else []), *([] if gpus is None else [f"--gpus {gpus}"]),
                             *([] if priority == "normal" else [f"--priority {priority}"]), "--yes"])
    demand(plan, gpus, priority)
    why_wait = outlook(plan)
    plan.notes = [*notes, *plan.notes, *([why_wait] if why_wait is not None else [])]
    return plan


def _refuse_flags(options: Options) -> None:
    """A recipe names its own inputs: a flag that would choose one is an error, never ignored."""
    plain = Options()
    used = [flag for name, flag in _FLAGS.items() if getattr(options, name) != getattr(plain, name)]
    if used:
        raise SwiftshellError(Problem("plan.options_ignored", {"flags": " ".join(used)}))


def _flags(options: Options) -> list[str]:
    """Return the command line's flags that stand for these options."""
    found: list[str] = []
    plain = Options()
    for name, flag in _FLAGS.items():
        value = getattr(options, name)
        if value == getattr(plain, name):
            continue
        if isinstance(value, bool) or (name == "replay" and value == ROUNDS):
            found.append(flag)
        elif isinstance(value, dict):
            found += [f"{flag} {k}={v}" for k, v in value.items()]
        else:
            found.append(f"{flag} {_quoted(str(value))}")
    found += [f"--set {_quoted(f'{k}={v}')}" for k, v in options.params.items() if not isinstance(v, dict)]
    if options.seed != plain.seed:
        found.append(f"--seed {options.seed}")
    return found


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def recipe_path(target: str) -> Path | None:
    """Return the file of a recipe named by path or by its shipped name."""
    from swiftshell.recipe.catalog import find

    return find(target)
