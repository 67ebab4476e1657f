"""End an attempt: exit record, output in place, published, result. Each step is repeatable, and result.json is last.

A runner killed anywhere in here leaves records from which the next one does the rest and nothing twice.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.errors import EXIT_STAGE, EXIT_USAGE
from swiftshell.run import artifact
from swiftshell.run.crash import crash_point
from swiftshell.run.files import read_json_or_none, sync_folder, write_json
from swiftshell.run.lock import Lock
from swiftshell.run.paths import AttemptPaths, RunPaths, StepPaths
from swiftshell.run.verdict import FAILED, SUCCEEDED, judge, unsound
from swiftshell.runner import publish
from swiftshell.runner.records import Records, State, StopRequests, now, problem, say

_ADOPTED_OUTPUT_WAIT_S = 5.0


@dataclass(frozen=True)
class Runner:
    """What every part of the runner works with."""

    run: RunPaths
    records: Records
    state: State
    stop: StopRequests
    lock: Lock
    cwd: Path
    wait: bool = True  # for GPUs; else a step that cannot have them now is refused


def record_exit(runner: Runner, attempt: AttemptPaths, facts: dict[str, Any]) -> dict[str, Any]:
    """Write `exit.json`, waiting for space if need be, and return the facts."""
    child = read_json_or_none(attempt.child)
    # who adopts a worker knows its end only; when it began stands in the child's record
    end = {**facts, "started": facts.get("started") or (child or {}).get("started")}
    crash_point("worker.exited")
    runner.records.write(attempt.exit, end)
    crash_point("exit.written")
    return end


def finish(runner: Runner, step: StepPaths, attempt: AttemptPaths, request: dict[str, Any], end: dict[str, Any],
           output: Lock | None) -> str:
    """Put the output in place, publish it, write `result.json`; return the result."""
    found = judge(step, attempt, end, read_json_or_none(attempt.outcome))
    if found["result"] == SUCCEEDED:
        found.update(_place(runner, step, attempt, found))
        if found["result"] == SUCCEEDED and request.get("publish"):
            found.update(publish_outputs(runner, step, request, found["outputs"], output))
    else:
        found["outputs"] = _set_aside(runner, step, attempt, found["outputs"])
    return write_result(runner, step, {
        **found, "attempt": attempt.number, "started": end.get("started"), "ended": end.get("ended"),
        "duration_s": end.get("duration_s"),
    })


def write_result(runner: Runner, step: StepPaths, facts: dict[str, Any]) -> str:
    """Write `result.json`, the last word about a step, and say it in `state.json`."""
    empty = {"v": 1, "result": FAILED, "exit_code": 0, "attempt": None, "started": None, "ended": now(),
             "duration_s": None, "metrics": {}, "summary": {}, "problems": [], "outputs": {}, "restored_from": None}
    result = {**empty, **facts}
    runner.records.write(step.result, result)
    crash_point("result.written")
    runner.state.step(step.id, status="over", result=result["result"], attempt=result["attempt"])
    say(f"step {step.id}: {result['result']}")
    return str(result["result"])


def refuse(runner: Runner, step: StepPaths, found: dict[str, Any] | list[dict[str, Any]],
           exit_code: int = EXIT_USAGE) -> str:
    """End a step that could not be started."""
    problems = found if isinstance(found, list) else [found]
    return write_result(runner, step, {"result": FAILED, "exit_code": exit_code, "problems": problems, "started": now(),
                                       "duration_s": 0.0})


def _place(runner: Runner, step: StepPaths, attempt: AttemptPaths, found: dict[str, Any]) -> dict[str, Any]:
    """Rename the attempt's output to `out/` once it is durable; return what that changes in the result."""
    partial = step.partial(attempt.number)
    if partial.exists():
        if wrong := unsound(partial, found["outputs"]):
            return _damaged(step, wrong)
        runner.records.insist(lambda: _rename(partial, step), str(step.out))
    elif wrong := unsound(step.out, found["outputs"]):
        return _damaged(step, wrong)
    crash_point("output.renamed")
    return {}


def _rename(partial: Path, step: StepPaths) -> None:
    for path in partial.rglob("*"):
        if path.is_file() and not path.is_symlink():
            publish.sync_file(path)
        elif path.is_dir():
            sync_folder(path)
    sync_folder(partial)
    if step.out.is_symlink():
        step.out.unlink()
    elif step.out.exists():  # links to an output that was to be restored and is gone, or an output nobody vouches for
        aside = next(p for n in range(1, 1000) if not (p := step.root / f"out.replaced-{n:03d}").exists())
        os.rename(step.out, aside)
    os.rename(partial, step.out)
    sync_folder(step.root)


def _damaged(step: StepPaths, wrong: list[str]) -> dict[str, Any]:
    names = ", ".join(wrong[:5]) + (f" (+{len(wrong) - 5})" if len(wrong) > 5 else "")
    return {"result": FAILED, "exit_code": EXIT_STAGE, "outputs": {},
            "problems": [problem("run.output_damaged", step=step.id, files=names)]}


def publish_outputs(runner: Runner, step: StepPaths, request: dict[str, Any], outputs: dict[str, str],
                    output: Lock | None) -> dict[str, Any]:
    """Copy the outputs to where the user wants them; return what that changes in the result.

    A publication that fails makes the step fail, but its output stays in `out/`, and resuming only publishes again.
    """
    target, run = Path(request["publish"]), runner.run.id
    held: Lock | dict[str, Any] = output or publish.lock_output(target, run, step.id, wait_s=_ADOPTED_OUTPUT_WAIT_S)
    if isinstance(held, dict):
        return {"result": FAILED, "exit_code": EXIT_USAGE, "problems": [held]}
    try:
        sources = {slot: step.root / place for slot, place in outputs.items()}
        found = publish.publish(target, sources, run, step.id)
    finally:
        if output is None:
            held.close()
    if found is None:
        return {"published": str(target)}
    return {"result": FAILED, "exit_code": EXIT_USAGE, "problems": [found]}


def _set_aside(runner: Runner, step: StepPaths, attempt: AttemptPaths, outputs: dict[str, str]) -> dict[str, str]:
    """Keep the output of a gate that said no as `out.rejected-NNN`; remove what is merely half written."""
    partial, rejected = step.partial(attempt.number), step.root / f"out.rejected-{attempt.number:03d}"
    if outputs and partial.exists() and not unsound(partial, outputs):
        runner.records.insist(lambda: os.rename(partial, rejected), str(rejected))
    drop_leftovers(step, attempt)
    if not outputs or not rejected.exists():
        return {}
    return {slot: f"{rejected.name}/{place.removeprefix('out/')}" for slot, place in outputs.items()}


def drop_leftovers(step: StepPaths, attempt: AttemptPaths) -> None:
    """Remove an attempt's half-written output and scratch; checkpoints stay."""
    for folder in (step.partial(attempt.number), step.root / f"work-{attempt.number:03d}"):
        shutil.rmtree(folder, ignore_errors=True)


def restore(runner: Runner, step: StepPaths, request: dict[str, Any]) -> str | None:
    """Point this step at an equal step's output that is still whole; return None if it is not, so that the step runs.

    `out/<slot>` become links, so that later steps find their input at the usual place either way.
    """
    source = StepPaths(Path(request["restored_from"]))
    earlier = read_json_or_none(source.result)
    if not isinstance(earlier, dict) or earlier.get("result") != SUCCEEDED:
        return None
    outputs = {slot: (source.root / place).resolve() for slot, place in (earlier.get("outputs") or {}).items()}
    if any(artifact.damaged(folder) for folder in outputs.values()):
        say(f"step {step.id}: the output to restore at {source.root} is gone or damaged; running the step")
        return None
    runner.records.insist(lambda: _link(step, outputs), str(step.out))
    crash_point("output.renamed")
    found: dict[str, Any] = {"result": SUCCEEDED, "exit_code": 0}
    if request.get("publish"):
        found.update(publish_outputs(runner, step, request, {slot: str(path) for slot, path in outputs.items()}, None))
    keep = {key: earlier.get(key) or {} for key in ("metrics", "summary")}
    return write_result(runner, step, {**keep, "started": now(), "duration_s": 0.0, **found,
                                       "outputs": {slot: str(path) for slot, path in outputs.items()},
                                       "restored_from": str(source.root)})


def _link(step: StepPaths, outputs: dict[str, Path]) -> None:
    step.out.mkdir(exist_ok=True)
    for slot, path in outputs.items():
        link = step.out / slot
        if link.is_symlink():
            link.unlink()
        link.symlink_to(os.path.relpath(path, step.out))
    sync_folder(step.out)


def close_attempt(runner: Runner, attempt: AttemptPaths, result: dict[str, Any]) -> None:
    """Give an attempt a result of its own: the step goes on with a new attempt."""
    runner.records.insist(lambda: write_json(attempt.result, {"v": 1, "attempt": attempt.number, **result}),
                          str(attempt.result))
