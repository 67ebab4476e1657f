"""Count over a stretch of rows: everything a check keeps of them, small enough to be sent between processes.

A check is the sum of its stretches, in the order of the file, so that it comes out the same however it was cut.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Mapping
from typing import Any

import xxhash

from swiftshell.data.compact import Places
from swiftshell.data.report import SHOWN_PER_CODE
from swiftshell.data.row import Turn, shown, text_of
from swiftshell.errors import Problem

NO_LABEL = -1
NOT_TEXT = ("label", "probability", "weight", "id")
_TURN_PARTS = ("messages", "prompt", "completion", "chosen", "rejected")
_LONGEST_LABEL = 400  # characters: beyond this it is no label, and only its beginning is shown


class LabelValues:
    """The distinct values of a label column, each with a number.

    Attributes:
        values: by number; no more than `_MOST`.
        scores: numbers found after those; each occurrence has a number of its own.
    """

    _MOST = 1 << 16

    def __init__(self) -> None:
        self._numbers: dict[tuple[type, Any], int] = {}
        self.values: list[Any] = []
        self.scores = array("d")

    def number(self, value: Any) -> int:
        """Return the number of a value."""
        kind = type(value)
        if kind is not str and kind is not bool and kind is not int and kind is not float and value is not None:
            value, kind = shown(value), dict  # a list or an object is never a label
        elif kind is str and len(value) > _LONGEST_LABEL:
            value = value[:_LONGEST_LABEL]
        elif kind is float and math.isnan(value):
            value, kind = None, type(None)
        key = (kind, value)
        found = self._numbers.get(key)
        if found is not None:
            return found
        if len(self.values) >= self._MOST:
            return self._beyond(value, kind)
        self._numbers[key] = len(self.values)
        self.values.append(value)
        return len(self.values) - 1

    def value(self, number: int) -> Any:
        """Return the value of a number."""
        if number == NO_LABEL:
            return None
        return self.values[number] if number < self._MOST else self.scores[number - self._MOST]

    def _beyond(self, value: Any, kind: type) -> int:
        try:
            self.scores.append(float(value) if kind in (int, float) else math.inf)
        except OverflowError:
            self.scores.append(math.inf)
        return self._MOST + len(self.scores) - 1


class Stretch:
    """What was counted of some rows that follow each other.

    Attributes:
        rows: source rows that were read as rows; `usable`: rows they became; `bad`: source rows with an error.
        row_numbers, lines: how far numbers and lines went on, for the places of the stretch that follows.
        counts, problems: as in a report, with places from the stretch's own beginning.
        places: place of every usable row. All columns below have an entry for each of them, or are empty.
        keys: 8 bytes a row that say what it says (`content_key`).
        labels: number in `values`; `probabilities`, `weights`: NaN where a row has none.
        prompt_chars, answer_chars: lengths in characters.
        tokens: length in tokens → rows; `deep`: what `swiftshell.data.deep` found; both only if asked for.
        picture_rows, pictures: rows with pictures, and the files that were looked at.
    """

    def __init__(self) -> None:
        self.rows = self.usable = self.bad = 0
        self.row_numbers = self.lines = 0
        self.counts: dict[str, int] = {}
        self.problems: list[Problem] = []
        self.places = Places()
        self.keys = bytearray()
        self.values = LabelValues()
        self.labels = array("i")
        self.probabilities = array("d")
        self.weights = array("d")
        self.prompt_chars = array("q")
        self.answer_chars = array("q")
        self.picture_rows = 0
        self.pictures: dict[str, tuple[int, int] | None] = {}
        self.deep: Any = None
        self.tokens: dict[int, int] = {}

    def complain(self, problem: Problem) -> None:
        """Count a problem; one with a row is an error that makes the row unusable."""
        self.note(problem)
        if problem.row is not None:
            self.bad += 1

    def note(self, problem: Problem) -> None:
        """Count a problem that leaves its row usable."""
        seen = self.counts[problem.code] = self.counts.get(problem.code, 0) + 1
        if seen <= SHOWN_PER_CODE:
            self.problems.append(problem)

    def add(self, data: Mapping[str, Any], judged: bool) -> None:
        """Count a converted row, whose place was added.

        Raises:
            UnicodeEncodeError: the text holds half of a surrogate pair; nothing was counted.
        """
        self.keys += content_key(data)
        self.usable += 1
        if judged:
            self.labels.append(self.values.number(data["label"]) if "label" in data else NO_LABEL)
        if "probability" in data:
            self.weigh(self.probabilities, data["probability"])
        if "weight" in data:
            self.weigh(self.weights, data["weight"])
        self._measure(data)

    def even(self) -> None:
        """Fill columns of which not every row had a value."""
        for column in (self.probabilities, self.weights):
            if column:
                column.extend([math.nan] * (self.usable - len(column)))

    def weigh(self, column: array[float], value: float) -> None:
        """Append the last row's value to a column, in which rows before it may have none."""
        if len(column) < self.usable - 1:
            column.extend([math.nan] * (self.usable - 1 - len(column)))
        column.append(value)

    def _measure(self, data: Mapping[str, Any]) -> None:
        prompt = data.get("prompt") or data.get("messages", [])[:-1]
        if prompt:
            self.prompt_chars.append(characters(prompt))
        for part in ("completion", "chosen", "rejected"):
            if part in data:
                self.answer_chars.append(characters(data[part]))
        if "messages" in data:
            self.answer_chars.append(characters(data["messages"][-1:]))
        for part in ("text", "reference"):
            if isinstance(data.get(part), str):
                self.answer_chars.append(len(data[part]))


def content_key(data: Mapping[str, Any]) -> bytes:
    """Return 8 bytes that are the same for rows that say the same, whatever was said of the answer.

    Raises:
        UnicodeEncodeError: the text holds half of a surrogate pair.
    """
    pieces: list[str] = []
    for part in _TURN_PARTS:
        if part in data:
            pieces.append(part)
            for turn in data[part]:
                content = turn["content"]
                if len(turn) == 2 and type(content) is str:
                    pieces += (turn["role"], content)
                else:
                    pieces.append(json.dumps(turn, ensure_ascii=False, sort_keys=True, default=str))
    if "text" in data:
        pieces += ("text", str(data["text"]))
    rest = {k: v for k, v in data.items() if k not in _TURN_PARTS and k not in NOT_TEXT and k != "text"}
    if rest:
        pieces.append(json.dumps(rest, ensure_ascii=False, sort_keys=True, default=str))
    return key_of(pieces)


def key_of(pieces: list[str]) -> bytes:
    """Return the 8 bytes of a row's pieces."""
    return xxhash.xxh3_64_digest("\0".join(pieces).encode())


def characters(turns: list[Turn]) -> int:
    """Return the number of characters that turns say."""
    return sum(len(text_of(turn["content"])) for turn in turns)
