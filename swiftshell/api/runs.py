"""Runs: start, look, stop, resume. Fronts follow files and send requests; nothing here keeps a job alive."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem, fail
from swiftshell.jobs import control, launch, reconcile
from swiftshell.plan.model import Plan
from swiftshell.run.files import read_json_or_none
from swiftshell.run.paths import AttemptPaths, RunPaths
from swiftshell.run.workspace import Workspace, list_runs, open_workspace


def submit(plan: Plan) -> RunPaths:
    """Write the run directory and start its detached runner.

    The workspace becomes one here: looking and planning leave no trace in a folder.

    Raises:
        SwiftshellError: the directory cannot be written, or the runner did not come up.
    """
    open_workspace(plan.workspace)
    run = launch.create(plan.workspace / "runs", plan.run, plan.recipe_text, plan.as_json(), plan.requests())
    launch.start(run.root, wait=plan.wait)
    return run


def find_run(workspace: Workspace, text: str | None, *, live: bool = False) -> RunPaths:
    """Return a run by its id, by enough of it to be the only one, or the newest.

    With `live` (to stop or to watch) a nameless run is the one that is not over, and the newest only if all are.

    Raises:
        SwiftshellError: none or several fit; the nearest are named.
    """
    runs = list_runs(workspace).runs
    if not runs:
        raise fail("cli.no_runs", workspace=str(workspace.root))
    if not text:
        return (_only_live(runs) if live else None) or runs[0]
    ids = [r.id for r in runs]
    fits = [r for r in runs if r.id == text] or [r for r in runs if text in r.id]
    if len(fits) > 1:
        raise fail("cli.run_ambiguous", run=text, matches=", ".join(r.id for r in fits[:5]))
    if not fits:
        near = get_close_matches(text, ids, n=2, cutoff=0.3)
        raise fail("cli.run_unknown", run=text, workspace=str(workspace.root), nearest=", ".join(near or ids[:1]))
    return fits[0]


def _only_live(runs: list[RunPaths]) -> RunPaths | None:
    """Return the one run that is not over, or None; which of several is the person's to say."""
    found = [run for run in runs if reconcile.status(run).status != "over"]
    if len(found) > 1:
        raise fail("cli.several_live", matches=", ".join(r.id for r in found[:5]))
    return found[0] if found else None


def run_facts(run: RunPaths) -> dict[str, Any]:
    """Return everything a front shows about a run: state and result per step, problems, metrics, summaries."""
    status = reconcile.status(run)
    plan = read_json_or_none(run.plan)
    plan = plan if isinstance(plan, dict) else {}
    planned = {s.get("id"): s for s in plan.get("steps", []) if isinstance(s, dict)}
    return {"run": run.id, "name": plan.get("name", ""), "path": str(run.root), "status": status.status,
            "result": status.result, "command": plan.get("command", ""), "created": plan.get("created"),
            "steps": [_step_facts(s, planned.get(s.id, {})) for s in status.steps],
            "problems": [p.as_json() for p in control.problems_of(status)]}


def _step_facts(state: reconcile.StepStatus, planned: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": state.id, "stage": planned.get("stage", state.stage), "status": state.status, "result": state.result,
        "attempt": state.attempt, "started": state.started, "ended": state.ended, "duration_s": state.duration_s,
        "phase": state.phase, "progress": state.progress, "exit_code": state.exit_code,
        "problems": [p.as_json() for p in state.problems], "metrics": state.metrics, "summary": state.summary,
        "outputs": state.outputs, "restored_from": state.restored_from, "lineage": planned.get("lineage", ""),
        "log": state.log, "gpus": state.gpus, "waiting": _waiting(state),
    }


def _waiting(state: reconcile.StepStatus) -> dict[str, Any] | None:
    """Return why a queued step waits."""
    return state.message.as_json() if state.status == "queued" and state.message is not None else None


def runs_facts(workspace: Workspace, limit: int = 0) -> list[dict[str, Any]]:
    """Return every run, newest first, with its state."""
    runs = list_runs(workspace).runs
    return [run_facts(run) for run in (runs[:limit] if limit else runs)]


def live_runs(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the runs that are not over: waiting, running, or left by a runner that died."""
    return [f for f in runs_facts(workspace) if f["status"] != "over"]


def request_stop(run: RunPaths, how: control.How = "checkpoint") -> str:
    """Ask a run to stop: `checkpoint` saves first, `kill` does not. Returns `over` if there was nothing to stop."""
    return control.stop(run, how)


def resume(run: RunPaths, *, wait: bool = True) -> control.Resumed:
    """Continue a run that was stopped, failed or died, from the newest checkpoint that validates."""
    return control.resume(run, wait=wait)


def unfinished_like(workspace: Workspace, plan: Plan) -> RunPaths | None:
    """Return the newest run that was to do just what this plan does, is over and did not succeed."""
    wanted = [step.fingerprint for step in plan.steps]
    for run in list_runs(workspace).runs:
        record = read_json_or_none(run.plan)
        steps = record.get("steps", []) if isinstance(record, dict) else []
        if [s.get("fingerprint") for s in steps if isinstance(s, dict)] == wanted:
            found = reconcile.status(run)
            return run if found.status == "over" and found.result != "succeeded" else None
    return None


def log_of(run: RunPaths, step_id: str | None = None) -> AttemptPaths | None:
    """Return the attempt whose log a person means: the named step's, else the one that ran last."""
    candidates = [s for s in run.steps() if s.attempts() and (step_id is None or s.id == step_id)]
    if step_id is not None and not any(s.id == step_id for s in run.steps()):
        near = get_close_matches(step_id, [s.id for s in run.steps()], n=1, cutoff=0.3)
        raise fail("cli.run_unknown", run=step_id, workspace=run.id, nearest=near[0] if near else "-")
    return candidates[-1].attempts()[-1] if candidates else None


def notes_of(run: RunPaths) -> list[Problem]:
    """Return what the steps of a run noted and warned about, in order."""
    from swiftshell.run.events import read_events

    found = []
    for step in run.steps():
        events, _ = read_events(step.events)
        found += [Problem(e["code"], e.get("values", {}), severity="warning" if e["kind"] == "warning" else "note")
                  for e in events if e.get("kind") in ("note", "warning") and "code" in e]
    return found


def outputs_of(run: RunPaths, slot: str) -> Path | None:
    """Return the folder of the last output with this slot name, if it is there."""
    for step in reversed(run.steps()):
        result = read_json_or_none(step.result) or {}
        if slot in result.get("outputs", {}):
            return step.root.absolute() / str(result["outputs"][slot])
    return None
