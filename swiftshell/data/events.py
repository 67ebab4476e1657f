"""Put a log of events together: one line shows an answer, others with the same id say what happened to it afterwards.

`{"request_id": 7, "query": …, "response": …}`, `{"request_id": 7, "event": "copied"}`,
`{"request_id": 7, "event": "thumb", "value": "down"}` and `{"request_id": 7, "event": "dwell_s", "value": 12.5}` become one
row with the columns `copied` (true), `thumb` and `dwell_s`. Other columns of an event are added where the answer's line
lacks them; of two events of one kind the later line counts.

What happened is kept in memory, texts are not: the lines with answers are read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swiftshell.data.expression import value_of
from swiftshell.data.read import Report, read_rows
from swiftshell.data.row import Row
from swiftshell.errors import Problem, fail

_KINDS = ("event", "event_type", "event_name", "action", "事件")
_VALUES = ("value", "event_value", "val", "值")


class Events:
    """The log of events at a path, joined by a column.

    Attributes:
        events: lines without an answer; `lost`: those whose answer is nowhere.

    Raises:
        SwiftshellError: no line has the column, or none has an event.
    """

    def __init__(self, path: Path, join: str) -> None:
        self._path, self._join = path, join
        self._happened: dict[Any, dict[str, Any]] = {}
        self.events = self.lost = 0
        self._kind = self._value = ""
        self._collect()

    def rows(self, report: Report) -> Iterator[Row]:
        """Yield the lines with answers, each with what happened to it."""
        for row in read_rows(self._path, report):
            if self._is_event(row.data):
                continue
            happened = self._happened.get(self._id(row.data))
            yield (
                row
                if happened is None
                else Row(row.number, row.line, {**happened, **_present(row.data)}, row.file)
            )

    def warnings(self) -> list[Problem]:
        """Return what is odd about the events."""
        if not self.lost:
            return []
        values = {"lost": self.lost, "events": self.events, "column": self._join}
        return [Problem("logs.events_lost", values, file=str(self._path), severity="warning")]

    def _collect(self) -> None:
        shown: set[Any] = set()
        columns: dict[str, None] = {}
        for row in read_rows(self._path, lambda _: None):
            columns |= dict.fromkeys(row.data)
            if not self._kind:
                self._kind = next((n for n in _KINDS if n in columns), "")
            at = self._id(row.data)
            if not self._is_event(row.data):
                shown.add(at)
                continue
            self.events += 1
            self._value = next((n for n in _VALUES if n in row.data), "")
            kind, value = str(row.data[self._kind]), row.data.get(self._value) if self._value else None
            plain = {
                k: v for k, v in _present(row.data).items() if k not in (self._kind, self._value, self._join)
            }
            self._happened.setdefault(at, {}).update({**plain, kind: True if value is None else value})
        if self._join not in columns and "." not in self._join:
            raise fail(
                "logs.join_absent", path=str(self._path), name=self._join, columns=", ".join(columns)
            )
        if not self.events:
            raise fail(
                "logs.no_events", path=str(self._path), columns=", ".join(columns), known=", ".join(_KINDS)
            )
        self.lost = len(self._happened.keys() - shown)

    def _id(self, data: dict[str, Any]) -> Any:
        found = value_of(data, self._join)
        return found if isinstance(found, str | int | float) else str(found)

    def _is_event(self, data: dict[str, Any]) -> bool:
        return bool(self._kind) and data.get(self._kind) not in (None, "")


def _present(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if value is not None}
