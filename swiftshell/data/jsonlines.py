"""Read JSON lines, fast where a line is as it should be, with its place and reason where it is not.

A line is decoded by orjson; one that orjson refuses is tried again by the standard library, which reads what people
write although it is no JSON (NaN), and says better what is wrong with the rest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import orjson

from swiftshell.data.row import Row, shown, type_name
from swiftshell.errors import Problem

Report = Callable[[Problem], None]

BOM = b"\xef\xbb\xbf"
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MOST_WATCHED = 8


class JsonLines:
    """Turn the lines of a file, or of a part of it, into rows.

    Attributes:
        line: the last line that was read, counted from 1; `number`: the last row.
        watched: what a line holds twice if a key of its row does, as far as the file's first row has that key.
    """

    def __init__(self, name: str, report: Report, watched: tuple[bytes, ...] = (), *, at_top: bool = True) -> None:
        self.line = self.number = 0
        self.watched = watched
        self._name = name
        self._report = report
        self._at_top = at_top  # the first line is the file's

    def rows(self, lines: Iterable[bytes]) -> Iterator[Row]:
        """Yield the row of every line; blank lines are none, and a line that cannot be read is reported."""
        loads, name, watched = orjson.loads, self._name, self.watched
        for raw in lines:
            self.line += 1
            try:
                value = loads(raw)
            except ValueError:
                value = self._odd(raw)
                if value is None:
                    continue
            else:
                self.number += 1
            if type(value) is not dict:
                self._report(self.not_object(value))
                continue
            if not watched:
                watched = self.watched = watch(value)
            if any(raw.count(key) > 1 for key in watched) and (key := _twice(raw)):
                where = self._name, self.line, None, self.number, key
                self._report(Problem("scan.key_twice", {"name": key}, *where))
                continue
            yield Row(self.number, self.line, value, name)

    def not_object(self, value: Any) -> Problem:
        """Return the problem that a line holds something else than a row."""
        values = {"value": shown(value), "type": type_name(value)}
        return Problem("data.row_not_object", values, self._name, self.line, None, self.number)

    def _odd(self, raw: bytes) -> Any:
        """Read a line that is blank, no UTF-8, no JSON, or JSON only to Python; None if there is no row in it."""
        if self.line == 1 and self._at_top:
            if raw.startswith(UTF_16):
                self._report(not_utf8(self._name, 1, raw, 0))
                return None
            raw = raw.removeprefix(BOM)
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            self._report(not_utf8(self._name, self.line, raw, error.start))
            return None
        if not text or text.isspace():
            return None
        self.number += 1
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            self._report(self._bad(text, error))
            return None
        if value is None:
            self._report(self.not_object(value))
        return value

    def _bad(self, text: str, error: BaseException) -> Problem:
        column = error.colno if isinstance(error, json.JSONDecodeError) else 1
        message = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        excerpt = shown(text[max(0, column - 31) : column + 29])
        values = {"message": message, "text": excerpt}
        return Problem("data.bad_json", values, self._name, self.line, column, self.number)


def watch(row: dict[str, Any]) -> tuple[bytes, ...]:
    """Return the keys of a row as they stand in its line."""
    return tuple(f'"{key}"'.encode("utf-8", "replace") for key in list(row)[:_MOST_WATCHED])


def _twice(raw: bytes) -> str:
    """Return a key that stands twice in one object of a line; an empty string if there is none."""
    found: list[str] = []

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            found.append(next(key for key in keys if keys.count(key) > 1))
        return made

    json.loads(raw, object_pairs_hook=look)
    return found[0] if found else ""


def not_utf8(name: str, line: int, raw: bytes, at: int) -> Problem:
    """Return the problem that a line is no UTF-8 from a byte on, with what it seems to be."""
    found = " ".join(f"{byte:02x}" for byte in raw[at : at + 4])
    guess = _guess_encoding(raw)
    if guess != "UTF-16" and b"\0" in raw:
        return Problem("data.binary", {"bytes": found, "path": name}, file=name, line=line, column=at + 1)
    return Problem("data.encoding", {"bytes": found, "guess": guess}, file=name, line=line, column=at + 1)


def _guess_encoding(raw: bytes) -> str:
    if raw.startswith(UTF_16):
        return "UTF-16"
    try:
        raw.decode("gb18030")
    except UnicodeDecodeError:
        return "LATIN1"
    return "GB18030"
