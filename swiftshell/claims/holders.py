"""Who holds which GPU: its lock says that somebody does, a record beside it says who, for people.

The record also keeps which file the lock was. A lock that was replaced while its holder lives is a second lock under the
same name; the record is how that is noticed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.claims.area import Area
from swiftshell.claims.tickets import Want
from swiftshell.machine.processes import ancestors, user_name
from swiftshell.run import identity, lock
from swiftshell.run.identity import Identity
from swiftshell.run.lock import Lock


@dataclass(frozen=True)
class Holder:
    """A record of who holds a GPU. `uid` is the file's owner, whatever the file says."""

    uid: int
    run: str
    step: str
    stage: str
    since: float  # seconds since the epoch
    until: float | None  # when it will probably end
    lock: tuple[int, int]  # device and inode
    processes: tuple[Identity, ...]  # the runner, and the job once it started

    @property
    def user(self) -> str:
        return user_name(self.uid)

    @property
    def is_alive(self) -> bool:
        """Tell whether one of its processes lives and is its owner's; False also where they are hidden from us."""
        return any(identity.alive(p) and identity.owner(p.pid) == self.uid for p in self.processes)

    def owns(self, pid: int) -> bool:
        """Tell whether a process is one of its own or descends from one."""
        numbers = {p.pid for p in self.processes if identity.alive(p)}
        return any(number in numbers for number in ancestors(pid))


def take(area: Area, uuid: str) -> Lock | None:
    """Take a GPU's lock, or return None if somebody has it.

    Raises:
        OSError: there is no such lock in a shared area (a GPU added later), or it is no plain file.
    """
    path = area.gpu_lock(uuid)
    if area.shared and not path.exists():
        raise FileNotFoundError(2, os.strerror(2), str(path))
    return lock.acquire(path)


def is_taken(area: Area, uuid: str) -> bool:
    """Tell whether somebody has a GPU's lock.

    Raises:
        OSError: it cannot be asked.
    """
    path = area.gpu_lock(uuid)
    if area.shared and not path.exists():
        raise FileNotFoundError(2, os.strerror(2), str(path))
    return lock.busy(path)


def record(area: Area, uuid: str, held: Lock, want: Want, since: float, processes: Sequence[Identity]) -> None:
    """Write who holds a GPU.

    Raises:
        OSError: no space, no permission.
    """
    facts = os.fstat(held.fd)
    until = None if want.expected_s is None else round(since + want.expected_s, 3)
    content = {"v": 1, "uuid": uuid, "run": want.run, "step": want.step, "stage": want.stage, "since": round(since, 3),
               "until": until, "lock": [facts.st_dev, facts.st_ino],
               "processes": [p.as_json() for p in processes]}  # fmt: skip
    _write(_path(area, uuid), json.dumps(content, ensure_ascii=False))


def _write(path: Path, text: str) -> None:
    """Replace a record as a whole. It says nothing after a power cut, so nobody waits for the disk here."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(fd, 0o644)  # colleagues read it, whatever the umask says
        os.write(fd, text.encode())
    finally:
        os.close(fd)
    os.replace(temporary, path)


def forget(area: Area, uuid: str) -> None:
    """Remove this user's record of a GPU; before its lock is given up, so that no later record goes with it."""
    with suppress(OSError):
        _path(area, uuid).unlink()


def _path(area: Area, uuid: str) -> Path:
    return area.claims / f"gpu-{uuid}.{os.getuid()}.json"


def read(area: Area, uuid: str) -> list[Holder]:
    """Return the records of a GPU, newest first: one a user at most. What cannot be read is left out."""
    found = [h for path in area.claims.glob(f"gpu-{_escaped(uuid)}.*.json") if (h := _read(path)) is not None]
    return sorted(found, key=lambda h: -h.since)


def _escaped(text: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _read(path: Path) -> Holder | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, encoding="utf-8") as file:
            return _holder(json.load(file), os.fstat(fd).st_uid)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _holder(data: Mapping[str, Any], uid: int) -> Holder:
    until = data["until"]
    device, inode = data["lock"]
    return Holder(
        uid=uid,
        run=str(data["run"]),
        step=str(data["step"]),
        stage=str(data["stage"]),
        since=float(data["since"]),
        until=None if until is None else float(until),
        lock=(int(device), int(inode)),
        processes=tuple(Identity.from_json(p) for p in data["processes"]),
    )


def of(area: Area, uuid: str) -> Holder | None:
    """Return who probably holds a taken GPU: the record of living processes, else the newest one."""
    records = read(area, uuid)
    return next((r for r in records if r.is_alive), records[0] if records else None)


def of_another_file(area: Area, uuid: str, fd: int | None = None) -> Holder | None:
    """Return a living holder whose lock was another file than the one under this name (or open as `fd`).

    Somebody replaced the lock under them, so that the new one being free means nothing.
    """
    try:
        facts = os.stat(area.gpu_lock(uuid)) if fd is None else os.fstat(fd)
    except FileNotFoundError:
        return next((r for r in read(area, uuid) if r.is_alive), None)
    now = (facts.st_dev, facts.st_ino)
    return next((r for r in read(area, uuid) if r.lock != now and r.is_alive), None)
