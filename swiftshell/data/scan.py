"""Count the rows of JSON-lines files piece by piece, by several processes where that pays, and add up in order.

A piece is a range of bytes, to the end of the line that its last byte lies in. Pieces are cut and added up the same way
whoever counts them, so that the report does not depend on the number of processes.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from swiftshell.data.jsonlines import JsonLines
from swiftshell.data.judge import Judge, Task
from swiftshell.data.stretch import Stretch

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
    found = []
    for file in files:
        size, start, watched = file.stat().st_size, 0, _watched(file)
        while start < size:
            end = min(size, start + (_PIECE_BYTES if found else _FIRST_PIECE_BYTES))
            found.append(Piece(file, start, end, watched))
            start = end
    return found


def usual_processes(size: int) -> int:
    """Return by how many processes so many bytes are counted: as many as this one may use cores, if that pays."""
    # A copy of a process with threads may wait for ever for a lock that one of them held.
    if size < _PARALLEL_BYTES or sys.platform != "linux" or threading.active_count() > 1:
        return 1
    return min(len(os.sched_getaffinity(0)), _MOST_PROCESSES)


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
        yield piece, _count(judge, piece)


def _by_many(task: Task, pieces: list[Piece], processes: int) -> Iterator[tuple[Piece, Stretch]]:
    # What starts processes takes longer to import than a small file takes to check.
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    done = 0
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(task,))
    try:
        waiting: deque[tuple[Piece, Any]] = deque()
        for piece in pieces:
            waiting.append((piece, pool.submit(_count_here, piece)))
            if len(waiting) > 2 * processes:
                first, future = waiting.popleft()
                yield first, future.result()
                done += 1
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
            done += 1
    except BrokenProcessPool:  # one of them was killed, most likely for memory: what is left is counted here
        yield from _by_one(task, pieces[done:])
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_judge: Judge | None = None  # of a process that counts


def _start(task: Task) -> None:
    global _judge
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the first process's to answer
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are what runs at the same time
    _judge = Judge(task)


def _count_here(piece: Piece) -> Stretch:
    assert _judge is not None
    return _count(_judge, piece)


def _count(judge: Judge, piece: Piece) -> Stretch:
    with piece.file.open("rb", buffering=1 << 20) as file:
        lines = JsonLines(str(piece.file), judge.complain, piece.watched, at_top=piece.start == 0)
        for row in lines.rows(_lines(file, piece.start, piece.end)):
            judge.look(row)
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
