"""Count over a whole data set: labels, copies, lengths, and prompts that training and held-out rows share."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from swiftshell.data.balance import balance
from swiftshell.data.labels import Rule, infer_rule
from swiftshell.data.report import DataReport
from swiftshell.data.row import Row, Turn, text_of
from swiftshell.errors import Problem

_NOT_TEXT = ("label", "probability", "weight", "id")
_HISTOGRAM_EDGES = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class _Said(NamedTuple):
    """What one row says of its answer, and where."""

    label: Any  # raw
    probability: float | None
    weight: float | None
    file: str
    line: int | None
    number: int


class Thumbs:
    """Add up what KTO weighs: labels, probabilities and weights of all rows that can be used."""

    def __init__(self) -> None:
        self.rows = self.soft = self.weightless = 0
        self.probabilities: set[float] = set()  # distinct ones, no more than two
        self.least, self.most = math.inf, 0.0
        self._good = self._bad = 0.0

    def add(self, label: bool, probability: float | None, weight: float | None) -> None:
        """Count one row."""
        p, w = float(label) if probability is None else probability, 1.0 if weight is None else weight
        self.rows += 1
        self.soft += 0.0 < p < 1.0
        self.weightless += w == 0.0
        if len(self.probabilities) < 2:
            self.probabilities.add(p)
        self.least, self.most = min(self.least, w), max(self.most, w)
        self._good += w * p
        self._bad += w * (1.0 - p)

    def classes(self) -> tuple[float, float]:
        """Return the expected numbers of desirable and undesirable rows, their weights brought to mean 1."""
        total = self._good + self._bad
        if total == 0.0:
            return 0.0, 0.0
        mean = total / (self.rows - self.weightless)
        return self._good / mean, self._bad / mean

    def as_json(self) -> dict[str, Any]:
        """Return the sums, and the class weights that KTO would set by itself."""
        desirable, undesirable = (round(n, 3) for n in self.classes())
        found: dict[str, Any] = {"soft": self.soft, "weightless": self.weightless, "weight_min": self.least,
                                 "weight_max": self.most, "desirable": desirable, "undesirable": undesirable}
        if desirable and undesirable:
            both = balance(desirable, undesirable)
            found |= {"desirable_weight": both.desirable_weight, "undesirable_weight": both.undesirable_weight,
                      "capped": both.capped}
        return found


class Labels:
    """Collect the raw labels, decide the rule of their column at the end, and name the rows it cannot read."""

    def __init__(self, report: DataReport) -> None:
        self.rule: Rule | None = None
        self._report = report
        self.thumbs = Thumbs()
        self._said: list[_Said] = []
        self._good = Counter[bool]()

    def add(self, row: Row, data: Mapping[str, Any]) -> None:
        """Remember what a converted row says of its answer."""
        if "label" in data:
            weighed = data.get("probability"), data.get("weight")
            self._said.append(_Said(data["label"], *weighed, row.file, row.line, row.number))

    def read(self, data: Mapping[str, Any]) -> bool:
        """Return the label of a row that `finish` did not refuse; a probability outweighs the label beside it."""
        if (probability := data.get("probability")) is not None:
            return bool(probability >= 0.5)
        if "label" not in self._report.columns:  # from a pair: true and false by construction
            return bool(data["label"])
        assert self.rule is not None
        return self.rule.read(data["label"]) is True

    def finish(self, complain: Callable[[Problem], None]) -> set[tuple[str, int]]:
        """Report every row whose label cannot be read; return their places."""
        column = self._report.columns.get("label")
        if self._said and column:
            if self.rule is None:
                self.rule = infer_rule(said.label for said in self._said)
            self._report.label_rule = self.rule.kind
        elif self._said and "probability" in self._report.columns:
            self._report.label_rule = "probability"
        bad: set[tuple[str, int]] = set()
        for said in self._said:
            label = self._decide(said, column)
            if isinstance(label, Problem):
                where = said.file, said.line, None, said.number, column
                complain(Problem(label.code, {**label.values, "column": column}, *where))
                bad.add((said.file, said.number))
            else:
                self._good[label] += 1
                self.thumbs.add(label, said.probability, said.weight)
        return bad

    def _decide(self, said: _Said, column: str | None) -> bool | Problem:
        """Return a row's label; warn where label and probability disagree."""
        by_probability = None if said.probability is None else said.probability >= 0.5
        if column is None or (said.label is None and by_probability is not None):
            return bool(said.label) if by_probability is None else by_probability
        assert self.rule is not None
        label = self.rule.read(said.label)
        if isinstance(label, Problem) or by_probability is None:
            return label
        if label != by_probability and said.probability != 0.5:
            values = {"label": "true" if label else "false", "probability": said.probability, "column": column}
            self._report.add(Problem("data.label_against_probability", values, said.file, said.line, None,
                                     said.number, severity="warning"))
        return by_probability

    def totals(self) -> tuple[int, int]:
        """Return the number of desirable and undesirable rows."""
        return self._good[True], self._good[False]


class Copies:
    """Find exact copies, and the same answer to the same prompt under two labels, by 16-byte digests."""

    def __init__(self, report: DataReport) -> None:
        self._report = report
        self._first: dict[bytes, tuple[int, Any]] = {}
        self._suspects: list[tuple[Row, int, Any, Any]] = []

    def add(self, row: Row, data: Mapping[str, Any]) -> None:
        """Remember a converted row.

        Raises:
            UnicodeEncodeError: the text holds half of a surrogate pair.
        """
        label = data.get("label")
        if label is None and "probability" in data:
            label = data["probability"] >= 0.5
        key = _digest({k: v for k, v in data.items() if k not in _NOT_TEXT})
        if key not in self._first:
            self._first[key] = (row.number, label)
            return
        number, first_label = self._first[key]
        self._suspects.append((Row(row.number, row.line, {}, row.file), number, first_label, label))

    def finish(self, labels: Labels) -> None:
        """Report copies, now that labels can be compared."""
        for row, number, first_label, label in self._suspects:
            if "label" in self._report.columns and labels.rule is not None:
                one, other = labels.rule.read(first_label), labels.rule.read(label)
                contradict = isinstance(one, bool) and isinstance(other, bool) and one != other
            else:
                contradict = label != first_label
            code = "data.contradiction" if contradict else "data.duplicate"
            self._report.add(
                Problem(code, {"first": number}, row.file, row.line, None, row.number, severity="warning")
            )


class Lengths:
    """Count lengths in characters into fixed bins."""

    def __init__(self) -> None:
        self.number = 0
        self._sum = 0
        self._max = 0
        self._by_bits: Counter[int] = Counter()

    def add(self, length: int) -> None:
        """Count one text by its length in characters."""
        self.number += 1
        self._sum += length
        if length > self._max:
            self._max = length
        self._by_bits[length.bit_length()] += 1

    def as_json(self) -> dict[str, Any]:
        """Return the histogram: counts[i] texts are at least edges[i] long and shorter than the next edge."""
        counts = [0] * len(_HISTOGRAM_EDGES)
        for bits, number in self._by_bits.items():
            counts[min(max(bits - 5, 0), len(counts) - 1)] += number
        return {
            "edges": list(_HISTOGRAM_EDGES),
            "counts": counts,
            "max": self._max,
            "mean": round(self._sum / self.number, 1),
        }


def overlap(train: list[Row], held_out: list[Row]) -> list[Problem]:
    """Return a warning for every held-out row whose exact prompt is also a training prompt."""
    seen: dict[bytes, int] = {}
    for row in train:
        seen.setdefault(prompt_key(row.data), row.number)
    found = []
    for row in held_out:
        if (number := seen.get(prompt_key(row.data))) is not None:
            values = {"train_row": number}
            found.append(Problem("data.leak", values, row.file, row.line, row=row.number, severity="warning"))
    return found


def prompt_key(data: Mapping[str, Any]) -> bytes:
    """Return a digest of what is asked: the turns before the answer, white space made even; a text whole."""
    if "text" in data:
        return _digest(" ".join(str(data["text"]).split()))
    turns = data.get("prompt") or data.get("messages", [])[:-1]
    return _digest(
        [(t["role"], " ".join(text_of(t["content"]).split())) for t in turns if t["role"] != "system"]
    )


def _digest(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()


def characters(turns: list[Turn]) -> int:
    """Return the number of characters that turns say."""
    return sum(len(text_of(turn["content"])) for turn in turns)
