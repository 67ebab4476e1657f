"""Count over a whole data set: labels, copies, lengths, and prompts that training and held-out rows share."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from swiftshell.data.labels import Rule, infer_rule
from swiftshell.data.report import DataReport
from swiftshell.data.row import Row, Turn, text_of
from swiftshell.errors import Problem

_HISTOGRAM_EDGES = (0, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768)


class Labels:
    """Collect a label column's raw values, decide its rule at the end, and name the rows it cannot read."""

    def __init__(self, report: DataReport) -> None:
        self.rule: Rule | None = None
        self._report = report
        self._places: list[tuple[Any, str, int | None, int]] = []  # value, file, line, row
        self._good = Counter[bool]()

    def add(self, row: Row, data: Mapping[str, Any]) -> None:
        """Remember a converted row's label and place."""
        if "label" not in data:
            return
        if "label" not in self._report.columns:  # from a pair: true and false by construction
            self._good[data["label"]] += 1
            return
        value = data["label"]
        self._places.append((value, row.file, row.line, row.number))

    def read(self, value: Any) -> bool:
        """Return the label of a value that `finish` did not refuse."""
        if "label" not in self._report.columns:
            return bool(value)
        assert self.rule is not None
        return self.rule.read(value) is True

    def finish(self, complain: Callable[[Problem], None]) -> set[tuple[str, int]]:
        """Report every row whose label cannot be read; return their places."""
        if not self._places:
            return set()
        if self.rule is None:
            self.rule = infer_rule(value for value, *_ in self._places)
        self._report.label_rule = self.rule.kind
        column = self._report.columns["label"]
        bad: set[tuple[str, int]] = set()
        for value, file, line, number in self._places:
            label = self.rule.read(value)
            if isinstance(label, Problem):
                complain(
                    Problem(label.code, {**label.values, "column": column}, file, line, None, number, column)
                )
                bad.add((file, number))
            else:
                self._good[label] += 1
        return bad

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
        key = _digest({k: v for k, v in data.items() if k not in ("label", "id")})
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
