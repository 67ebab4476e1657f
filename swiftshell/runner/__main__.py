"""Become the runner of one run: detach, take its lock, say who this is, go through the steps.

`python -P -m swiftshell.runner RUN_FOLDER [--ready-fd N] [--foreground] [--no-wait]`. Through the descriptor the starter
learns, in one line of JSON, that the lock is held and runner.json written, or why not.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from swiftshell import __version__
from swiftshell.errors import EXIT_FAILURE, EXIT_OK, EXIT_RUNNING
from swiftshell.run import identity, lock
from swiftshell.run.crash import crash_point
from swiftshell.run.files import write_json
from swiftshell.run.lock import Lock
from swiftshell.run.paths import RunPaths
from swiftshell.runner.finish import Runner
from swiftshell.runner.records import Records, State, StopRequests, flush_log, now, say, user
from swiftshell.runner.steps import run_steps

_PR_SET_CHILD_SUBREAPER = 36
_TORN_AFTER_S = 60.0


def main(argv: list[str]) -> int:
    """Run the runner and return its exit code; the records say the rest."""
    parser = argparse.ArgumentParser(prog="python -m swiftshell.runner")
    parser.add_argument("run", type=Path)
    parser.add_argument("--ready-fd", type=int, default=-1)
    parser.add_argument("--foreground", action="store_true")
    parser.add_argument("--no-wait", action="store_true")
    options = parser.parse_args(argv)
    if not options.foreground and os.fork():
        os._exit(EXIT_OK)  # the starter's child ends here; the runner belongs to init from now on
    run = RunPaths(options.run.absolute())
    stop = StopRequests(run)
    signal.signal(signal.SIGTERM, stop.on_signal)
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o027)
    crash_point("runner.started")
    held = _take_over(run, options.ready_fd)
    return EXIT_RUNNING if held is None else _run(run, stop, held, wait=not options.no_wait)


def _take_over(run: RunPaths, ready_fd: int) -> Lock | None:
    """Take the run's lock and record who holds it; None if someone else does or it cannot be recorded."""
    try:
        held = lock.acquire(run.lock)
        if held is None:
            _tell(ready_fd, {"ok": False, "code": "run.still_running"})
            return None
        crash_point("runner.locked")
        write_json(run.runner, {"v": 1, **identity.mine().as_json(), "user": user(), "uid": os.getuid(),
                                "host": platform.node(), "started": now(), "version": __version__,
                                "python": sys.executable})
    except OSError as error:
        _tell(ready_fd, {"ok": False, "code": "run.folder_unwritable", "reason": error.strerror or str(error)})
        return None
    crash_point("runner.identified")
    _tell(ready_fd, {"ok": True, "pid": os.getpid()})
    return held


def _run(run: RunPaths, stop: StopRequests, held: Lock, *, wait: bool) -> int:
    _adopt_orphans()
    _remove_torn_writes(run)
    runner = Runner(run, Records(run), State(run), stop, held, Path.cwd(), wait)
    runner.records.open_reserve()
    try:
        result = run_steps(runner)
        runner.state.run(status="over", result=result)
        crash_point("run.over")
        say(f"run {run.id}: {result}")
    except ValueError as error:
        say(f"a record cannot be read, so nothing is started on top of it: {error}")
        runner.state.run(status="unknown")
        return EXIT_FAILURE
    except OSError:
        traceback.print_exc()
        flush_log()
        say("giving up: the records could not be written; the views tell from the files what happened")
        return EXIT_FAILURE
    finally:
        runner.records.close_reserve()
    return EXIT_OK


def _tell(ready_fd: int, facts: dict[str, Any]) -> None:
    """Answer the starter, if it still listens."""
    say(json.dumps(facts))
    if ready_fd < 0:
        return
    try:
        os.write(ready_fd, json.dumps(facts).encode() + b"\n")
        os.close(ready_fd)
    except OSError:
        return


def _adopt_orphans() -> None:
    """Become the parent of whatever the worker's helpers leave behind, so that it can be found and ended."""
    try:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (OSError, AttributeError):
        say("orphans of workers cannot be collected on this system")


def _remove_torn_writes(run: RunPaths) -> None:
    """Remove temporary files that a killed process left half written (only the lock's holder may).

    Young ones stay: a worker that outlived its runner may be writing its last word right now.
    """
    for pattern in ("", "requests", "steps/*", "steps/*/attempts/*"):
        for path in run.root.glob(f"{pattern}/.*.tmp" if pattern else ".*.tmp"):
            try:
                if time.time() - path.stat().st_mtime > _TORN_AFTER_S:
                    path.unlink()
            except OSError:
                continue


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
