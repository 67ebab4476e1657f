"""Count pieces of files in processes of their own.

The processes are started afresh, not copied: a copy of a process whose libraries run threads (tokenizers, MinHash) waits
for ever for threads that were not copied. They end with the one that started them, whose end of the line then closes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from swiftshell.errors import SwiftshellError

if TYPE_CHECKING:
    from swiftshell.data.judge import Task
    from swiftshell.data.scan import Piece
    from swiftshell.data.stretch import Stretch

_MODULE = "swiftshell.data.helpers"
_AHEAD = 2  # pieces that may be counted before the one whose turn it is, for each process


class HelpersLost(Exception):
    """Say that a process ended before its work, and how many pieces were yielded until then."""

    def __init__(self, done: int) -> None:
        self.done = done
        super().__init__(done)


def count_in_helpers(task: Task, pieces: Sequence[Piece], processes: int) -> Iterator[Stretch]:
    """Yield what was counted of every piece, in order.

    Raises:
        SwiftshellError: what a process raised.
        HelpersLost: a process was killed, most likely for memory.
    """
    children: list[subprocess.Popen[bytes]] = []
    lines: list[Connection] = []
    yielded = 0
    try:
        for _ in range(processes):
            child, line = _start()
            children.append(child)
            lines.append(line)
            line.send(task)
        for stretch in _deal(pieces, lines):
            yield stretch
            yielded += 1
    except (EOFError, OSError):
        raise HelpersLost(yielded) from None
    finally:
        for line in lines:
            line.close()
        for child in children:
            child.kill()
            child.wait()


def _deal(pieces: Sequence[Piece], lines: list[Connection]) -> Iterator[Stretch]:
    """Give each process the next piece when it has none, and yield results in the order of the pieces."""
    free, busy = list(lines), dict[Connection, int]()
    counted: dict[int, Stretch] = {}
    given = told = 0
    while told < len(pieces):
        while free and given < len(pieces) and given - told < _AHEAD * len(lines):
            line = free.pop()
            line.send(pieces[given])
            busy[line] = given
            given += 1
        for ready in wait(list(busy)):
            assert isinstance(ready, Connection)
            found = ready.recv()
            if isinstance(found, list):
                raise SwiftshellError(found)
            counted[busy.pop(ready)] = found
            free.append(ready)
        while told in counted:
            yield counted.pop(told)
            told += 1


def _start() -> tuple[subprocess.Popen[bytes], Connection]:
    ours, theirs = socket.socketpair()
    package = str(Path(__file__).parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TOKENIZERS_PARALLELISM": "false"}
    with theirs:
        child = subprocess.Popen(
            [sys.executable, "-m", _MODULE, str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is the first process's to answer
            env=environment,
        )
    return child, Connection(ours.detach())


def serve(line: Connection) -> None:
    """Count pieces as they come, until the line closes."""
    from swiftshell.data.judge import Judge
    from swiftshell.data.scan import count_piece

    try:
        judge = Judge(line.recv())
        while True:
            piece = line.recv()
            try:
                line.send(count_piece(judge, piece))
            except SwiftshellError as error:
                line.send(list(error.problems))
    except (EOFError, OSError):
        return


if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])))
