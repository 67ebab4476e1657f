"""Count over a whole data set: labels, copies, lengths, and prompts that training and held-out rows share."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from swiftshell.data.balance import balance
from swiftshell.data.compact import Earliest, Numbers, Places, repeated
from swiftshell.data.labels import Rule, infer_rule, normalise
from swiftshell.data.report import SHOWN_PER_CODE, DataReport
from swiftshell.data.row import Row, text_of
from swiftshell.data.stretch import NO_LABEL, LabelValues, Stretch
from swiftshell.errors import Problem

_SORTED_ROWS = 10  # rows of each class, from which on their order is no accident
_SCORE_BINS = 20
_HISTOGRAM_EDGES = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Thumbs:
    """Add up what KTO weighs: labels, probabilities and weights of all rows that can be used."""

    def __init__(self) -> None:
        self.rows = self.soft = self.weightless = 0
        self.probabilities: set[float] = set()  # distinct ones, no more than two
        self.least, self.most = math.inf, 0.0
        self._good = self._bad = 0.0

    def add(self, label: bool, probability: float | None, weight: float | None, times: int = 1) -> None:
        """Count a row, or several that are the same."""
        p, w = float(label) if probability is None else probability, 1.0 if weight is None else weight
        self.rows += times
        self.soft += times * (0.0 < p < 1.0)
        self.weightless += times * (w == 0.0)
        if len(self.probabilities) < 2:
            self.probabilities.add(p)
        self.least, self.most = min(self.least, w), max(self.most, w)
        self._good += times * w * p
        self._bad += times * w * (1.0 - p)

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
    """Hold the raw labels of all rows, decide the rule of their column at the end, and name the rows it cannot read.

    A label takes 4 bytes a row, so that a column of any length can be held.
    """

    def __init__(self, report: DataReport, places: Places) -> None:
        self.rule: Rule | None = None
        self.thumbs = Thumbs()
        self.values = LabelValues()
        self._report = report
        self._places = places
        self._numbers = Numbers("i")
        self._probabilities = Numbers("d")
        self._weights = Numbers("d")
        self._good = Counter[bool]()

    def join(self, stretch: Stretch) -> None:
        """Append the labels of a stretch."""
        stretch.even()
        if stretch.labels:
            new = [self.values.number(stretch.values.value(n)) for n in range(len(stretch.values.values))]
            if stretch.values.scores or new != list(range(len(new))):
                value, number = stretch.values.value, self.values.number
                most = len(new)
                renumbered = (n if n < 0 else new[n] if n < most else number(value(n)) for n in stretch.labels)
                stretch.labels = array("i", renumbered)
            self._numbers.extend(stretch.labels)
        for mine, theirs in ((self._probabilities, stretch.probabilities), (self._weights, stretch.weights)):
            if theirs and len(mine) < len(self._numbers) - len(theirs):
                mine.extend(array("d", [math.nan]) * (len(self._numbers) - len(theirs) - len(mine)))
            mine.extend(theirs)

    def read(self, data: Mapping[str, Any]) -> bool:
        """Return the label of a row that `finish` did not refuse; a probability outweighs the label beside it."""
        if (probability := data.get("probability")) is not None:
            return bool(probability >= 0.5)
        if "label" not in self._report.columns:  # from a pair: true and false by construction
            return bool(data["label"])
        assert self.rule is not None
        return self.rule.read(data["label"]) is True

    def said(self, position: int) -> Any:
        """Return what was said of the row at a position: its raw label, or whether it is more likely desirable."""
        if position >= len(self._numbers):
            return None
        label = self.values.value(self._numbers[position])
        if label is None and position < len(self._probabilities):
            probability = self._probabilities[position]
            return None if math.isnan(probability) else probability >= 0.5
        return label

    def finish(self, complain: Callable[[Problem], None], *, collect: bool = False) -> set[tuple[str, int]]:
        """Report every row whose label cannot be read; return their places if they are to be collected."""
        column = self._report.columns.get("label")
        if len(self._numbers) and column:
            if self.rule is None:
                self.rule = infer_rule(self.values.values)
            self._report.label_rule = self.rule.kind
        elif len(self._numbers) and "probability" in self._report.columns:
            self._report.label_rule = "probability"
        bad: set[tuple[str, int]] = set()
        for position, label in self._unreadable(column):
            place = self._places[position]
            values = {**label.values, "column": column}
            complain(Problem(label.code, values, place.file, place.line, None, place.number, column))
            if collect:
                bad.add((place.file, place.number))
        return bad

    def _unreadable(self, column: str | None) -> Iterator[tuple[int, Problem]]:
        """Add up all labels; yield the rows whose label cannot be read."""
        plain = not len(self._probabilities) and not len(self._weights)
        position, verdicts = 0, dict[int, bool | Problem | None]()
        runs, before = 0, None
        for chunk in self._numbers.chunks():
            found = Counter(chunk)
            for number in found.keys() - verdicts.keys():
                verdicts[number] = self._verdict(number, column)
            bad = any(isinstance(verdicts[number], Problem) for number in found)
            if plain:
                for number, times in found.items():
                    if isinstance(label := verdicts[number], bool):
                        self._good[label] += times
                        self.thumbs.add(label, None, None, times)
            if bad or not plain:
                yield from self._each(position, chunk, verdicts, column, count=not plain)
            for number, _ in itertools.groupby(chunk):
                runs, before = runs + (verdicts[number] != before), verdicts[number]
            if self.values.scores:  # there may be as many as rows
                verdicts = {number: label for number, label in verdicts.items() if number < len(self.values.values)}
            position += len(chunk)
        self._tell_sorted(runs)

    def _each(
        self, start: int, chunk: array[int], verdicts: Mapping[int, bool | Problem | None], column: str | None, *,
        count: bool,
    ) -> Iterator[tuple[int, Problem]]:
        for position, number in enumerate(chunk, start):
            label = verdicts[number]
            if count and label is not None:
                probability, weight = self._soft(self._probabilities, position), self._soft(self._weights, position)
                label = self._weighed(position, label, number, probability, column)
                if isinstance(label, bool):
                    self._good[label] += 1
                    self.thumbs.add(label, probability, weight)
            if isinstance(label, Problem):
                yield position, label

    def _verdict(self, number: int, column: str | None) -> bool | Problem | None:
        if number == NO_LABEL:
            return None
        value = self.values.value(number)
        if column is None:
            return bool(value)
        assert self.rule is not None
        return self.rule.read(value)

    def _weighed(
        self, position: int, label: bool | Problem, number: int, probability: float | None, column: str | None
    ) -> bool | Problem:
        """Return a row's label beside its probability; warn where they disagree."""
        if probability is None:
            return label
        by_probability = probability >= 0.5
        if column is None or self.values.value(number) is None:
            return by_probability
        if isinstance(label, Problem):
            return label
        if label != by_probability and probability != 0.5:
            values = {"label": "true" if label else "false", "probability": probability, "column": column}
            place = self._places[position]
            self._report.add(Problem("data.label_against_probability", values, place.file, place.line, None,
                                     place.number, severity="warning"))
        return by_probability

    @staticmethod
    def _soft(column: Numbers, position: int) -> float | None:
        if position >= len(column):
            return None
        value: float = column[position]
        return None if math.isnan(value) else value

    def _tell_sorted(self, runs: int) -> None:
        """Note a file in which one class stands whole before the other: its first rows alone are one class."""
        yes, no = self.totals()
        if runs == 2 and min(yes, no) >= _SORTED_ROWS and self._report.columns.get("label"):
            values = {"desirable": yes, "undesirable": no}
            self._report.add(Problem("scan.sorted_by_label", values, file=self._report.path, severity="note"))

    def totals(self) -> tuple[int, int]:
        """Return the number of desirable and undesirable rows."""
        return self._good[True], self._good[False]

    def scores(self) -> dict[str, Any]:
        """Return the histogram of a label column of numbers that are more than yes and no; empty for others."""
        least, most, few = math.inf, -math.inf, set[float]()
        for plain, _ in self._plain():
            if plain is None or not math.isfinite(plain):
                return {}
            least, most = min(least, plain), max(most, plain)
            if len(few) <= _SCORE_BINS:
                few.add(plain)
        if len(few) < 3:
            return {}
        exact = len(few) <= _SCORE_BINS
        width = (most - least) / _SCORE_BINS
        edges = sorted(few) if exact else [round(least + width * n, 6) for n in range(_SCORE_BINS)]
        counts = dict.fromkeys(range(len(edges)), 0)
        for plain, times in self._plain():
            assert plain is not None
            counts[edges.index(plain) if exact else min(int((plain - least) / width), _SCORE_BINS - 1)] += times
        threshold = self.rule.threshold if self.rule is not None else None
        return {"edges": edges, "counts": list(counts.values()), "threshold": threshold}

    def _plain(self) -> Iterator[tuple[float | None, int]]:
        """Yield every label as a number and how often it stands, a part of the rows at a time; None for what is none."""
        for chunk in self._numbers.chunks():
            for number, times in Counter(chunk).items():
                plain = normalise(self.values.value(number))
                if plain is not None:
                    is_number = isinstance(plain, int | float) and not isinstance(plain, bool)
                    yield float(plain) if is_number else None, times


def report_copies(report: DataReport, keys: Numbers, labels: Labels, places: Places) -> None:
    """Report exact copies, and the same answer to the same prompt under two labels."""
    found = {code: Earliest(SHOWN_PER_CODE) for code in ("data.contradiction", "data.duplicate")}
    for position, first in repeated(keys):
        one, other = labels.said(first), labels.said(position)
        if "label" in report.columns and labels.rule is not None:
            read = labels.rule.read(one), labels.rule.read(other)
            contradict = all(isinstance(said, bool) for said in read) and read[0] != read[1]
        else:
            contradict = one != other
        found["data.contradiction" if contradict else "data.duplicate"].add(position, first)
    listed = [(position, first, code) for code, kept in found.items() for position, first in kept.first()]
    for position, first, code in sorted(listed):
        place = places[position]
        report.add(Problem(code, {"first": places[first].number}, place.file, place.line, None, place.number,
                           severity="warning"))
    for code, kept in found.items():
        report.more(code, kept.number - len(kept.first()))


class Lengths:
    """Count lengths in characters into fixed bins."""

    def __init__(self) -> None:
        self.number = 0
        self._sum = 0
        self._max = 0
        self._by_bits: Counter[int] = Counter()

    def add_all(self, lengths: array[int]) -> None:
        """Count texts by their lengths in characters."""
        if not lengths:
            return
        self.number += len(lengths)
        self._sum += sum(lengths)
        self._max = max(self._max, max(lengths))  # noqa: PLW3301 - `lengths` is an array
        self._by_bits.update(map(int.bit_length, lengths))

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
