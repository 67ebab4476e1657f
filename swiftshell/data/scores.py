"""Score the answers of a file by a chain of scorers, and write the same rows with a column for each.

The file is read three times and never held: look, score, write. Only the scores stay in memory, 8 bytes each.
"""

from __future__ import annotations

import itertools
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from swiftshell.data.convert import Converter
from swiftshell.data.detect import Layout, detect, present_columns
from swiftshell.data.labels import Rule, infer_rule
from swiftshell.data.read import read_rows
from swiftshell.data.row import BadRow, Row, text_of
from swiftshell.data.scorers.base import COLUMN, Answer, FileFacts, Scorer
from swiftshell.data.scorers.words import words
from swiftshell.errors import Problem, SwiftshellError

COMBINED = COLUMN + "combined"
_HEAD = 200
_BATCH = 256
_LISTED = 20
_DISTINCT = 1000  # label values remembered to decide how they are read
_NOT_HERE = ("probability", "weight")

Progress = Callable[[str, int, int], None]  # scorer, answers done, of all


class AnswerFile:
    """Answers to score; `facts` says what is there.

    Raises:
        SwiftshellError: rows that cannot be used, all of them counted and the first named.
    """

    def __init__(self, path: Path, columns: Mapping[str, str] | None = None) -> None:
        self.path = path
        self.facts = FileFacts(str(path))
        self.label_column: str | None = None
        self._bad: list[Problem] = []
        self._rule: Rule | None = None
        self._layout = self._find(columns or {})
        self._converter = Converter(self._layout, "kto", lambda *_, **__: None)
        self._look()

    def answers(self) -> Iterator[Answer]:
        """Yield every answer, in the order of the file."""
        for row in read_rows(self.path, lambda _: None):
            yield self._answer(row)

    def rows(self) -> Iterator[Row]:
        """Yield the rows as they are, in the same order."""
        return read_rows(self.path, lambda _: None)

    def labels(self) -> list[bool | None]:
        """Return what people said of every answer; None where nobody did.

        Raises:
            SwiftshellError: a label cannot be read.
        """
        found = [a.label for a in self.answers()]
        if self._bad:
            raise SwiftshellError(_first(self._bad))
        return found

    def _find(self, columns: Mapping[str, str]) -> Layout:
        faults: list[Problem] = []
        head = list(itertools.islice(read_rows(self.path, faults.append), _HEAD))
        if not head:
            nothing = Problem("data.empty", {"path": str(self.path)}, file=str(self.path))
            raise SwiftshellError(_first(faults) if faults else nothing)
        present = present_columns(row.data for row in head)
        layout, problems = detect(present, "heldout", columns=columns)
        if layout is None:
            raise SwiftshellError(
                [Problem(p.code, p.values, str(self.path), field_name=p.field_name) for p in problems]
            )
        if "rejected" in layout.columns:
            raise SwiftshellError(Problem("score.pairs", {"path": str(self.path)}, file=str(self.path)))
        has = layout.columns.keys()
        if not ({"completion", "messages"} & has and {"prompt", "messages"} & has):
            values = {"columns": ", ".join(present), "format": layout.format, "purpose": "heldout"}
            raise SwiftshellError(Problem("score.no_answers", values, file=str(self.path)))
        self.label_column = layout.get("label")
        self.facts.columns = present
        return Layout(layout.format, {k: v for k, v in layout.columns.items() if k not in _NOT_HERE})

    def _look(self) -> None:
        facts, values = self.facts, dict[tuple[bool, Any], Any]()
        for row in read_rows(self.path, self._bad.append):
            try:
                answer = self._answer(row)
            except BadRow as bad:
                self._bad.append(_placed(row, bad.code, bad.values, bad.field_name))
                continue
            facts.answers += 1
            facts.references += answer.reference is not None
            facts.rules += answer.rules is not None
            facts.characters += len(answer.text) + len(answer.reference or "")
            facts.characters += sum(len(text_of(turn["content"])) for turn in answer.prompt)
            facts.lengths.append(len(words(answer.text)))
            raw = row.data.get(self.label_column) if self.label_column else None
            if raw not in (None, ""):
                facts.labels += 1
                if len(values) < _DISTINCT and isinstance(raw, str | int | float | bool):
                    values[isinstance(raw, bool), raw] = raw
        if self._bad:
            raise SwiftshellError(_first(self._bad))
        self._rule = infer_rule(values.values()) if values else None

    def _answer(self, row: Row) -> Answer:
        made = self._converter.rows(row.data)[0]
        reference = self._part(row, "reference")
        rules = self._part(row, "rules")
        return Answer(
            row.number,
            row.line,
            row.file,
            tuple(made["prompt"]),
            tuple(made["completion"]),
            made.get("tools"),
            _reference_text(reference),
            {k: v for k, v in rules.items() if v is not None} if isinstance(rules, Mapping) else None,
            self._label(row),
        )

    def _part(self, row: Row, part: str) -> Any:
        column = self._layout.get(part)
        return None if column is None else row.data.get(column)

    def _label(self, row: Row) -> bool | None:
        if self._rule is None or self.label_column is None:
            return None
        raw = row.data.get(self.label_column)
        if raw in (None, ""):
            return None
        label = self._rule.read(raw)
        if isinstance(label, Problem):
            values = {**label.values, "column": self.label_column}
            self._bad.append(_placed(row, label.code, values, self.label_column))
            return None
        return label


def check(file: AnswerFile, scorers: Sequence[Scorer]) -> list[Problem]:
    """Return what scorers lack, all of it; nothing was computed or sent."""
    return [problem for scorer in scorers for problem in scorer.missing(file.facts)]


def score(file: AnswerFile, scorers: Sequence[Scorer], progress: Progress) -> dict[str, array[float]]:
    """Return every scorer's numbers by name, NaN where a row lacks what it needs."""
    found = {}
    for scorer in scorers:
        scorer.prepare(file.facts)
        numbers = array("d")
        for batch in _batches(file.answers()):
            numbers.extend(math.nan if v is None else v for v in scorer.score(batch))
            progress(scorer.name, len(numbers), file.facts.answers)
        found[scorer.name] = numbers
    return found


def scored_rows(
    file: AnswerFile,
    scores: Mapping[str, array[float]],
    combined: Sequence[float | None] | None = None,
    labels: Sequence[bool | None] = (),
) -> Iterator[dict[str, Any]]:
    """Yield the rows with a column for each scorer.

    With combined scores every row has a probability, so that a column of them is there from the first row on: its own if
    it had one, what a person said (0 or 1), or the combined score.
    """
    for i, row in enumerate(file.rows()):
        added: dict[str, Any] = {COLUMN + name: _plain(numbers[i]) for name, numbers in scores.items()}
        if combined is not None:
            p, said = combined[i], labels[i] if labels else None
            added[COMBINED] = None if p is None else round(p, 4)
            if row.data.get("probability") is None:
                added["probability"] = added[COMBINED] if said is None else float(said)
        yield {**row.data, **added}


def _batches(answers: Iterator[Answer]) -> Iterator[list[Answer]]:
    while batch := list(itertools.islice(answers, _BATCH)):
        yield batch


def _plain(number: float) -> float | None:
    return None if math.isnan(number) else round(number, 6)


def _reference_text(value: Any) -> str | None:
    """Return a reference as text: a string, a number, or the last turn of a conversation."""
    if isinstance(value, bool) or value in (None, "", []):
        return None
    if isinstance(value, int | float):
        return f"{value:g}" if isinstance(value, float) else str(value)
    if isinstance(value, list) and isinstance(value[-1], Mapping):
        return text_of(value[-1].get("content") or value[-1].get("value")) or None
    return value if isinstance(value, str) else None


def _placed(row: Row, code: str, values: Mapping[str, Any], field_name: str | None) -> Problem:
    return Problem(code, dict(values), row.file, row.line, None, row.number, field_name)


def _first(problems: Sequence[Problem]) -> list[Problem]:
    more = len(problems) - _LISTED
    tail = [Problem("score.more_bad_rows", {"more": more}, file=problems[0].file)] if more > 0 else []
    return [*problems[:_LISTED], *tail]
