"""Append finished rows to a file so that a killed step goes on where it stopped.

One JSON object a line. The first line says what the rows belong to; a file that belongs to something else, and a torn
last line, are dropped on opening.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def key_of(*parts: Any) -> str:
    """Return a short hash of everything that decides a row's result."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]


class RowLog:
    """Rows finished so far, in memory and on disk; what `append` returned from survives a kill -9.

    Attributes:
        rows: every row on disk, in the order in which they were appended.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.rows: list[dict[str, Any]] = []
        whole_bytes = self._read(path, key)
        self._file = path.open("r+b" if whole_bytes else "wb")
        self._file.truncate(whole_bytes)
        self._file.seek(whole_bytes)
        if not whole_bytes:
            self._write([{"key": key}])

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows in one durable write."""
        added = [dict(row) for row in rows]
        self._write(added)
        self.rows += added

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, rows: list[dict[str, Any]]) -> None:
        self._file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode("utf-8"))
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self, path: Path, key: str) -> int:
        """Read the whole lines of an earlier attempt and return how many bytes they take; 0 means start afresh."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return 0
        taken = 0
        for number, line in enumerate(data.splitlines(keepends=True)):
            try:
                row = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                row = None
            if not isinstance(row, dict) or (number == 0 and row.get("key") != key):
                break
            taken += len(line)
            if number:
                self.rows.append(row)
        return taken
