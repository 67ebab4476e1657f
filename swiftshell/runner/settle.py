"""Look at the last attempt a dead runner left, and bring it to an end: finish it, adopt its worker, or call it lost."""

from __future__ import annotations

import time
from typing import Any

from swiftshell.run import identity
from swiftshell.run.files import read_json_or_none, read_record
from swiftshell.run.identity import Identity
from swiftshell.run.paths import AttemptPaths, StepPaths
from swiftshell.run.verdict import CANCELLED, SUCCEEDED, judge, unsound
from swiftshell.runner.finish import Runner, close_attempt, drop_leftovers, finish, record_exit
from swiftshell.runner.records import now, say
from swiftshell.runner.watch import Adopted, watch


def settle(runner: Runner, step: StepPaths, request: dict[str, Any]) -> str | None:
    """Return the step's result if its last attempt gives one; None if a new attempt is to be made.

    Raises:
        ValueError: a record cannot be read; nothing may be concluded from that, least of all that nobody works.
    """
    attempts = step.attempts()
    if not attempts or attempts[-1].result.exists():
        return None
    attempt = attempts[-1]
    end, adopted = read_record(attempt.exit), False
    if end is None:
        end, adopted = _end_of(runner, step, attempt, request)
        record_exit(runner, attempt, end)
    found = judge(step, attempt, end, read_json_or_none(attempt.outcome))
    if found["result"] == SUCCEEDED and _whole(step, attempt, found["outputs"]):
        return finish(runner, step, attempt, request, end, None)
    if adopted and (found["result"] != CANCELLED or runner.stop.pending()):
        return finish(runner, step, attempt, request, end, None)
    close_attempt(runner, attempt, found)
    drop_leftovers(step, attempt)
    return None


def _whole(step: StepPaths, attempt: AttemptPaths, outputs: dict[str, str]) -> bool:
    """Tell whether what the worker called whole still is; after a power cut by content: a size may hide a hole."""
    partial = step.partial(attempt.number)
    this_boot = (read_json_or_none(attempt.child) or {}).get("boot_id") == identity.boot_id()
    return not unsound(partial if partial.exists() else step.out, outputs, hashes=not this_boot)


def _end_of(runner: Runner, step: StepPaths, attempt: AttemptPaths,
            request: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return the exit facts of an attempt without an exit record, and whether a living worker was waited for."""
    record = read_record(attempt.child)
    if record is None:  # the child was never recorded, so it was never released
        return {"v": 1, "code": None, "signal": None, "stop": None, "ended": now(), "lost": "killed"}, False
    try:
        who = Identity.from_json(record)
    except ValueError as error:
        raise ValueError(f"{attempt.child}: {error}") from error
    pidfd = identity.open_verified(who) if identity.recorded_by_us(attempt.child) else None
    if pidfd is not None:
        say(f"step {step.id}: its worker (PID {who.pid}) outlived its runner; going on with it")
        runner.state.step(step.id, status="running", attempt=attempt.number, adopted=True)
        end = watch(Adopted(who, pidfd), runner.stop, request, float(record.get("t") or time.time()))
        return {**end, "adopted": True}, True
    lost = "killed" if who.boot_id == identity.boot_id() else "reboot"
    return {"v": 1, "code": None, "signal": None, "stop": None, "ended": now(), "lost": lost}, False
