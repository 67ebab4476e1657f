"""Reserve a step's GPUs before its attempt is made: wait in the queue, say why, give way to a stop.

A step that needs none never waits, and on a machine with GPUs it sees none. What is returned holds its locks by open
descriptors, which the worker inherits: a GPU is free when runner and worker are both gone.
"""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import Any

from swiftshell.claims import claim as claims
from swiftshell.claims.area import find
from swiftshell.claims.claim import Claimer, Grant
from swiftshell.claims.reason import subject
from swiftshell.claims.tickets import PRIORITIES, Want
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.machine.gpu import gpus
from swiftshell.run.events import EventWriter
from swiftshell.run.files import read_json_or_none
from swiftshell.run.identity import Identity
from swiftshell.run.paths import StepPaths
from swiftshell.runner.finish import Runner
from swiftshell.runner.records import say

_POLL_VARIABLE = "SWIFTSHELL_QUEUE_POLL_S"  # tests wait faster
_LOOK_FOR_STOP_S = 0.1
_SAY_AGAIN_S = 15.0


@dataclass
class Reservation:
    """What a step may use: the environment that confines its worker, the descriptors that keep it reserved."""

    env: dict[str, str]
    grant: Grant | None = None

    @property
    def fds(self) -> tuple[int, ...]:
        return self.grant.fds if self.grant else ()

    def facts(self) -> dict[str, Any]:
        """Return the reserved GPUs for the records of the attempt; nothing where the step needs none."""
        return {"gpus": self.grant.facts()} if self.grant else {}

    def started(self, worker: Identity | None) -> None:
        """Write down whose processes the GPUs are for, now that there is a worker; that is for people only."""
        if self.grant is None or worker is None:
            return
        try:
            self.grant.note(worker)
        except OSError as error:
            say(f"the record of the claim could not be written: {error}")

    def close(self) -> None:
        """Give the GPUs up."""
        if self.grant is not None:
            self.grant.close()


def claim(runner: Runner, step: StepPaths, request: dict[str, Any]) -> Reservation | list[dict[str, Any]] | None:
    """Reserve what a step needs; return the problems if that cannot be, None if a stop came while it waited."""
    needed = int(request.get("gpus") or 0)
    found = gpus()
    if found == []:
        return Reservation({})
    if needed < 1:
        return Reservation(claims.hidden_gpus())
    told, wait = _Told(runner, step), runner.wait
    try:
        while found is None:
            silent = Problem("gpus.wait_driver", severity="note")
            if not wait:
                return _busy(step, silent)
            told.waiting(silent)
            if _pause(runner, _poll_s()):
                return None
            found = gpus()
        want = _want(runner, step, request, needed, claims.allowed_gpus(found, needed))
        return _queue(runner, step, Claimer(find(), want), told, wait=wait)
    except SwiftshellError as error:
        return [problem.as_json() for problem in error.problems]
    except OSError as error:
        values = {"step": step.id, "path": str(error.filename or ""), "reason": error.strerror or str(error)}
        return [Problem("gpus.claim_failed", values).as_json()]


def _busy(step: StepPaths, why: Problem) -> list[dict[str, Any]]:
    return [Problem("gpus.busy", {"step": step.id}).as_json(), why.as_json()]


def _interval_s() -> float:
    return float(os.environ.get(_POLL_VARIABLE, claims.POLL_S))


def _poll_s() -> float:
    """Return how long to wait until the next look; a little different each time, so that waiters do not march in step."""
    return _interval_s() * random.uniform(0.8, 1.2)


def strangers_every_s() -> float:
    """Return how often to look whether a running job is alone on its GPUs."""
    return 30 * _interval_s()


def _want(runner: Runner, step: StepPaths, request: dict[str, Any], needed: int, allowed: tuple[str, ...]) -> Want:
    plan = read_json_or_none(runner.run.plan)
    steps = plan.get("steps") if isinstance(plan, dict) else None
    planned = next((s for s in steps or [] if isinstance(s, dict) and s.get("id") == step.id), {})
    priority = str(request.get("priority"))
    return Want(run=runner.run.id, step=step.id, stage=str(request.get("stage", "")), gpus=needed, allowed=allowed,
                priority=priority if priority in PRIORITIES else "normal",
                expected_s=planned.get("estimate_s") or None)  # fmt: skip


def _queue(runner: Runner, step: StepPaths, claimer: Claimer, told: _Told, *,
           wait: bool) -> Reservation | list[dict[str, Any]] | None:  # fmt: skip
    try:
        while True:
            answer = claimer.attempt()
            if isinstance(answer, Grant):
                told.granted(answer)
                return Reservation(answer.env, answer)
            if not wait and answer.code != "gpus.wait_moment":
                return _busy(step, answer)
            told.waiting(answer)
            if _pause(runner, _poll_s()):
                return None
    finally:
        claimer.close()


def _pause(runner: Runner, seconds: float) -> bool:
    """Wait for the next look; tell whether a stop was asked for meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if runner.stop.pending():
            return True
        time.sleep(min(_LOOK_FOR_STOP_S, left))
    return bool(runner.stop.pending())


class _Told:
    """What was said about the waiting: `state.json` has the reason of now, the events each new one."""

    def __init__(self, runner: Runner, step: StepPaths) -> None:
        self._runner, self._step = runner, step
        self._subject: tuple[Any, ...] | None = None
        self._at = 0.0

    def waiting(self, why: Problem) -> None:
        """Say why the step waits, if that is news or was not said for a while."""
        now, about = time.monotonic(), subject(why)
        is_news = about != self._subject
        if not is_news and now - self._at < _SAY_AGAIN_S:
            return
        self._runner.state.step(self._step.id, status="queued", result=None, waiting=why.as_json())
        if is_news:
            say(f"step {self._step.id}: queued: {why.code} {dict(why.values)}")
            _event(self._step, "note", code=why.code, values=dict(why.values))
        self._subject, self._at = about, now

    def granted(self, grant: Grant) -> None:
        """Say which GPUs the step has."""
        names = ", ".join(str(gpu.index) for gpu in grant.gpus)
        say(f"step {self._step.id}: GPU {names}")
        self._runner.state.step(self._step.id, status="starting", result=None, waiting=None, gpus=grant.facts())
        if self._subject is not None:
            _event(self._step, "note", code="gpus.granted", values={"gpus": names})


def _event(step: StepPaths, kind: str, **fields: Any) -> None:
    """Add a line to the step's events; no worker writes there yet."""
    try:
        events = EventWriter(step.events)
    except OSError:
        return
    events.write(kind, **fields)
    events.close()
