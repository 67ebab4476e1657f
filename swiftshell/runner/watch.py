"""Follow one worker to its end: notice its exit, pass stop requests on, leave no process of it behind."""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from swiftshell.run import identity
from swiftshell.run.identity import Identity
from swiftshell.runner.records import StopRequests, now, say

POLL_S = 0.2
GRACE_S = 120.0


class Worker(Protocol):
    """A running worker, our own child or one that another runner started."""

    def exited(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for the end; tell whether it has come."""

    def terminate(self) -> None:
        """Ask the worker (it alone, not its helpers) to save a checkpoint and stop."""

    def kill(self) -> None:
        """End the worker and everything in its group."""

    def reap(self) -> Exit:
        """End what is left of its group and say how it ended."""


@dataclass
class Exit:
    """How a worker ended; code and signal are None where only another process could have learnt them."""

    code: int | None = None
    signal: int | None = None
    rusage: dict[str, float] = field(default_factory=dict)


class Child:
    """A worker this runner started. Until it is reaped its number cannot be anyone else's."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._end = _pidfd(pid)

    def exited(self, timeout_s: float) -> bool:
        """See `Worker`."""
        if not self._look():
            _wait(self._end, timeout_s)
        return self._look()

    def _look(self) -> bool:
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def terminate(self) -> None:
        """See `Worker`."""
        os.kill(self._pid, signal.SIGTERM)

    def kill(self) -> None:
        """See `Worker`."""
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except ProcessLookupError:  # it has not made its group yet
            os.kill(self._pid, signal.SIGKILL)

    def reap(self) -> Exit:
        """See `Worker`. The group is swept before the number is given back, and then whoever left the group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        _, status, usage = os.wait4(self._pid, 0)
        if self._end is not None:
            os.close(self._end)
        _sweep_orphans()
        rusage = {"user_s": round(usage.ru_utime, 3), "system_s": round(usage.ru_stime, 3),
                  "max_rss_mib": round(usage.ru_maxrss / 1024, 1)}
        if os.WIFSIGNALED(status):
            return Exit(None, os.WTERMSIG(status), rusage)
        return Exit(os.WEXITSTATUS(status), None, rusage)


class Adopted:
    """A worker whose runner died. Its exit code went to whoever inherited it; its outcome.json decides."""

    def __init__(self, who: Identity, pidfd: int) -> None:
        self._who = who
        self._end = pidfd

    def exited(self, timeout_s: float) -> bool:
        """See `Worker`."""
        return _wait(self._end, timeout_s)

    def terminate(self) -> None:
        """See `Worker`."""
        _signal(self._end, signal.SIGTERM)

    def kill(self) -> None:
        """See `Worker`."""
        _signal(self._end, signal.SIGKILL)
        self._sweep()

    def reap(self) -> Exit:
        """See `Worker`."""
        self._sweep()
        os.close(self._end)
        return Exit()

    def _sweep(self) -> None:
        """Kill what is left of the group, unless the group's number is someone's anew."""
        leader = identity.of(self._who.pid)
        if leader is None or leader == self._who:
            for member in identity.group_members(self._who.pid, self._who.starttime):
                identity.send(member, signal.SIGKILL)


def watch(worker: Worker, stop: StopRequests, request: dict[str, Any], started: float,
          meanwhile: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Wait for a worker's end and return the facts of its `exit.json`.

    `checkpoint` sends SIGTERM and allows the grace; `kill`, or the end of the grace, ends the whole group. `started` is
    the time of day (seconds since the epoch) it was released; `meanwhile` is called again and again and returns at once.
    """
    grace_s = _seconds(request.get("stop_grace_s"), GRACE_S)
    limit_s = _seconds(request.get("time_limit_s"), float("inf"))
    begun = time.monotonic() - max(0.0, time.time() - started)
    asked, kill_at, oom_before = "", float("inf"), _oom_kills()
    while not worker.exited(POLL_S):
        meanwhile()
        wanted = stop.pending() or ""
        if not wanted and time.monotonic() - begun > limit_s:
            wanted = "time_limit"
        if (wanted == "kill" and asked != "kill") or time.monotonic() > kill_at:
            say("ending the worker and its group")
            worker.kill()
            asked, kill_at = asked if wanted != "kill" else "kill", float("inf")
        elif wanted and not asked:
            say(f"asking the worker to save and stop ({wanted}), {grace_s:.0f} s allowed")
            worker.terminate()
            asked, kill_at = wanted, time.monotonic() + grace_s
    end = worker.reap()
    return {"v": 1, "code": end.code, "signal": end.signal, "stop": asked or None, "ended": now(),
            "duration_s": round(time.monotonic() - begun, 3), "rusage": end.rusage,
            "oom": "likely" if end.signal == signal.SIGKILL and _oom_kills() > oom_before else "unknown"}


def _seconds(value: Any, default: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except OSError:  # a kernel before 5.3: the exit is then noticed at the next poll
        return None


def _wait(pidfd: int | None, timeout_s: float) -> bool:
    """Wait for a pidfd's process to end; without a pidfd just wait."""
    if pidfd is None:
        time.sleep(timeout_s)
        return False
    poller = select.poll()
    poller.register(pidfd, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


def _signal(pidfd: int, number: signal.Signals) -> None:
    try:
        signal.pidfd_send_signal(pidfd, number)
    except ProcessLookupError:
        return


def _sweep_orphans() -> None:
    """Kill and reap what the worker's helpers left outside its group; they became our children (see `__main__`).

    This runner starts one worker at a time, so once that is reaped every child it has came from it.
    """
    for _ in range(20):
        for pid in _children():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    try:
        return [int(p) for p in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    except OSError:
        return []


def _oom_kills() -> int:
    """Return how many processes the kernel killed for memory on this machine since boot (0 where it does not say)."""
    try:
        text = Path("/proc/vmstat").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)
