"""Name a process so that a reused process number is never mistaken for it. Standard library only.

A number alone is reused sooner or later. Together with the start time the kernel keeps for it (clock ticks since boot)
and the boot it belongs to, it is not.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_ZOMBIE = ("Z", "X", "x")


@dataclass(frozen=True)
class Identity:
    """A process: its number, its start in clock ticks since boot, and the boot."""

    pid: int
    starttime: int
    boot_id: str

    def as_json(self) -> dict[str, Any]:
        """Return the fields as the records hold them."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Identity:
        """Read a record.

        Raises:
            ValueError: a field is missing or is not what it should be.
        """
        try:
            return cls(int(data["pid"]), int(data["starttime"]), str(data["boot_id"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no process identity: {error}") from error


def boot_id() -> str:
    """Return the id the kernel chose at this boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def of(pid: int) -> Identity | None:
    """Return the identity of a process, or None if there is none with this number (a zombie counts as none)."""
    fields = _stat(pid)
    return None if fields is None else Identity(pid, int(fields[19]), boot_id())


def mine() -> Identity:
    """Return this process's own identity."""
    found = of(os.getpid())
    assert found is not None, "a running process has an identity"
    return found


def alive(identity: Identity) -> bool:
    """Tell whether exactly this process still runs."""
    return identity.pid > 0 and of(identity.pid) == identity


def open_verified(identity: Identity) -> int | None:
    """Return a pidfd that refers to exactly this process, or None if it is gone.

    The pidfd is opened first and the identity read afterwards: were the number reused in between, the start time would
    differ.

    Raises:
        OSError: this kernel has no pidfd (before 5.3), or the limit of open files is reached.
    """
    if identity.pid <= 0:
        return None
    try:
        fd = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return None
    if alive(identity):
        return fd
    os.close(fd)
    return None


def owner(pid: int) -> int | None:
    """Return the user id a process runs as, or None if it is gone."""
    try:
        return os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None


def recorded_by_us(record: Path) -> bool:
    """Tell whether a record file belongs to this user.

    In a folder that others may write to, anyone could name one of our processes; only our own records are acted upon.
    """
    try:
        return os.stat(record).st_uid == os.geteuid()
    except OSError:
        return False


def send(identity: Identity, number: signal.Signals) -> bool:
    """Signal exactly this process if it is ours; return whether it was signalled."""
    fd = open_verified(identity)
    if fd is None:
        return False
    try:
        if owner(identity.pid) != os.geteuid():
            return False
        signal.pidfd_send_signal(fd, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def group_members(pgid: int, since: int) -> list[Identity]:
    """Return this user's processes of a group that started at `since` (clock ticks) or later."""
    found = []
    for name in os.listdir("/proc"):
        fields = _stat(int(name)) if name.isdigit() else None
        if fields is None or int(fields[2]) != pgid or int(fields[19]) < since or owner(int(name)) != os.geteuid():
            continue
        found.append(Identity(int(name), int(fields[19]), boot_id()))
    return found


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat after the name (state first), or None if it is gone or a zombie.

    The name stands in parentheses and may hold spaces and parentheses of its own, so reading starts after the last one.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2:].split()
    return None if fields[0] in _ZOMBIE else fields
