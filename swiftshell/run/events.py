"""Append and follow a step's events: one JSON object a line, readable while it grows.

Kinds: `phase` {name}, `progress` {done, total, unit}, `metric` {name, value, step}, `checkpoint` {path, step},
`note` and `warning` {code, values}, `attempt` {number}. Every line has `t` (seconds since the epoch).
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class EventWriter:
    """Append events; progress lines are thinned to a few a second so that a fast loop does not fill the disk."""

    PROGRESS_INTERVAL_S = 0.2

    def __init__(self, path: Path) -> None:
        torn = _ends_torn(path)
        self._file = path.open("a", encoding="utf-8", buffering=1)
        self._last_progress_s = 0.0
        if torn:  # or this attempt's first event would be glued to it and lost with it
            self._file.write("\n")

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event. A full disk must not end a training run, so errors are dropped here and only here."""
        try:
            self._file.write(json.dumps({"t": round(time.time(), 3), "kind": kind, **fields}, ensure_ascii=False,
                                        default=str) + "\n")
        except OSError:
            return

    def progress(self, done: float, total: float | None, unit: str) -> None:
        """Append a progress line unless one was written a moment ago; the last one of a phase always lands."""
        now = time.monotonic()
        if now - self._last_progress_s < self.PROGRESS_INTERVAL_S and not (total is not None and done >= total):
            return
        self._last_progress_s = now
        self.write("progress", done=done, total=total, unit=unit)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _ends_torn(path: Path) -> bool:
    """Tell whether a killed attempt left half a line at the end."""
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                return False
            file.seek(-1, 2)
            return file.read(1) != b"\n"
    except FileNotFoundError:
        return False


def read_events(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the whole lines after byte `offset` and the offset to go on from; a torn last line waits.

    Lines that are not JSON (a crash in the middle of a write, followed by a new attempt) are left out.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            data = file.read()
    except FileNotFoundError:
        return [], offset
    end = data.rfind(b"\n") + 1
    return list(_parse(data[:end])), offset + end


def _parse(data: bytes) -> Iterator[dict[str, Any]]:
    for line in data.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event
