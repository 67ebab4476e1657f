"""Write the runner's records so that a full or read-only disk delays them and never loses them silently."""

from __future__ import annotations

import errno
import os
import pwd
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from swiftshell.run.files import read_json, write_json
from swiftshell.run.paths import RunPaths

T = TypeVar("T")
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
_RESERVE_BYTES = 256 * 1024
_PATIENCE_VARIABLE = "SWIFTSHELL_WRITE_PATIENCE_S"
_PATIENCE_S = 600.0


def say(text: str) -> None:
    """Write a line to runner.log (standard error); a full disk must not end the runner."""
    try:
        os.write(2, f"{now()} {text}\n".encode(errors="replace"))
    except OSError:
        return


def now() -> str:
    """Return the time of day as the records hold it (UTC, milliseconds)."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def user() -> str:
    """Return the name of the user, or its number where the system knows no name."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def problem(code: str, *, file: Path | str | None = None, severity: str = "error", **values: Any) -> dict[str, Any]:
    """Return a problem in its JSON form (see `swiftshell.errors.Problem`)."""
    found: dict[str, Any] = {"code": code, "severity": severity, "values": values}
    return found if file is None else {**found, "file": str(file)}


class Records:
    """Durable writes for one run, with some disk space kept back for the last words."""

    def __init__(self, run: RunPaths) -> None:
        self._reserve = run.root / ".reserve"
        self._patience_s = float(os.environ.get(_PATIENCE_VARIABLE, _PATIENCE_S))

    def open_reserve(self) -> None:
        """Keep some space back, so that the end of a step can be recorded on a disk the step filled."""
        try:
            with self._reserve.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVE_BYTES)
        except OSError as error:
            say(f"no space could be kept back for the last records: {error}")

    def close_reserve(self) -> None:
        """Give the space back."""
        try:
            self._reserve.unlink(missing_ok=True)
        except OSError:
            return

    def write(self, path: Path, data: Any) -> None:
        """Write a record, waiting for space if the disk is full.

        Raises:
            OSError: the disk stayed full for the whole patience, or the failure is of another kind.
        """
        self.insist(lambda: write_json(path, data), str(path))

    def insist(self, action: Callable[[], T], what: str) -> T:
        """Do something that writes; on a full or read-only disk free the reserve, then try again until patience ends.

        Raises:
            OSError: see `write`.
        """
        end, pause_s, told = time.monotonic() + self._patience_s, 0.5, False
        while True:
            try:
                return action()
            except OSError as error:
                if error.errno not in _DISK_ERRORS or time.monotonic() >= end:
                    raise
                if self._reserve.exists():
                    self.close_reserve()
                    continue
                if not told:
                    say(f"cannot write {what}: {error.strerror}; trying again for {self._patience_s:.0f} s")
                    told = True
                time.sleep(min(pause_s, max(0.0, end - time.monotonic())))
                pause_s = min(pause_s * 2, 10.0)


class State:
    """`state.json`: what the runner says. Nobody depends on it to tell what happened; a failed write is only noted."""

    def __init__(self, run: RunPaths) -> None:
        self._path = run.state
        self._failed = False
        steps: dict[str, dict[str, Any]] = {s.id: {"status": "waiting", "result": None, "attempt": None}
                                            for s in run.steps()}
        self.data: dict[str, Any] = {"v": 1, "status": "starting", "result": None, "steps": steps, "updated": now()}

    def run(self, **fields: Any) -> None:
        """Change the run's own fields."""
        self.data.update(fields)
        self._write()

    def step(self, step_id: str, **fields: Any) -> None:
        """Change one step's fields; the run is running from then on."""
        self.data["steps"][step_id].update(fields)
        self.data["status"] = "running"
        self._write()

    def _write(self) -> None:
        self.data["updated"] = now()
        try:
            write_json(self._path, self.data)
            self._failed = False
        except OSError as error:
            if not self._failed:
                say(f"state.json could not be replaced ({error.strerror}); the work goes on")
            self._failed = True


class StopRequests:
    """What fronts ask in `requests/stop.json`, and SIGTERM to the runner, which asks for the same as `checkpoint`."""

    def __init__(self, run: RunPaths) -> None:
        self._path = run.stop_request
        self._seen: tuple[int, int] | None = None
        self._how: str | None = None
        self._signalled = False

    def on_signal(self, _number: int, _frame: Any) -> None:
        """Note a SIGTERM; it is written down by the next `pending`."""
        self._signalled = True

    def pending(self) -> str | None:
        """Return `kill`, `checkpoint` or None. A request whose kind cannot be read asks for `checkpoint`."""
        if self._signalled and self._how is None:
            self._how = "checkpoint"
            try:
                write_json(self._path, {"v": 1, "how": "checkpoint", "by": "SIGTERM", "at": now()})
            except OSError as error:
                say(f"stop request by SIGTERM could not be recorded: {error}")
        try:
            facts = self._path.stat()
        except OSError:
            return self._how
        mark = (facts.st_mtime_ns, facts.st_ino)
        if mark != self._seen:
            self._seen = mark
            self._how = self._read()
        return self._how

    def _read(self) -> str:
        try:
            data = read_json(self._path)
        except (ValueError, OSError) as error:
            say(f"{self._path} cannot be read ({error}); taken as a request to checkpoint and stop")
            return "checkpoint"
        return "kill" if isinstance(data, dict) and data.get("how") == "kill" else "checkpoint"


def flush_log() -> None:
    """Push out what was printed (a traceback) before the process ends."""
    try:
        sys.stderr.flush()
    except OSError:
        return
