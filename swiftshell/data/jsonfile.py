"""Read a JSON array of rows as a stream: the file may be larger than memory, and every row knows its line.

Accepted tops: `[row, …]`, an object around such a list (`{"data": [row, …], …}`, or under one of the other keys
of `_WRAPPERS`), and a single object, which is one row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TextIO

from swiftshell.data.row import shown

_CHUNK_CHARS = 1 << 20
_WRAPPERS = ("data", "rows", "train", "examples", "instances")
_SPACE = " \t\r\n"


class JsonFault(Exception):
    """Say that the text is not JSON, and where (line and column count from 1)."""

    def __init__(self, message: str, line: int, column: int, excerpt: str) -> None:
        self.message = message
        self.line = line
        self.column = column
        self.excerpt = excerpt
        super().__init__(message)


class JsonCursor:
    """Decode one value after the other from a text file, keeping no more than the present value in memory."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._decoder = json.JSONDecoder()
        self._buffer = ""
        self._at = 0
        self._ended = False
        self._line = 1  # of self._buffer[0]
        self._counted = 0  # newlines are counted up to here
        self._newlines = 0

    def peek(self) -> str:
        """Return the next character that is not white space, or an empty string at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if not self._fill():
                return ""

    def take(self, wanted: str) -> None:
        """Step over one expected character.

        Raises:
            JsonFault: something else stands there.
        """
        if self.peek() != wanted:
            raise self._fault(f"expected '{wanted}'", self._at)
        self._at += 1

    def end(self) -> None:
        """Make sure that nothing follows.

        Raises:
            JsonFault: more text follows.
        """
        if self.peek():
            raise self._fault("text after the end", self._at)

    def value(self) -> Any:
        """Decode the value that starts here.

        Raises:
            JsonFault: it is not JSON, or the file ends inside it.
        """
        self.peek()
        while True:
            try:
                found, end = self._decoder.raw_decode(self._buffer, self._at)
            except json.JSONDecodeError as error:
                # A value cut by the end of the buffer looks like a mistake until the whole rest is in sight.
                if self._fill():
                    continue
                raise self._fault(error.msg, error.pos) from None
            except RecursionError:
                raise self._fault("nested too deeply", self._at) from None
            if end == len(self._buffer) and self._fill():
                continue  # a number may go on in the next chunk
            self._at = end
            return found

    @property
    def line(self) -> int:
        """Return the line of the present position."""
        return self._line_of(self._at)

    def fault(self, message: str) -> JsonFault:
        """Return the fault of what stands at the present position."""
        return self._fault(message, self._at)

    def _line_of(self, position: int) -> int:
        if position < self._counted:
            return self._line + self._buffer.count("\n", 0, position)
        self._newlines += self._buffer.count("\n", self._counted, position)
        self._counted = position
        return self._line + self._newlines

    def _fault(self, message: str, position: int) -> JsonFault:
        start = self._buffer.rfind("\n", 0, position) + 1
        excerpt = shown(self._buffer[max(start, position - 30) : position + 30])
        return JsonFault(message, self._line_of(position), position - start + 1, excerpt)

    def _fill(self) -> bool:
        """Read on (twice as much each time while one value is not whole); False at the end of the file."""
        if self._ended:
            return False
        chunk = self._file.read(max(_CHUNK_CHARS, len(self._buffer) - self._at))
        if not chunk:
            self._ended = True
            return False
        if self._at:
            self._line = self._line_of(self._at)
            self._buffer = self._buffer[self._at :]
            self._at = self._counted = self._newlines = 0
        self._buffer += chunk
        return True


def json_rows(file: TextIO) -> Iterator[tuple[int, Any]]:
    """Yield (line, value) for every row of a JSON file.

    Raises:
        JsonFault: the text is not JSON; rows before the fault have been yielded.
    """
    cursor = JsonCursor(file)
    top = cursor.peek()
    if top == "[":
        yield from _array(cursor)
    elif top == "{":
        yield from _object(cursor)
    elif top:
        line = cursor.line
        yield line, cursor.value()
    cursor.end()


def _array(cursor: JsonCursor) -> Iterator[tuple[int, Any]]:
    cursor.take("[")
    if cursor.peek() == "]":
        cursor.take("]")
        return
    while True:
        cursor.peek()
        line = cursor.line
        yield line, cursor.value()
        if cursor.peek() == "]":
            cursor.take("]")
            return
        cursor.take(",")


def _object(cursor: JsonCursor) -> Iterator[tuple[int, Any]]:
    """Yield the rows of the first list of objects; without one the object itself is the only row."""
    first_line = cursor.line
    cursor.take("{")
    members: dict[str, Any] = {}
    wrapped = False
    while cursor.peek() != "}":
        key = cursor.value()
        cursor.take(":")
        if not wrapped and key in _WRAPPERS and cursor.peek() == "[":
            wrapped = True
            yield from _array(cursor)
        else:
            members[key] = cursor.value()
        if cursor.peek() != "}":
            cursor.take(",")
            if cursor.peek() == "}":
                raise cursor.fault("a comma before the end")
    cursor.take("}")
    if not wrapped:
        yield first_line, members
