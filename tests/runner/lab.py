"""Make, start and break runs of echo steps, and check the promises that must hold afterwards."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swiftshell.errors import SwiftshellError
from swiftshell.jobs import control, launch, reconcile
from swiftshell.jobs.reconcile import RunStatus
from swiftshell.run import artifact, identity
from swiftshell.run.crash import VARIABLE
from swiftshell.run.events import read_events
from swiftshell.run.files import read_json
from swiftshell.run.identity import Identity
from swiftshell.run.paths import RunPaths, StepPaths

PATIENCE_S = 60.0


def request(run_id: str, step: str, **fields: Any) -> dict[str, Any]:
    """A request as the planner writes it; keywords that are echo's parameters go there."""
    params = {k: fields.pop(k) for k in ("text", "ticks", "tick_s", "ending", "ignore_stop") if k in fields}
    return {"v": 1, "run": run_id, "step": step, "stage": "echo", "params": params, "seed": 1, "network": False,
            "resume": True, "publish": None, "restored_from": None, "python": None, "env": {}, "inputs": {}, **fields}


def make(workspace: Path, steps: dict[str, dict[str, Any]], name: str = "echo") -> RunPaths:
    """Create a run; a step's `after` names the step whose note it takes."""
    runs = workspace / "runs"
    run_id = launch.new_run_id(runs, name)
    numbers = {step: n for n, step in enumerate(steps, 1)}
    requests = {}
    for step, fields in steps.items():
        fields = dict(fields)
        after = fields.pop("after", None)
        requests[step] = request(run_id, step, **fields)
        if after:
            path = runs / run_id / "steps" / f"{numbers[after]:02d}-{after}" / "out" / "note"
            requests[step]["inputs"] = {"note": {"kind": "note", "path": str(path), "name": after, "options": {}}}
    return launch.create(runs, run_id, "schema: 1\nname: echo\n", {"v": 1, "name": name}, requests)


@contextmanager
def crashing_at(point: str | None) -> Iterator[None]:
    """Have every runner and worker started inside die at a point."""
    if point:
        os.environ[VARIABLE] = point
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)


def start(run: RunPaths, crash_at: str | None = None) -> None:
    """Start a run; a runner that dies before it answered is the wish of the test."""
    with crashing_at(crash_at):
        try:
            launch.start(run.root)
        except SwiftshellError as error:
            if crash_at is None or error.problems[0].code != "run.runner_ended":
                raise


def until(what: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Poll until something is true; fail with its name if it never is."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.02)
    raise AssertionError(f"it did not happen within {patience_s:.0f} s: {what}")


def settled(run: RunPaths) -> RunStatus:
    """Wait until neither a runner nor a worker of the run lives; return what the files say then."""
    def quiet() -> RunStatus | None:
        found = reconcile.status(run)
        return found if not found.supervised and found.status != "unsupervised" else None

    found: RunStatus = until(quiet)
    return found


def unsupervised_or_settled(run: RunPaths) -> RunStatus:
    """Wait until no runner lives."""
    def dead() -> RunStatus | None:
        found = reconcile.status(run)
        return None if found.supervised else found

    found: RunStatus = until(dead)
    return found


def resumed_to_end(run: RunPaths) -> RunStatus:
    """Resume once and wait for the end."""
    control.resume(run)
    return control.wait(run, PATIENCE_S)


def runner_pid(run: RunPaths) -> int:
    """The runner's process number."""
    return int(read_json(run.runner)["pid"])  # type: ignore[index]


def kill_runner(run: RunPaths) -> None:
    """SIGKILL the runner and wait until its lock is free."""
    who = Identity.from_json(read_json(run.runner) or {})
    os.kill(who.pid, signal.SIGKILL)
    until(lambda: not identity.alive(who) and not reconcile.status(run).supervised)


def worker(step: StepPaths, attempt: int = 1) -> Identity:
    """Wait for a worker's identity."""
    path = step.attempt(attempt).child
    until(path.exists)
    return Identity.from_json(read_json(path) or {})


def ticked(step: StepPaths, at_least: int) -> None:
    """Wait until the step has counted so far."""
    until(lambda: ticks(step)[-1:] and ticks(step)[-1] >= at_least)


def ticks(step: StepPaths) -> list[int]:
    """Every tick that was counted, in order, over all attempts."""
    return [int(e["step"]) for e in read_events(step.events)[0] if e["kind"] == "metric"]


def starts(step: StepPaths) -> list[int]:
    """The attempts whose worker came so far as to say so."""
    return [int(e["number"]) for e in read_events(step.events)[0] if e["kind"] == "attempt"]


def result(step: StepPaths) -> dict[str, Any]:
    """The step's result."""
    found = json.loads(step.result.read_text())
    assert isinstance(found, dict)
    return found


def assert_promises(run: RunPaths) -> None:
    """What no crash may break: no job without a record, no number used twice, results only with whole outputs."""
    for step in run.steps():
        for number in starts(step):
            attempt = step.attempt(number)
            assert attempt.intent.exists(), f"{attempt.root}: started without an intent"
            assert attempt.child.exists(), f"{attempt.root}: started without a record"
        assert len(starts(step)) == len(set(starts(step))), f"{step.root}: an attempt was started twice"
        if step.result.exists() and result(step)["result"] == "succeeded":
            for place in result(step)["outputs"].values():
                assert artifact.damaged(step.root / place, hashes=True) == []
            assert not list(step.root.glob("out.partial-*")), "a half-written output beside a good one"
        else:
            assert not step.out.exists() or not step.result.exists() or result(step)["result"] != "succeeded"
    assert not list(run.root.parent.glob(".new-*"))
