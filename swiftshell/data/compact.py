"""Remember something of every row in a few bytes: numbers in arrays that go to disk when they grow, places as runs."""

from __future__ import annotations

import bisect
import heapq
import tempfile
from array import array
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

_HELD_BYTES = 64 << 20  # a column of numbers keeps no more than this in memory
_CHUNK_ITEMS = 1 << 17
_KEYS_PER_PASS = 1 << 20  # a set of so many keys takes about 70 MB


class Numbers:
    """A column of numbers of one array type; what is too much for memory goes to a file that nobody else sees."""

    def __init__(self, typecode: str, held_bytes: int = _HELD_BYTES) -> None:
        self._typecode = typecode
        self._held_bytes = held_bytes
        self._held: array[Any] = array(typecode)
        self._file: IO[bytes] | None = None
        self._spilled = 0

    def __len__(self) -> int:
        return self._spilled + len(self._held)

    def __getitem__(self, at: int) -> Any:
        return self._held[at - self._spilled] if at >= self._spilled else self.slice(at, 1)[0]

    def slice(self, at: int, number: int) -> array[Any]:
        """Return some numbers that follow each other and were appended together."""
        if at >= self._spilled:
            return self._held[at - self._spilled : at - self._spilled + number]
        assert self._file is not None
        found: array[Any] = array(self._typecode)
        self._file.seek(at * found.itemsize)
        found.frombytes(self._file.read(number * found.itemsize))
        return found

    def extend(self, more: array[Any]) -> None:
        """Append numbers."""
        self._held.extend(more)
        if len(self._held) * self._held.itemsize > self._held_bytes:
            self._spill()

    def chunks(self) -> Iterator[array[Any]]:
        """Yield all numbers in order, a bounded part at a time."""
        at = 0
        while at < self._spilled:
            part = self.slice(at, min(_CHUNK_ITEMS, self._spilled - at))
            at += len(part)
            yield part
        for start in range(0, len(self._held), _CHUNK_ITEMS):
            yield self._held[start : start + _CHUNK_ITEMS]

    def _spill(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="swiftshell-")  # noqa: SIM115 - lives as long as the column
            self._file.seek(self._spilled * self._held.itemsize)
            self._held.tofile(self._file)
        except OSError:
            return  # no room on the disk: memory then, as long as it lasts
        self._spilled += len(self._held)
        self._held = array(self._typecode)


def repeated(keys: Numbers) -> Iterator[tuple[int, int]]:
    """Yield (position, first position) of every key that stood before; in order within each part of the keys.

    Keys are looked at in as many parts, by their value, as keep the memory flat.
    """
    parts = max(1, -(-len(keys) // _KEYS_PER_PASS))
    for part in range(parts):
        mine = (lambda chunk: chunk) if parts == 1 else (lambda chunk, p=part: [k for k in chunk if k % parts == p])
        seen: set[int] = set()
        twice: set[int] = set()
        for chunk in keys.chunks():
            for key in mine(chunk):
                if key in seen:
                    twice.add(key)
                else:
                    seen.add(key)
        del seen
        if twice:
            yield from _positions(keys, twice)


def _positions(keys: Numbers, twice: set[int]) -> Iterator[tuple[int, int]]:
    first: dict[int, int] = {}
    start = 0
    for chunk in keys.chunks():
        for at, key in enumerate(chunk, start):
            if key in twice:
                if key in first:
                    yield at, first[key]
                else:
                    first[key] = at
        start += len(chunk)


class Place(NamedTuple):
    """Where a row stands: its file, its number there, and its line where the format has lines."""

    file: str
    number: int
    line: int | None


class Places:
    """The place of every converted row, by its position; neighbours in the file cost nothing."""

    def __init__(self) -> None:
        self._files: list[str] = []
        self._starts = array("q")  # position of the first row of each run
        self._runs = array("q")  # four numbers a run: file, number, line (-1: none), rows made of one
        self.rows = 0
        self._next: tuple[str, int, int, int] | None = None  # file, number, line offset, made: of a row that goes on

    def add(self, file: str, number: int, line: int | None, made: int = 1) -> None:
        """Remember the place of a source row that became `made` rows."""
        away = -1 if line is None else line - number
        if self._next != (file, number, away, made):
            self.start(file, number, line, made)
        self._next = (file, number + 1, away, made)
        self.rows += made

    def start(self, file: str, number: int, line: int | None, made: int = 1) -> None:
        """Begin a run at the present position."""
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        self._starts.append(self.rows)
        self._runs.extend((len(self._files) - 1, number, -1 if line is None else line, made))

    def join(self, other: Places, rows_before: int, lines_before: int) -> None:
        """Append the places of a later stretch, which counted rows and lines from its own beginning."""
        base = len(self._files)
        self._files.extend(other._files)
        self._starts.extend(array("q", [self.rows + start for start in other._starts]))
        for at in range(0, len(other._runs), 4):
            file, number, line, made = other._runs[at : at + 4]
            self._runs.extend((base + file, number + rows_before, line if line < 0 else line + lines_before, made))
        self.rows += other.rows
        self._next = None

    def __getitem__(self, position: int) -> Place:
        run = bisect.bisect_right(self._starts, position) - 1
        file, number, line, made = self._runs[4 * run : 4 * run + 4]
        on = (position - self._starts[run]) // made
        return Place(self._files[file], number + on, None if line < 0 else line + on)


class Earliest:
    """Count things, and keep the few that stand first, whatever the order in which they come."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.number = 0
        self._kept: list[tuple[int, Any]] = []

    def add(self, position: int, value: Any) -> None:
        """Count one."""
        self.number += 1
        self._kept.append((position, value))
        if len(self._kept) >= 64 * self._most:
            self._kept = heapq.nsmallest(self._most, self._kept, key=lambda kept: kept[0])

    def first(self) -> list[tuple[int, Any]]:
        """Return the first few, by position."""
        return heapq.nsmallest(self._most, self._kept, key=lambda kept: kept[0])
