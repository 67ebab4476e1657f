"""Count the rows of JSON-lines files piece by piece, by several processes where that pays, and add up in order.

A piece is a range of bytes, to the end of the line that its last byte lies in. Pieces are cut and added up the same way
whoever counts them, so that the report does not depend on the number of processes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from swiftshell.data.jsonlines import JsonLines
from swiftshell.data.judge import Judge, Task
from swiftshell.data.stretch import Stretch
from swiftshell.data.tables import unreadable

Progress = Callable[[int, int], None]  # bytes done, bytes in all

_PIECE_BYTES = 8 << 20
_FIRST_PIECE_BYTES = 1 << 18  # the first problems are to be seen soon
_PARALLEL_BYTES = 48 << 20  # below this starting processes takes longer than it saves
_MOST_PROCESSES = 8


@dataclass(frozen=True)
class Piece:
    """A range of bytes of a file, and the keys that its rows are watched for (see `JsonLines`)."""

    file: Path
    start: int
    end: int
    watched: tuple[bytes, ...]


def pieces_of(files: list[Path]) -> list[Piece]:
    """Cut files into pieces."""
    found: list[Piece] = []
    for file in files:
        size, start, watched = file.stat().st_size, 0, _watched(file)
        while start < size:
            end = min(size, start + (_PIECE_BYTES if found else _FIRST_PIECE_BYTES))
            found.append(Piece(file, start, end, watched))
            start = end
    return found


def usual_processes(size: int) -> int:
    """Return by how many processes so many bytes are counted: as many as this one may use cores, if that pays."""
    if size < _PARALLEL_BYTES or not sys.executable or sys.platform == "win32":
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, _MOST_PROCESSES)


def count_pieces(
    task: Task, pieces: list[Piece], processes: int, progress: Progress | None = None
) -> Iterator[tuple[Piece, Stretch]]:
    """Yield what was counted of every piece, in order; places in it begin with the piece."""
    total, done = sum(piece.end - piece.start for piece in pieces), 0
    counted = _by_many(task, pieces, processes) if processes > 1 else _by_one(task, pieces)
    for piece, stretch in counted:
        done += piece.end - piece.start
        yield piece, stretch
        if progress is not None:
            progress(done, total)


def _by_one(task: Task, pieces: list[Piece]) -> Iterator[tuple[Piece, Stretch]]:
    judge = Judge(task)
    for piece in pieces:
        yield piece, count_piece(judge, piece)


def _by_many(task: Task, pieces: list[Piece], processes: int) -> Iterator[tuple[Piece, Stretch]]:
    # What starts processes takes longer to import than a small file takes to check.
    from swiftshell.data.helpers import HelpersLost, count_in_helpers

    try:
        yield from zip(pieces, count_in_helpers(task, pieces, processes), strict=True)
    except HelpersLost as lost:
        yield from _by_one(task, pieces[lost.done :])


def count_piece(judge: Judge, piece: Piece) -> Stretch:
    """Return what was counted of a piece; a file that cannot be read any more is a problem of its own."""
    lines = JsonLines(str(piece.file), judge.complain, piece.watched, at_top=piece.start == 0)
    try:
        with piece.file.open("rb", buffering=1 << 20) as file:
            for row in lines.rows(_lines(file, piece.start, piece.end)):
                judge.look(row)
    except OSError as error:
        judge.complain(unreadable(piece.file, error))
    stretch = judge.end()
    stretch.lines, stretch.row_numbers = lines.line, lines.number
    return stretch


def _lines(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    """Yield the lines that begin in a range of bytes."""
    at = 0
    if start:
        file.seek(start - 1)
        at = start - 1 + len(file.readline())
    while at < end:
        raw = file.readline()
        if not raw:
            return
        at += len(raw)
        yield raw


def _watched(file: Path) -> tuple[bytes, ...]:
    with file.open("rb") as source:
        lines = JsonLines(str(file), lambda problem: None)
        next(lines.rows(source), None)
    return lines.watched
