"""Go through a run's steps in order, and run those that are not over."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path
from typing import Any

from swiftshell.errors import EXIT_NO_RESOURCES
from swiftshell.run import identity
from swiftshell.run.crash import crash_point
from swiftshell.run.files import read_record
from swiftshell.run.lock import Lock
from swiftshell.run.paths import AttemptPaths, StepPaths
from swiftshell.run.request import needs, read_request
from swiftshell.run.verdict import CANCELLED, FAILED, SUCCEEDED, TIMED_OUT
from swiftshell.runner import publish
from swiftshell.runner.claim import Reservation, claim, strangers_every_s
from swiftshell.runner.finish import Runner, finish, record_exit, refuse, restore
from swiftshell.runner.records import problem, say
from swiftshell.runner.settle import settle
from swiftshell.runner.start import command, start_worker
from swiftshell.runner.strangers import Strangers
from swiftshell.runner.watch import Child, watch

_WORST_FIRST = (FAILED, "lost", TIMED_OUT, CANCELLED)


def run_steps(runner: Runner) -> str:
    """Bring every step that can be to its end; return the run's result.

    A step that needs the output of one that did not succeed is not started (`skipped` in the views); the others are.
    A cancelled step ends the run: what comes after it waits for `resume`.

    Raises:
        ValueError: a record cannot be read, so nothing may be started on top of it.
    """
    bad: dict[str, str] = {}
    steps = runner.run.steps()
    for number, step in enumerate(steps):
        result = _step(runner, step, steps[:number], bad)
        if result == CANCELLED:
            bad[step.id] = CANCELLED
            break
        if result != SUCCEEDED:
            bad[step.id] = result
    return next((r for r in _WORST_FIRST if r in bad.values()), SUCCEEDED)


def _step(runner: Runner, step: StepPaths, earlier: list[StepPaths], bad: dict[str, str]) -> str:
    """Return a step's result; `skipped` if it needs what failed, `cancelled` also if a stop came before its start."""
    done = read_record(step.result)
    if done is not None:
        runner.state.step(step.id, status="over", result=done.get("result"), attempt=done.get("attempt"))
        return str(done.get("result"))
    try:
        request = read_request(step)
    except ValueError as error:
        return refuse(runner, step, problem("run.request_unreadable", file=step.request, reason=str(error)))
    if blocked := [name for name in needs(request, earlier) if name in bad]:
        say(f"step {step.id}: not started, it needs {', '.join(blocked)}")
        runner.state.step(step.id, status="over", result="skipped", needs=blocked)
        return "skipped"
    crash_point("step.chosen")
    if request.get("restored_from") and not step.attempts() and (result := restore(runner, step, request)):
        return result
    if result := settle(runner, step, request):
        return result
    if runner.stop.pending():
        runner.state.step(step.id, status="waiting", result=None)
        return CANCELLED
    return _attempt(runner, step, request)


def _attempt(runner: Runner, step: StepPaths, request: dict[str, Any]) -> str:
    """Check what stands in the way, then make one attempt with the output lock held."""
    python = request.get("python")
    if python and not os.access(python, os.X_OK):
        return refuse(runner, step, problem("run.python_missing", path=python, stage=request.get("stage")),
                      EXIT_NO_RESOURCES)
    output: Lock | None = None
    if request.get("publish"):
        target = Path(request["publish"])
        held = publish.lock_output(target, runner.run.id, step.id)
        if isinstance(held, dict):
            return refuse(runner, step, held)
        output = held
        if found := publish.taken(target, runner.run.id, step.id):
            output.close()
            return refuse(runner, step, found)
        crash_point("output.locked")
    try:
        return _reserved(runner, step, request, output)
    finally:
        if output is not None:
            output.close()


def _reserved(runner: Runner, step: StepPaths, request: dict[str, Any], output: Lock | None) -> str:
    """Wait for the step's GPUs, if it needs any, and do the work with them held."""
    reserved = claim(runner, step, request)
    if reserved is None:  # a stop came first
        runner.state.step(step.id, status="waiting", result=None, waiting=None)
        return CANCELLED
    if isinstance(reserved, list):
        return refuse(runner, step, reserved, EXIT_NO_RESOURCES)
    try:
        return _work(runner, step, request, output, reserved)
    finally:
        reserved.close()


def _work(runner: Runner, step: StepPaths, request: dict[str, Any], output: Lock | None, reserved: Reservation) -> str:
    """Start a worker, follow it, finish."""
    attempt = _new_attempt(step)
    runner.state.step(step.id, status="starting", result=None, attempt=attempt.number)
    keep = (*((output.fd,) if output is not None else ()), *reserved.fds)
    what = command(step, attempt, request, reserved.env, runner.cwd, keep, (runner.lock.fd,))
    facts = {"run": runner.run.id, "step": step.id, **reserved.facts()}
    try:
        pid = start_worker(attempt, what, facts)
    except OSError as error:
        say(f"step {step.id}: could not be started: {error}")
        code = "run.disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "run.not_started"
        found = problem(code, step=step.id, path=str(step.root), reason=error.strerror or str(error),
                        log=str(runner.run.runner_log))
        return refuse(runner, step, found, EXIT_NO_RESOURCES)
    reserved.started(identity.of(pid))
    say(f"step {step.id}: attempt {attempt.number}, PID {pid}")
    runner.state.step(step.id, status="running")
    crash_point("worker.watched")
    strangers = Strangers(step, reserved.grant, strangers_every_s())
    end = record_exit(runner, attempt, watch(Child(pid), runner.stop, request, time.time(), strangers.look))
    return finish(runner, step, attempt, request, end, output)


def _new_attempt(step: StepPaths) -> AttemptPaths:
    """Make the next attempt's folder; numbers are never used twice."""
    made = step.attempts()
    attempt = step.attempt(made[-1].number + 1 if made else 1)
    attempt.root.mkdir(parents=True)
    crash_point("attempt.made")
    return attempt
