"""Start a worker so that no job ever runs without a record: intent, fork, identity, and only then release.

The forked child waits on a pipe. The runner writes down who the child is, makes that durable, and then sends one byte.
A runner that dies in between closes the pipe, and the child ends without having done anything.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import swiftshell
from swiftshell.run import identity
from swiftshell.run.crash import crash_point
from swiftshell.run.files import write_json
from swiftshell.run.paths import AttemptPaths, StepPaths
from swiftshell.runner.records import now, user

_GO = b"G"
_CANNOT_EXECUTE = 127
_NOT_FOR_THE_WORKER = ("SWIFTSHELL_READY_FD",)


@dataclass(frozen=True)
class Command:
    """What the worker is started with. `keep_fds` stay open in it (locks that live as long as it does)."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    keep_fds: tuple[int, ...] = ()
    close_fds: tuple[int, ...] = ()


def command(step: StepPaths, attempt: AttemptPaths, request: dict[str, Any], extra_env: dict[str, str], cwd: Path,
            keep_fds: tuple[int, ...], close_fds: tuple[int, ...]) -> Command:
    """Build the worker's command line and environment.

    `-P` keeps the working folder off the import path: a file named json.py in someone's workspace must not become ours.
    """
    python = str(request.get("python") or sys.executable)
    env = {**os.environ, **{str(k): str(v) for k, v in (request.get("env") or {}).items()}, **extra_env}
    env["PYTHONUNBUFFERED"] = "1"
    if checkout := _checkout():
        env["PYTHONPATH"] = os.pathsep.join(p for p in (checkout, env.get("PYTHONPATH", "")) if p)
    for name in _NOT_FOR_THE_WORKER:
        env.pop(name, None)
    argv = (python, "-P", "-m", "swiftshell.worker", str(step.root), str(attempt.number))
    return Command(argv, env, cwd, keep_fds, close_fds)


def _checkout() -> str:
    """Return the folder swiftshell lies in if that is a checkout: another interpreter may not have it installed.

    A site-packages folder is never handed on: it would mix one environment's libraries into another's.
    """
    folder = Path(swiftshell.__file__).resolve().parents[1]
    return "" if folder.name in ("site-packages", "dist-packages") else str(folder)


def start_worker(attempt: AttemptPaths, what: Command, facts: dict[str, Any]) -> int:
    """Start a worker and return its process number; `child.json` is durable before it does anything.

    Raises:
        OSError: a record could not be written or no process made; nothing was started.
    """
    write_json(attempt.intent, {"v": 1, **facts, "attempt": attempt.number, "argv": list(what.argv),
                                "cwd": str(what.cwd), "runner": identity.mine().as_json(), "user": user(), "at": now()})
    crash_point("intent.written")
    log = os.open(attempt.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    go_read, go_write = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            _child(what, go_read, go_write, log)
        os.close(go_read)
        go_read = -1
        _release(pid, attempt, go_write)
    finally:
        for fd in (log, go_read, go_write):
            if fd >= 0:
                os.close(fd)
    return pid


def _release(pid: int, attempt: AttemptPaths, go_write: int) -> None:
    """Record the waiting child, then let it go; a child that cannot be recorded never starts."""
    with suppress(OSError):  # the child did it first, or is gone, which the watch will see
        os.setpgid(pid, pid)
    crash_point("child.forked")
    try:
        who = identity.of(pid)
        if who is None:
            raise ChildProcessError(f"the child {pid} ended before it was released")
        write_json(attempt.child, {"v": 1, **who.as_json(), "pgid": pid, "started": now(), "t": time.time()})
    except OSError:
        os.kill(pid, signal.SIGKILL)  # still our unreaped child: the number cannot be anyone else's
        os.waitpid(pid, 0)
        raise
    crash_point("child.recorded")
    os.write(go_write, _GO)
    crash_point("child.released")


def _child(what: Command, go_read: int, go_write: int, log: int) -> NoReturn:
    """Wait for the byte, then become the worker. Runs in the forked child and never returns."""
    try:
        os.close(go_write)  # or the end of the runner would not be seen
        for fd in what.close_fds:
            os.close(fd)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)
        crash_point("child.waits")
        if os.read(go_read, 1) != _GO:
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for fd in what.keep_fds:
            os.set_inheritable(fd, True)
        os.chdir(what.cwd)
        crash_point("child.execs")
        os.execve(what.argv[0], what.argv, what.env)
    except BaseException as error:  # noqa: BLE001 - nothing may unwind into the runner's own stack
        os.write(log, f"the worker could not be started: {error}\n".encode(errors="replace"))
    finally:
        os._exit(_CANNOT_EXECUTE)
