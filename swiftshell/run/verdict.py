"""Say what an ended attempt amounts to, from its records alone. Standard library only.

The runner and the views use this one function, so that what is shown before a repair is what the repair will find.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from swiftshell.errors import EXIT_FAILURE, EXIT_STAGE, EXIT_TERMINATED, EXIT_TIMEOUT
from swiftshell.run import artifact
from swiftshell.run.paths import AttemptPaths, StepPaths

LOST, CANCELLED, FAILED, SUCCEEDED, TIMED_OUT = "lost", "cancelled", "failed", "succeeded", "timed_out"
_FULL_BYTES = 1 << 20


def judge(step: StepPaths, attempt: AttemptPaths, end: dict[str, Any],
          outcome: dict[str, Any] | None) -> dict[str, Any]:
    """Return result, exit_code, problems, metrics, summary and outputs of an attempt that is over.

    The worker's own last word counts most: it is written when the output is whole, and a crash while the interpreter
    shuts down does not undo it. Without it the exit record decides.
    """
    if outcome is not None and outcome.get("result") in (SUCCEEDED, FAILED, CANCELLED):
        return _told(end, outcome)
    values = {"step": step.id, "log": str(attempt.log)}
    stop = end.get("stop")
    if stop == "time_limit":
        return _untold(TIMED_OUT, EXIT_TIMEOUT, "run.timed_out", values)
    if stop:
        return _untold(CANCELLED, EXIT_TERMINATED, "run.killed", values)
    if end.get("lost"):
        code = "run.lost_by_reboot" if end["lost"] == "reboot" else "run.lost"
        return _untold(LOST, EXIT_FAILURE, code, values)
    if end.get("signal") is not None:
        number = int(end["signal"])
        code = "run.worker_out_of_memory" if end.get("oom") == "likely" else "run.worker_killed"
        return _untold(FAILED, 128 + number, code, {**values, "signal": signal_name(number)})
    if end.get("code") is None:  # an adopted worker: nobody learnt its exit code, and it left no last word
        return _untold(LOST, EXIT_FAILURE, "run.lost", values)
    if free_bytes(step.root) < _FULL_BYTES:
        return _untold(FAILED, EXIT_STAGE, "run.disk_full", {**values, "path": str(step.root)})
    return _untold(FAILED, EXIT_STAGE, "run.worker_silent", {**values, "exit_code": end["code"]})


def _told(end: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    keep = {key: outcome.get(key) or {} for key in ("metrics", "summary", "outputs")}
    found = {"result": outcome["result"], "exit_code": outcome.get("exit_code", EXIT_STAGE),
             "problems": list(outcome.get("problems") or []), **keep}
    if outcome["result"] == CANCELLED and end.get("stop") == "time_limit":
        found.update(result=TIMED_OUT, exit_code=EXIT_TIMEOUT)
    return found


def _untold(result: str, exit_code: int, code: str, values: dict[str, Any]) -> dict[str, Any]:
    severity = "note" if result == CANCELLED else "error"
    return {"result": result, "exit_code": exit_code, "metrics": {}, "summary": {}, "outputs": {},
            "problems": [{"code": code, "severity": severity, "values": values}]}


def unsound(folder: Path, outputs: dict[str, str], *, hashes: bool = False) -> list[str]:
    """Return the files of an attempt's outputs that are missing, of the wrong size or (`hashes`) changed.

    They are looked for below `folder`, which is the step's `out` or what will become it.
    """
    wrong = []
    for slot, place in outputs.items():
        wrong += [f"{slot}/{name}" for name in artifact.damaged(folder / place.removeprefix("out/"), hashes=hashes)]
    return wrong


def signal_name(number: int) -> str:
    """Return SIGKILL for 9 and so on."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def free_bytes(folder: Path) -> int:
    """Return how much the disk of a folder still takes."""
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize
