"""What each user had of the GPUs lately: a ledger per user, old use counting less and less.

Every user writes their own ledger, so the order that comes of it is an agreement among colleagues and no defence against
one who forges it. A runner that is killed leaves its step's use unwritten.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from swiftshell.claims.area import Area
from swiftshell.claims.tickets import Want

HALF_LIFE_S = 7 * 24 * 3600.0
_TAIL_BYTES = 256 * 1024


def record(area: Area, want: Want, gpus: int, since: float) -> None:
    """Add what a step had to this user's ledger. Nothing depends on one line, so a full disk is no error here."""
    now = time.time()
    line = {"v": 1, "t": round(now, 3), "gpu_s": round(max(0.0, now - since) * gpus, 3), "gpus": gpus,
            "stage": want.stage, "run": want.run, "step": want.step}  # fmt: skip
    with suppress(OSError):
        area.usage.mkdir(mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(_path(area, os.getuid()), flags, 0o644)
        try:
            os.fchmod(fd, 0o644)  # colleagues read it, whatever the umask says
            os.write(fd, (json.dumps(line, ensure_ascii=False) + "\n").encode())
        finally:
            os.close(fd)


def _path(area: Area, uid: int) -> Path:
    return area.usage / f"{uid}.jsonl"


class Ledgers:
    """The ledgers of an area, each read again only when it has grown."""

    def __init__(self, area: Area) -> None:
        self._area = area
        self._read: dict[int, tuple[tuple[int, int], list[tuple[float, float]]]] = {}

    def hours(self, uids: Iterable[int]) -> dict[int, float]:
        """Return the GPU-hours of users, halved for every week that has passed since."""
        now = time.time()
        return {uid: sum(gpu_s * 0.5 ** (max(0.0, now - t) / HALF_LIFE_S) for t, gpu_s in self._of(uid)) / 3600
                for uid in set(uids)}  # fmt: skip

    def _of(self, uid: int) -> list[tuple[float, float]]:
        path = _path(self._area, uid)
        try:
            facts = path.lstat()
        except OSError:
            return []
        mark = facts.st_mtime_ns, facts.st_size
        if uid not in self._read or self._read[uid][0] != mark:
            mine = facts.st_uid == uid  # what others say about somebody's use counts for nothing
            self._read[uid] = mark, _entries(path) if mine else []
        return self._read[uid][1]


def _entries(path: Path) -> list[tuple[float, float]]:
    """Return time and GPU-seconds of the lines that can be read, from the end of the file."""
    found = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(fd, "rb") as file:
            file.seek(max(0, os.fstat(fd).st_size - _TAIL_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            entry = json.loads(line)
            found.append((float(entry["t"]), max(0.0, float(entry["gpu_s"]))))
        except (ValueError, KeyError, TypeError):
            continue
    return found
