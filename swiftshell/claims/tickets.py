"""Tickets: who waits for GPUs. One file each, written once; it is alive while its owner holds the file's own lock.

A ticket whose owner died is free to be locked and counts for nothing, whoever has its process number by now. Order is by
the clock since boot, which nobody can set back.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.claims.area import Area
from swiftshell.machine.processes import user_name
from swiftshell.run import identity

PRIORITIES = ("interactive", "normal", "low")


@dataclass(frozen=True)
class Want:
    """What somebody asks for, and for what.

    Attributes:
        gpus: how many.
        allowed: UUIDs to choose from; empty means all of the machine.
        expected_s: how long it will probably take, None if nobody knows.
    """

    run: str
    step: str
    stage: str
    gpus: int
    allowed: tuple[str, ...] = ()
    priority: str = "normal"
    expected_s: float | None = None


@dataclass(frozen=True)
class Ticket:
    """A want in the queue. `submitted_s` counts from boot; `uid` is the file's owner, whatever the file says."""

    name: str
    want: Want
    uid: int
    pid: int
    submitted_s: float
    mine: bool = field(default=False, compare=False)

    @property
    def user(self) -> str:
        return user_name(self.uid)

    def may_use(self, uuid: str) -> bool:
        """Tell whether a GPU is among those the ticket may be given."""
        return not self.want.allowed or uuid in self.want.allowed


class OwnTicket:
    """A ticket this process wrote and keeps alive."""

    def __init__(self, path: Path, fd: int, ticket: Ticket) -> None:
        self.ticket = ticket
        self.fd = fd
        self._path = path

    def close(self) -> None:
        """Leave the queue."""
        if self.fd < 0:
            return
        with suppress(OSError):
            self._path.unlink()
        os.close(self.fd)
        self.fd = -1


def now_s() -> float:
    """Return the seconds since boot, sleep included: the clock of the queue."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def write(area: Area, want: Want) -> OwnTicket:
    """Join the queue.

    Raises:
        OSError: the ticket cannot be written.
    """
    sweep(area)
    submitted_s = now_s()
    name = f"{round(submitted_s * 1e9):020d}-{os.getuid()}-{secrets.token_hex(4)}.json"
    temporary, path = area.tickets / f".{name}", area.tickets / name
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        os.fchmod(fd, 0o644)  # colleagues read it, whatever the umask says
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(fd, json.dumps(_content(want, submitted_s), ensure_ascii=False).encode())
        os.rename(temporary, path)
    except OSError:
        os.close(fd)
        with suppress(OSError):
            temporary.unlink()
        raise
    return OwnTicket(path, fd, Ticket(name, want, os.getuid(), os.getpid(), submitted_s, mine=True))


def _content(want: Want, submitted_s: float) -> dict[str, Any]:
    return {"v": 1, "run": want.run, "step": want.step, "stage": want.stage, "gpus": want.gpus,
            "allowed": list(want.allowed), "priority": want.priority, "expected_s": want.expected_s,
            "submitted_s": submitted_s, **identity.mine().as_json()}  # fmt: skip


class Queue:
    """The tickets of an area as they are now. What a ticket says never changes, so each is read once."""

    def __init__(self, area: Area) -> None:
        self._folder = os.fspath(area.tickets)
        self._boot_id = identity.boot_id()
        self._read: dict[str, Ticket | None] = {}

    def alive(self, own: OwnTicket | None = None) -> list[Ticket]:
        """Return the tickets whose owners live, in order of submission. `own` is this process's, alive by definition.

        Raises:
            OSError: the folder cannot be read.
        """
        try:
            entries = os.listdir(self._folder)
        except FileNotFoundError:  # nobody ever waited here
            return []
        names = sorted(n for n in entries if n.endswith(".json") and not n.startswith("."))
        self._read = {name: self._read[name] for name in names if name in self._read}
        found = []
        for name in names:
            if own is not None and name == own.ticket.name:
                found.append(own.ticket)
            elif (ticket := self._ticket(name)) is not None and _is_locked(f"{self._folder}/{name}"):
                found.append(ticket)
        return sorted(found, key=lambda t: (t.submitted_s, t.name))

    def _ticket(self, name: str) -> Ticket | None:
        if name not in self._read:
            self._read[name] = _parse(f"{self._folder}/{name}", self._boot_id)
        return self._read[name]


def _parse(path: str, boot_id: str) -> Ticket | None:
    """Return a ticket, None if it is none: garbage in the folder must not stop the queue."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, encoding="utf-8") as file:
            uid = os.fstat(fd).st_uid
            data = json.load(file)
        if data["boot_id"] != boot_id:
            return None
        return Ticket(os.path.basename(path), _want(data), uid, int(data["pid"]), float(data["submitted_s"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _want(data: Mapping[str, Any]) -> Want:
    expected, priority = data.get("expected_s"), str(data.get("priority"))
    return Want(
        run=str(data["run"]),
        step=str(data["step"]),
        stage=str(data["stage"]),
        gpus=max(1, int(data["gpus"])),
        allowed=tuple(str(u) for u in data.get("allowed") or ()),
        priority=priority if priority in PRIORITIES else "normal",
        expected_s=None if expected is None else float(expected),
    )


def _is_locked(path: str) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:  # no descriptor left, say: unknown is not "dead"
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def sweep(area: Area) -> None:
    """Remove what this user's dead processes left. Other users' dead tickets are theirs to remove, and count for nothing."""
    try:
        names = os.listdir(area.tickets)
    except OSError:
        return
    for name in names:
        path = area.tickets / name
        try:
            facts = path.lstat()
            young = time.time() - facts.st_ctime < 60.0  # being written
            if facts.st_uid == os.geteuid() and not (young and name.startswith(".")) and not _is_locked(os.fspath(path)):
                path.unlink()
        except OSError:
            continue
