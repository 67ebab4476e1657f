"""Keep a reference's log-probabilities on disk, one SQLite file for each reference.

The file is shared by processes and survives their death: short transactions with SQLite's rollback journal. It may be
missing, damaged, not writable or deleted at any time, and then costs time and nothing else. Every number carries a
checksum, because a flipped bit in it would train on, unseen.
"""

from __future__ import annotations

import os
import sqlite3
import struct
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from swiftshell.stages.base import Context

LIMIT_BYTES = 2 << 30  # of all references together; those used longest ago go first
COMMIT_S = 3.0  # an interrupted computation loses no more than this
_BUSY_S = 10.0
_AT_ONCE = 500  # keys in one query
_TABLE = (
    "CREATE TABLE IF NOT EXISTS logps (sequence BLOB PRIMARY KEY, logp REAL, checksum INTEGER) WITHOUT ROWID"
)


class _Damaged(Exception):
    """What the file says is not what was written."""


class Store:
    """The remembered numbers of one reference; one that cannot be opened remembers nothing."""

    def __init__(self, path: Path, ctx: Context) -> None:
        self.path, self._ctx = path, ctx
        self._pending: dict[bytes, float] = {}
        self._committed = time.monotonic()
        self._database: sqlite3.Connection | None = None
        self._connect()

    @classmethod
    def open(cls, cache: Path, key: str, ctx: Context) -> Store:
        """Open a reference's file in the workspace's cache folder; `key` names the reference."""
        return cls(cache / "reference" / f"{key}.sqlite", ctx)

    def read(self, sequences: Iterable[bytes]) -> dict[bytes, float]:
        """Return what is known of these sequences; a damaged file is set aside and nothing is known."""
        wanted, found = list(sequences), {}
        try:
            for at in range(0, len(wanted), _AT_ONCE):
                found.update(self._rows(wanted[at : at + _AT_ONCE]))
        except sqlite3.OperationalError:  # locked for too long, or the disk fails
            return {}
        except (sqlite3.DatabaseError, _Damaged):
            self._set_aside()
            return {}
        return found

    def add(self, found: Mapping[bytes, float]) -> None:
        """Remember numbers; they are written every `COMMIT_S` seconds and on `close`."""
        self._pending.update({k: v for k, v in found.items() if v - v == 0})  # not NaN or infinite
        if time.monotonic() - self._committed >= COMMIT_S:
            self._commit()

    def forget(self) -> None:
        """Delete everything known of this reference."""
        self._disconnect()
        self._pending.clear()
        for path in (self.path, _journal(self.path)):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        self._connect()

    def close(self) -> None:
        """Write what is pending, and drop the files used longest ago if all of them are too large together."""
        self._commit()
        self._disconnect()
        with suppress(OSError):
            os.utime(self.path)  # used now
            _drop_oldest(self.path)

    def _connect(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = self._opened()
        except (sqlite3.OperationalError, OSError):  # not writable, or no room
            self._database = None
        except sqlite3.DatabaseError:
            self._set_aside()

    def _opened(self) -> sqlite3.Connection:
        database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
        try:
            database.execute("PRAGMA synchronous = NORMAL")
            database.execute(_TABLE)
        except sqlite3.Error:
            database.close()
            raise
        return database

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
        self._database = None

    def _rows(self, part: list[bytes]) -> dict[bytes, float]:
        if self._database is None:
            return {}
        query = f"SELECT sequence, logp, checksum FROM logps WHERE sequence IN ({','.join('?' * len(part))})"
        rows = self._database.execute(query, part).fetchall()
        if any(
            not isinstance(logp, float) or _checksum(sequence, logp) != check
            for sequence, logp, check in rows
        ):
            raise _Damaged
        return {sequence: logp for sequence, logp, _ in rows}

    def _commit(self) -> None:
        """Write what is pending in one transaction. What cannot be written now is tried again with the next."""
        self._committed = time.monotonic()
        if not self._pending or self._database is None:
            return
        rows = [(sequence, logp, _checksum(sequence, logp)) for sequence, logp in self._pending.items()]
        try:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR REPLACE INTO logps VALUES (?, ?, ?)", rows)
            self._database.execute("COMMIT")
        except sqlite3.OperationalError:
            with suppress(sqlite3.Error):
                self._database.execute("ROLLBACK")
            return
        except sqlite3.DatabaseError:
            self._set_aside()
            return
        self._pending.clear()

    def _set_aside(self) -> None:
        """Rename a damaged file, for whoever wants to look at it, and begin a new one."""
        self._disconnect()
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            os.replace(self.path, aside)
            _journal(self.path).unlink(missing_ok=True)  # it would be played back into the new file
            self._ctx.note("batches.reference_cache_damaged", file=str(self.path), aside=aside.name)
            self._database = self._opened()
        except (OSError, sqlite3.Error):
            self._database = None


def _journal(path: Path) -> Path:
    return path.with_name(path.name + "-journal")


def _checksum(sequence: bytes, logp: float) -> int:
    return zlib.crc32(sequence + struct.pack("<d", logp))


def _drop_oldest(kept: Path) -> None:
    """Delete the files used longest ago, never `kept`, until all of them fit `LIMIT_BYTES`."""
    files = [(p, p.stat()) for p in kept.parent.iterdir() if p.name.endswith((".sqlite", ".damaged"))]
    total = sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda f: f[1].st_mtime_ns):
        if total <= LIMIT_BYTES:
            return
        if path != kept:
            path.unlink(missing_ok=True)
            total -= stat.st_size
