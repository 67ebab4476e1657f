"""Say what happened to a run from what lies on disk. Pure reading: nothing is changed, repaired or guessed.

In this order: a step's `result.json`, the attempt's `exit.json`, the run's lock (held: its runner lives), the boot the
worker was started in, and whether exactly that process still exists.

| exit.json | run.lock | boot | worker | verdict |
|---|---|---|---|---|
| there | – | – | – | what it and the worker's last word say |
| none | held | – | – | starting or running; before its first attempt queued, if the runner says so |
| none | free | another | – | lost by a reboot |
| none | free | this | gone | lost, or what the worker's last word says |
| none | free | this | alive | unsupervised: resume adopts it, stop ends it |
| unreadable | free | – | – | unknown: shown, never run again by itself |
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swiftshell.errors import Problem
from swiftshell.run import identity, lock, verdict
from swiftshell.run.files import read_json_or_none, read_record
from swiftshell.run.identity import Identity
from swiftshell.run.paths import AttemptPaths, RunPaths, StepPaths
from swiftshell.run.request import needs, read_request

Status = Literal["waiting", "queued", "starting", "running", "unsupervised", "over", "unknown"]
RunResult = Literal["succeeded", "failed", "cancelled", "timed_out", "lost", "skipped"]
_WORST_FIRST: tuple[RunResult, ...] = ("failed", "lost", "timed_out", "cancelled")
_EVENTS_TAIL_BYTES = 64 * 1024


@dataclass
class StepStatus:
    """What is known about a step. `message` says the one thing worth saying; `problems` are those of its result."""

    id: str
    number: int
    stage: str
    status: Status
    paths: StepPaths
    result: RunResult | None = None
    attempt: int | None = None
    started: str | None = None
    ended: str | None = None
    duration_s: float | None = None
    phase: str | None = None
    progress: dict[str, Any] | None = None  # the last progress event: done, total, unit, t
    message: Problem | None = None
    problems: list[Problem] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)  # slot -> absolute path
    restored_from: str | None = None
    exit_code: int | None = None
    log: str | None = None
    worker: Identity | None = None
    gpus: list[int] = field(default_factory=list)  # indices of those held for the attempt at work


@dataclass
class RunStatus:
    """What is known about a run."""

    id: str
    root: Path
    status: Status
    result: RunResult | None
    steps: list[StepStatus]
    supervised: bool  # a runner holds the lock
    runner: dict[str, Any]
    stop: str | None  # a stop that was asked for: checkpoint or kill
    problems: list[Problem] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """Return the exit code of a run that is over: 0, or the first bad step's own."""
        if self.result in (None, "succeeded"):
            return 0
        codes = [s.exit_code for s in self.steps if s.result == self.result and s.exit_code]
        return codes[0] if codes else 1


def status(run: RunPaths, *, lock_free: bool | None = None) -> RunStatus:
    """Return what a run's files say. `lock_free` is for a caller that holds the run's lock itself."""
    problems: list[Problem] = []
    held = _held(run, problems) if lock_free is None else not lock_free
    stop = _stop(run)
    steps: list[StepStatus] = []
    bad: set[str] = set()
    for number, paths in enumerate(_steps(run, problems), 1):
        step = _step(paths, number, held, stop)
        if step.status in ("waiting", "over") and step.result != "succeeded":
            _mark_blocked(step, steps, bad, held)
        if step.result not in (None, "succeeded"):
            bad.add(step.id)
        steps.append(step)
    if held:
        _mark_queued(run, steps)
    runner = _runner(run, problems)
    found, result = _run(steps, held, stop, begun=bool(runner) or any(s.attempt for s in steps))
    return RunStatus(run.id, run.root, found, result, steps, held, runner, stop, problems)


def _steps(run: RunPaths, problems: list[Problem]) -> list[StepPaths]:
    try:
        return run.steps()
    except OSError as error:
        problems.append(_unreadable(run.root, error.strerror or str(error)))
        return []


def _held(run: RunPaths, problems: list[Problem]) -> bool:
    """Tell whether a runner lives. Where the lock itself cannot be asked, the runner's recorded identity is."""
    try:
        if lock.busy(run.lock):
            return True
        if run.lock.exists():
            return False
    except OSError as error:
        problems.append(_unreadable(run.lock, error.strerror or str(error)))
    try:
        return identity.alive(Identity.from_json(read_record(run.runner) or {}))
    except ValueError:
        return False


def _stop(run: RunPaths) -> str | None:
    try:
        data = read_record(run.stop_request)
    except ValueError:
        return "checkpoint"
    if data is None:
        return None
    return "kill" if data.get("how") == "kill" else "checkpoint"


def _runner(run: RunPaths, problems: list[Problem]) -> dict[str, Any]:
    try:
        return read_record(run.runner) or {}
    except ValueError as error:
        problems.append(_unreadable(run.runner, str(error)))
        return {"v": 1}


def _step(paths: StepPaths, number: int, held: bool, stop: str | None) -> StepStatus:
    """Return the verdict on one step."""
    step = StepStatus(paths.id, number, "", "waiting", paths)
    try:
        request = read_request(paths)
    except ValueError as error:
        step.status, step.message = "unknown", _unreadable(paths.request, str(error))
        request = {}
    step.stage = str(request.get("stage", ""))
    attempts = paths.attempts()
    try:
        result = read_record(paths.result)
        if result is not None:
            _take(step, result, "over")
            step.problems = [Problem.from_json(p) for p in result.get("problems") or []]
            step.message = next(iter(step.problems), None)
            step.log = str(attempts[-1].log) if attempts else None
        elif attempts and step.status != "unknown":
            _attempt(step, attempts[-1], held, stop)
    except ValueError as error:
        step.status, step.result = "unknown", None
        step.message = _unreadable(Path(str(error).split(": ")[0]), str(error))
    return step


def _attempt(step: StepStatus, attempt: AttemptPaths, held: bool, stop: str | None) -> None:
    """Fill in what the last attempt of a step without a result amounts to.

    Raises:
        ValueError: a record cannot be read.
    """
    closed = read_record(attempt.result)
    if closed is not None:  # the step goes on with a new attempt that has not begun
        step.attempt, step.started = attempt.number, closed.get("started")
        return
    step.attempt, step.log = attempt.number, str(attempt.log)
    end, child = read_record(attempt.exit), read_record(attempt.child)
    if child is not None:
        step.started = child.get("started")
    if held:
        step.status = "running" if child is not None else "starting"
        step.worker = Identity.from_json(child) if child is not None else None
        step.gpus = _gpus(attempt)
        _follow(step, attempt.number)
        return
    if end is None and child is not None:
        who = _identity(child, attempt.child)
        if identity.alive(who):
            step.status, step.worker, step.gpus = "unsupervised", who, _gpus(attempt)
            step.message = Problem("run.unsupervised", {"step": step.id, "pid": who.pid}, severity="warning")
            _follow(step, attempt.number)
            return
        end = {"lost": "killed" if who.boot_id == identity.boot_id() else "reboot", "stop": stop}
    elif end is None:
        end = {"lost": "killed", "stop": stop}
    _ended(step, attempt, end)


def _ended(step: StepStatus, attempt: AttemptPaths, end: dict[str, Any]) -> None:
    """Judge an attempt whose worker is gone and whose result nobody wrote."""
    found = verdict.judge(step.paths, attempt, end, read_record(attempt.outcome))
    _take(step, {**found, "attempt": attempt.number, "started": step.started, "ended": end.get("ended"),
                 "duration_s": end.get("duration_s"), "outputs": {}}, "over")
    step.problems = [Problem.from_json(p) for p in found["problems"]]
    if found["result"] == verdict.SUCCEEDED:
        # The work is done and safe, but not in place: calling it a success would point at an output that is not there.
        step.result, step.exit_code = "lost", 1
        step.problems = [Problem("run.finish_pending", {"step": step.id}, severity="warning")]
    step.message = next(iter(step.problems), None)


def _take(step: StepStatus, result: dict[str, Any], status_: Status) -> None:
    step.status, step.result = status_, result.get("result")
    for key in ("attempt", "started", "ended", "duration_s", "restored_from", "exit_code"):
        setattr(step, key, result.get(key))
    step.metrics, step.summary = dict(result.get("metrics") or {}), dict(result.get("summary") or {})
    step.outputs = {slot: str(step.paths.root / place) for slot, place in (result.get("outputs") or {}).items()}


def _identity(child: dict[str, Any], path: Path) -> Identity:
    try:
        return Identity.from_json(child)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _mark_blocked(step: StepStatus, earlier: list[StepStatus], bad: set[str], held: bool) -> None:
    """Call a step that was never begun skipped if it needs what did not succeed."""
    if step.status != "waiting" or step.attempt is not None:
        return
    try:
        blocked = [name for name in needs(read_request(step.paths), [s.paths for s in earlier]) if name in bad]
    except ValueError:
        return
    causes = {s.id: s for s in earlier}
    stopped = all(causes[name].result in ("cancelled", "lost") for name in blocked)
    if not blocked or stopped:  # what was only interrupted goes on with resume; so does what comes after it
        return
    step.status, step.result = "over", "skipped"
    step.message = Problem("run.skipped", {"step": step.id, "needs": ", ".join(blocked)}, severity="note")


def _mark_queued(run: RunPaths, steps: list[StepStatus]) -> None:
    """Call a step queued whose living runner says that it waits for GPUs, and keep what it says it waits for."""
    state = read_json_or_none(run.state)
    said = state.get("steps") if isinstance(state, dict) else None
    for step in steps:
        found = said.get(step.id) if isinstance(said, dict) else None
        if step.status == "waiting" and isinstance(found, dict) and found.get("status") == "queued":
            step.status = "queued"
            if isinstance(found.get("waiting"), dict):
                step.message = Problem.from_json(found["waiting"])


def _gpus(attempt: AttemptPaths) -> list[int]:
    """Return the indices of the GPUs an attempt was given; what cannot be read is not worth a fault here."""
    intent = read_json_or_none(attempt.intent)
    entries = intent.get("gpus") if isinstance(intent, dict) else None
    return [int(e["index"]) for e in entries or [] if isinstance(e, dict) and "index" in e]


def _run(steps: list[StepStatus], held: bool, stop: str | None, *, begun: bool) -> tuple[Status, RunResult | None]:
    """Sum the steps up."""
    if held and any(s.status == "queued" for s in steps):
        return "queued", None
    if held:
        return ("running" if any(s.status != "waiting" for s in steps) else "starting"), None
    for wanted in ("unknown", "unsupervised"):
        if any(s.status == wanted for s in steps):
            return wanted, None
    if not steps:
        return "unknown", None
    results = {s.result for s in steps}
    if results == {"succeeded"}:
        return "over", "succeeded"
    if not begun:
        return "waiting", None
    for result in _WORST_FIRST:
        if result in results:
            return "over", result
    return "over", "cancelled" if stop else "lost"


def _follow(step: StepStatus, attempt: int) -> None:
    """Read the phase and the last progress of an attempt from the end of its events."""
    try:
        with step.paths.events.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(0, size - _EVENTS_TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue
        kind = event.get("kind") if isinstance(event, dict) else None
        if kind == "attempt":
            step.phase = step.progress = None
        elif kind == "phase":
            step.phase, step.progress = str(event.get("name")), None
        elif kind == "progress":
            step.progress = {k: event.get(k) for k in ("done", "total", "unit", "t")}


def _unreadable(path: Path, reason: str) -> Problem:
    return Problem("run.unreadable", {"reason": reason.removeprefix(f"{path}: ")}, file=str(path))
