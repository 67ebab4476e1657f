"""Stop, resume and follow a run. Fronts ask; the run's lock decides who may change anything."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swiftshell.errors import EXIT_FAILURE, Problem, SwiftshellError, fail
from swiftshell.jobs import launch, reconcile
from swiftshell.jobs.reconcile import RunStatus, StepStatus
from swiftshell.run import checkpoints, identity, lock
from swiftshell.run.events import read_events
from swiftshell.run.files import read_json_or_none, sync_folder, write_json
from swiftshell.run.paths import RunPaths, StepPaths
from swiftshell.run.verdict import SUCCEEDED

How = Literal["checkpoint", "kill"]
FOLLOW_S = 0.15
_LOOK_S = 0.6

OnEvent = Callable[[str, dict[str, Any]], None]  # step id ("" for the run), event


def stop(run: RunPaths, how: How, by: str = "") -> Literal["requested", "signalled", "over"]:
    """Ask a run to stop: `checkpoint` saves first, `kill` does not. A kill that was asked for is never taken back.

    Returns:
        `requested`: its runner will see to it. `signalled`: the runner is dead, so its worker was signalled here.
        `over`: nothing runs.

    Raises:
        SwiftshellError: the worker belongs to someone else, or the request cannot be written.
    """
    found = reconcile.status(run)
    if found.supervised:
        _request(run, how, by)
        return "requested"
    step = next((s for s in found.steps if s.status == "unsupervised"), None)
    if step is None or step.worker is None or step.attempt is None:
        return "over"
    if not identity.recorded_by_us(step.paths.attempt(step.attempt).child):
        raise fail("run.not_ours", run=run.id, pid=step.worker.pid)
    _request(run, how, by)
    return "signalled" if _signal(step, how) else "over"


def _request(run: RunPaths, how: How, by: str) -> None:
    earlier = read_json_or_none(run.stop_request)
    if isinstance(earlier, dict) and earlier.get("how") == "kill":
        return
    try:
        write_json(run.stop_request, {"v": 1, "how": how, "by": by or f"uid {os.getuid()}", "t": time.time()})
    except OSError as error:
        raise fail("run.folder_unwritable", path=str(run.root), reason=error.strerror or str(error)) from error


def _signal(step: StepStatus, how: How) -> bool:
    """Signal an unsupervised worker, and with `kill` everything in its group."""
    assert step.worker is not None
    if how == "checkpoint":
        return identity.send(step.worker, signal.SIGTERM)
    members = identity.group_members(step.worker.pid, step.worker.starttime) if identity.alive(step.worker) else []
    sent = identity.send(step.worker, signal.SIGKILL)
    for member in members:
        identity.send(member, signal.SIGKILL)
    return sent


@dataclass
class Resumed:
    """What `resume` did.

    Attributes:
        how: `nothing` (all steps succeeded), `finish` (the work was done, only its end was missing), `adopt` (a worker
            that outlived its runner goes on), `retry` (a new attempt), `start` (a step that was never begun).
        step: the step it goes on with.
        checkpoint: where the new attempt will continue; None means from its start.
        passed_over: newer checkpoints that are not whole, with what is wrong with each.
    """

    how: Literal["nothing", "finish", "adopt", "retry", "start"]
    step: str | None = None
    checkpoint: Path | None = None
    passed_over: dict[str, list[str]] = field(default_factory=dict)


def resume(run: RunPaths, *, wait: bool = True) -> Resumed:
    """Go on with a run that is not running: finish what was half finished, adopt what still works, retry the rest.

    Raises:
        SwiftshellError: it is running (exit 8), a record cannot be read, or the runner does not start.
    """
    held = lock.acquire(run.lock)
    if held is None:
        raise launch.still_running(run)
    try:
        found = reconcile.status(run, lock_free=True)
        if found.status == "unknown":
            unread = [s.message for s in found.steps if s.status == "unknown" and s.message] or found.problems
            raise SwiftshellError(unread or [Problem("run.not_a_run", {"path": str(run.root)})], EXIT_FAILURE)
        if found.result == SUCCEEDED:
            return Resumed("nothing")
        done = _what_next(found)
        run.stop_request.unlink(missing_ok=True)
        for step in found.steps:
            if step.result != SUCCEEDED and step.paths.result.exists():
                _reopen(step.paths)
    except OSError as error:
        raise fail("run.folder_unwritable", path=str(run.root), reason=error.strerror or str(error)) from error
    finally:
        held.close()
    launch.start(run.root, wait=wait)
    return done


def _what_next(found: RunStatus) -> Resumed:
    """Say what the new runner will do first."""
    step = next(s for s in found.steps if s.result != SUCCEEDED)
    attempts = step.paths.attempts()
    if step.status == "unsupervised":
        return Resumed("adopt", step.id)
    if not attempts:
        return Resumed("start", step.id)
    outcome = read_json_or_none(attempts[-1].outcome)
    if not attempts[-1].result.exists() and isinstance(outcome, dict) and outcome.get("result") == SUCCEEDED:
        return Resumed("finish", step.id)
    newest = checkpoints.newest_valid(step.paths.checkpoints)
    after = checkpoints.step_of(newest) if newest else -1
    passed = {p.name: checkpoints.wrong(p) for p in checkpoints.listed(step.paths.checkpoints)
              if checkpoints.step_of(p) > after}
    return Resumed("retry", step.id, newest, passed)


def _reopen(step: StepPaths) -> None:
    """Move a bad result to its attempt, which closes it; the step is then not over any more.

    An attempt whose worker succeeded stays open: only publishing failed, and the new runner just does that again.
    """
    attempts = step.attempts()
    if not attempts:
        step.result.unlink()
        return
    outcome = read_json_or_none(attempts[-1].outcome)
    succeeded = isinstance(outcome, dict) and outcome.get("result") == SUCCEEDED
    os.replace(step.result, attempts[-1].root / "unpublished.json" if succeeded else attempts[-1].result)
    sync_folder(attempts[-1].root)
    sync_folder(step.root)


def wait(run: RunPaths, timeout_s: float | None = None, on_event: OnEvent | None = None,
         stop_waiting: Callable[[], bool] | None = None) -> RunStatus:
    """Follow a run until nothing of it is supervised any more, or `timeout_s` is over; return its status then.

    `on_event(step_id, event)` gets every event of every step in order, and for each change of a step's or (with an
    empty step id) the run's standing an event of kind `status` with `status` and `result`.
    """
    end = float("inf") if timeout_s is None else time.monotonic() + timeout_s
    tail = _Tail(on_event or (lambda _step, _event: None))
    looked, mark = 0.0, -1
    found = reconcile.status(run)
    while True:
        stat_mark = _mark(run)
        if stat_mark != mark or time.monotonic() - looked > _LOOK_S:
            found, looked, mark = reconcile.status(run), time.monotonic(), stat_mark
        tail.read(found)
        if not found.supervised:
            return found
        if time.monotonic() >= end or (stop_waiting is not None and stop_waiting()):
            return found
        time.sleep(max(0.0, min(FOLLOW_S, end - time.monotonic())))


def _mark(run: RunPaths) -> int:
    try:
        return run.state.stat().st_mtime_ns
    except OSError:
        return 0


class _Tail:
    """Where each step's events were read to, and what was last said about its standing."""

    def __init__(self, tell: OnEvent) -> None:
        self._tell = tell
        self._offsets: dict[str, int] = {}
        self._said: dict[str, tuple[str, str | None]] = {}

    def read(self, found: RunStatus) -> None:
        """Pass on what is new."""
        for step in found.steps:
            if step.status in ("starting", "running", "unsupervised"):
                self._standing(step.id, step.status, None)
            events, self._offsets[step.id] = read_events(step.paths.events, self._offsets.get(step.id, 0))
            for event in events:
                self._tell(step.id, event)
            self._standing(step.id, step.status, step.result)
        self._standing("", found.status, found.result)

    def _standing(self, step_id: str, status: str, result: str | None) -> None:
        if self._said.get(step_id) != (status, result):
            self._said[step_id] = (status, result)
            self._tell(step_id, {"kind": "status", "status": status, "result": result})


def problems_of(found: RunStatus) -> list[Problem]:
    """Return everything a front should tell about a run's end, steps in order."""
    told = list(found.problems)
    for step in found.steps:
        told += step.problems or ([step.message] if step.message else [])
    return told
