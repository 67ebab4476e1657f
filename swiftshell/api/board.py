"""The board as facts: per stage the newest good output, what runs now, what is possible next and why the rest is not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swiftshell.errors import SwiftshellError
from swiftshell.plan import board as boards
from swiftshell.plan.board import Board, Entry
from swiftshell.plan.quick import Options, build
from swiftshell.run.files import read_json_or_none
from swiftshell.run.paths import RunPaths, StepPaths
from swiftshell.run.workspace import Workspace, list_runs
from swiftshell.stages.registry import PIPELINE

# One number that tells how a stage went, where no evaluation measured its model.
_TELLING = ("desirable_share", "train_loss", "top1_agreement", "max_abs_logit_difference", "prompts", "size_mib")


def board_facts(workspace: Workspace, lineage: str | None = None) -> dict[str, Any]:
    """Return the board of a lineage, by default of the one worked on last.

    Returns:
        `lineage`, `lineages`, `next` (the stage suggested, or None), `live` (runs that are not over) and `stages`: per
        stage `stage`, `newest` (with its `round`, for KTO and DPO), `number`, `running`, `possible`, `problem` (why it
        is not possible).
    """
    board = boards.read(workspace.runs)
    lineages = board.lineages()
    chosen = lineage if lineage in lineages else (lineages[0] if lineages else "")
    live = live_steps(workspace)
    shares = _shares(board, chosen)
    stages = [_stage(name, board, chosen, live, shares) for name in PIPELINE]
    return {"workspace": str(workspace.root), "lineage": chosen, "lineages": lineages, "live": live,
            "stages": stages, "next": _next(stages)}


def live_steps(workspace: Workspace) -> list[dict[str, Any]]:
    """Return what is at work in runs that are not over; runs whose own record says so are not looked at further."""
    found = []
    for run in list_runs(workspace).runs:
        state = read_json_or_none(run.state)
        if isinstance(state, dict) and state.get("status") == "over":
            continue
        found += _live(run)
    return found


def _live(run: RunPaths) -> list[dict[str, Any]]:
    from swiftshell.jobs import reconcile

    status = reconcile.status(run)
    if status.status == "over":
        return []
    active = [s for s in status.steps if s.status in ("starting", "running", "unsupervised", "unknown")]
    waiting = [s for s in status.steps if s.status in ("waiting", "queued")]
    return [{"run": run.id, "step": s.id, "stage": s.stage, "status": s.status, "phase": s.phase, "progress": s.progress}
            for s in active or waiting[:1]]


def _stage(name: str, board: Board, lineage: str, live: list[dict[str, Any]],
           shares: Mapping[str, float]) -> dict[str, Any]:
    newest = board.newest(name, lineage)
    return {"stage": name, "newest": _entry(newest), "number": _number(newest, shares),
            "running": next((step for step in live if step["stage"] == name), None), **_possible(name, board, lineage)}


def _entry(entry: Entry | None) -> dict[str, Any] | None:
    if entry is None:
        return None
    return {"id": entry.id, "name": str(entry.record.get("name", "")), "run": entry.run, "kind": entry.kind,
            "ended": entry.ended, "path": str(entry.path), "round": _round(entry)}


def _round(entry: Entry) -> int | None:
    """Return which round of KTO or DPO an output is; None for other stages and older records."""
    return (entry.record.get("rounds") or {}).get("number")


def _possible(stage: str, board: Board, lineage: str) -> dict[str, Any]:
    """Ask the planner itself; data that is not chosen yet is for the form to ask."""
    try:
        build(stage, board, Options(lineage=lineage or None))
    except SwiftshellError as error:
        problem = error.problems[0]
        if problem.code != "plan.data_missing":
            return {"possible": False, "problem": problem.as_json()}
    return {"possible": True, "problem": None}


def _next(stages: list[dict[str, Any]]) -> str | None:
    """Suggest the first possible stage after the one done last whose output is older than that, or missing."""
    if any(stage["running"] for stage in stages):
        return None  # what it makes may be what the next stage starts from
    ended = [str((stage["newest"] or {}).get("ended", "")) for stage in stages]
    last = max(range(len(stages)), key=lambda i: (ended[i], i)) if any(ended) else -1
    behind = stages[last + 1 :]
    missing = [s for s in stages if not s["newest"]]
    return next((str(s["stage"]) for s in (*behind, *missing) if s["possible"]), None)


def _number(entry: Entry | None, shares: Mapping[str, float]) -> dict[str, Any] | None:
    if entry is None:
        return None
    if str(entry.path) in shares:
        return {"metric": "desirable_share", "value": shares[str(entry.path)]}
    result = read_json_or_none(StepPaths(entry.step_root).result)
    known = {**((result or {}).get("summary") or {}), **((result or {}).get("metrics") or {})}
    return next(({"metric": name, "value": known[name]} for name in _TELLING
                 if isinstance(known.get(name), int | float)), None)


def _shares(board: Board, lineage: str) -> dict[str, float]:
    """Return the desirable share of every model that was evaluated, by its folder; the newest evaluation counts."""
    found: dict[str, float] = {}
    for entry in board.of("evaluate", lineage):
        step = StepPaths(entry.step_root)
        request, result = read_json_or_none(step.request), read_json_or_none(step.result)
        models = ((request or {}).get("inputs") or {}).get("models") or []
        measured = ((result or {}).get("summary") or {}).get("models") or []
        for model, facts in zip(models, measured, strict=False):
            share = (facts.get("metrics") or {}).get("desirable_share")
            if share and share[0] is not None and model.get("path"):
                found.setdefault(str(model["path"]), float(share[0]))
    return found
