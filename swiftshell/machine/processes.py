"""Say who a process is, from /proc: its user, its command's name, when it started, its ancestors.

Only the name of the command is ever read, never its arguments: those may hold somebody's token.
"""

from __future__ import annotations

import os
import pwd
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_MOST_ANCESTORS = 64


@dataclass(frozen=True)
class Process:
    """A process as this user may see it. `since` is in seconds since the epoch."""

    pid: int
    uid: int
    user: str
    command: str
    since: float
    parent: int


def look(pid: int) -> Process | None:
    """Return what is known of a process, None if it is gone or hidden from this user."""
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    name, fields = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
    return Process(pid, uid, user_name(uid), name, _since(int(fields[19])), int(fields[1]))


def ancestors(pid: int) -> Iterator[int]:
    """Yield a process's number and those of its parents, upwards."""
    for _ in range(_MOST_ANCESTORS):
        if pid <= 0:
            return
        yield pid
        found = look(pid)
        if found is None:
            return
        pid = found.parent


def user_name(uid: int) -> str:
    """Return the name of a user, or the number where the system knows no name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _since(ticks: int) -> float:
    """Return the time of day of a moment in clock ticks since boot (right also after the clock was set)."""
    running_s = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _ticks_per_s()
    return time.time() - running_s


@cache
def _ticks_per_s() -> int:
    return os.sysconf("SC_CLK_TCK")
