"""Convert and count rows, stretch after stretch, by a layout that is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from swiftshell.data.convert import Converter
from swiftshell.data.deep import DeepReader, DeepTask
from swiftshell.data.detect import Layout
from swiftshell.data.images import Pictures
from swiftshell.data.lengths import TokenCounter
from swiftshell.data.pairs import Desirable, Pairing
from swiftshell.data.quick import quick_judge
from swiftshell.data.row import BadRow, Purpose, Row
from swiftshell.data.stretch import Stretch
from swiftshell.errors import Problem, Severity


class Reader(Protocol):
    """Looks at rows beyond their structure."""

    def read(self, row: Row, data: Mapping[str, Any], stretch: Stretch) -> None:
        """Look at what a source row became."""

    def end(self, stretch: Stretch) -> None:
        """Put what was found into the stretch that ends."""


@dataclass(frozen=True)
class Task:
    """What is looked for in rows, as it is sent to the processes that look.

    Attributes:
        path: what is checked; relative pictures of rows without a file start in its folder.
        purpose, layout: see `swiftshell.data.convert`.
        sample: a row, which shows how turns are written.
        tokenizer: folder or file of a tokenizer, if lengths are counted in tokens; `max_length`: how many are whole.
        deep: what a deep check looks for, if one is made.
    """

    path: Path
    purpose: Purpose
    layout: Layout
    sample: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Path | None = None
    max_length: int = 0
    deep: DeepTask | None = None

    @property
    def judged(self) -> bool:
        """Tell whether rows become rows with a label."""
        parts = self.layout.columns.keys()
        from_pair = self.purpose == "kto" and "rejected" in parts
        return from_pair or (self.purpose != "prompts" and bool({"label", "probability"} & parts))


class Judge:
    """Count rows into the present stretch; what becomes of them is returned to whoever trains on it."""

    def __init__(self, task: Task, *, pairing: Pairing | None = None, desirable: Desirable | None = None) -> None:
        self.task = task
        self._folder = task.path.parent
        self._converter = Converter(task.layout, task.purpose, self._warn)
        self._known = self._converter.known
        self._pictures = Pictures(task.layout.get("images"), task.purpose)
        self._pairing, self._desirable = pairing, desirable
        self._judged = task.judged and desirable is None
        self._readers = _readers(task)
        self._row: Row
        self.begin()

    def begin(self) -> None:
        """Begin a stretch."""
        self.stretch = Stretch()
        self._plain = None
        if self._pairing is None and self._desirable is None and not self._readers:
            task = self.task
            self._plain = quick_judge(task.layout, task.purpose, self.stretch, task.sample, judged=self._judged)

    def end(self) -> Stretch:
        """End the stretch and return it."""
        done = self.stretch
        if self._pictures.rows:
            done.picture_rows, done.pictures = self._pictures.rows, dict(self._pictures.files)
            self._pictures.rows = 0
        for reader in self._readers:
            reader.end(done)
        self.begin()
        return done

    def complain(self, problem: Problem) -> None:
        """Count what a reader found in the present stretch."""
        self.stretch.complain(problem)

    def look(self, row: Row) -> None:
        """Count a row without keeping what it becomes."""
        stretch = self.stretch
        before = stretch.usable
        if self._plain is not None and row.data.keys() <= self._known and self._plain(row.data):
            stretch.rows += 1
            stretch.places.add(row.file, row.number, row.line, stretch.usable - before)
        else:
            self.take(row)

    def take(self, row: Row) -> list[Row]:
        """Convert and count a row; return the rows that it becomes, none if it cannot be used."""
        self._row = row
        stretch = self.stretch
        stretch.rows += 1
        try:
            folder = Path(row.file).parent if row.file else self._folder
            made = [self._pictures.place(data, folder) for data in self._converter.rows(row.data)]
            if self._desirable is not None:
                self._desirable.take(row, made)
            before = stretch.usable
            for data in made:
                stretch.add(data, self._judged)
            stretch.places.add(row.file, row.number, row.line, stretch.usable - before)
        except BadRow as bad:
            stretch.complain(self._placed(bad.code, bad.field_name, dict(bad.values)))
            return []
        except UnicodeEncodeError as error:
            found = ascii(error.object[error.start])
            stretch.complain(self._placed("data.bad_character", None, {"text": found}))
            return []
        for data in made:
            if self._pairing is not None:
                self._pairing.add(row, data)
            for reader in self._readers:
                reader.read(row, data, stretch)
        extra = self._converter.extra(row.data)
        return [Row(row.number, row.line, data, row.file, extra) for data in made]

    def _placed(
        self, code: str, field_name: str | None, values: dict[str, Any], severity: Severity = "error"
    ) -> Problem:
        row = self._row
        return Problem(code, values, row.file, row.line, None, row.number, field_name, severity)

    def _warn(self, code: str, field_name: str | None, **values: Any) -> None:
        self.stretch.note(self._placed(code, field_name, values, "warning"))


def _readers(task: Task) -> list[Reader]:
    """Return what else reads every row; whoever needs a library imports it when the first row comes."""
    found: list[Reader] = []
    if task.tokenizer is not None:
        found.append(TokenCounter(task.tokenizer, task.max_length))
    if task.deep is not None:
        found.append(DeepReader(task.deep))
    return found
