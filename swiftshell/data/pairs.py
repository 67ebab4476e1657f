"""Use thumbs for the stages that want something else: pairs for DPO, the good answers for SFT.

A pair is a desirable and an undesirable answer to exactly the same prompt (system prompt, tools and images included).
Every answer is used at most once, an answer that people judged both ways not at all. Which answer meets which is drawn
by a generator seeded with the prompt itself, so that plan, worker and a later run make the same pairs.

Only digests, labels and places are kept, about 50 bytes a row, so that a check needs no row in memory.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from array import array
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data.compact import Places
from swiftshell.data.labels import Rule, infer_rule, normalise
from swiftshell.data.report import DataReport
from swiftshell.data.row import Row
from swiftshell.data.stretch import LabelValues
from swiftshell.errors import Problem

Place = tuple[str, int]  # file, row
_FEW = 0.5  # below this share of rows with a partner DPO leaves most of what people said unused
_TELLING_NAMES = ("label", "kto_tag", "is_preferred")  # a "tag" or "feedback" is often none of ours
_DIGEST_BYTES = 16
_ROWS_PER_PART = 1 << 16
_ANSWER_PARTS = ("completion", "label", "probability", "weight", "id")


@dataclass
class _Prompt:
    """What was said of the answers to one prompt: answer digest → where it first stood, and the labels it got."""

    places: dict[bytes, Place] = field(default_factory=dict)
    labels: dict[bytes, set[bool]] = field(default_factory=dict)

    def side(self, label: bool) -> list[Place]:
        """Return the answers that were judged only so, in the order of the file."""
        return [self.places[a] for a, said in self.labels.items() if said == {label}]


class Pairing:
    """Collect labelled answers, then say which of them are pairs."""

    def __init__(self) -> None:
        self._asked, self._answers = bytearray(), bytearray()  # a digest of each row
        self._places = Places()
        self._values = LabelValues()
        self._labels, self._probabilities = array("i"), array("d")

    def add(self, row: Row, data: Mapping[str, Any]) -> None:
        """Remember a converted row (prompt, completion, label not yet read); one of weight 0 is to count for nothing."""
        if data.get("weight") == 0.0:
            return
        self._asked += _digest({k: v for k, v in data.items() if k not in _ANSWER_PARTS})
        self._answers += _digest(data["completion"])
        self._places.add(row.file, row.number, row.line)
        self._labels.append(self._values.number(data.get("label")))
        self._probabilities.append(data.get("probability", math.nan))

    def finish(
        self, read: Callable[[Mapping[str, Any]], bool], refused: Collection[Place], *, keep: bool = True
    ) -> Pairs:
        """Return the pairs; `read` gives the label of a row's label parts, unless the row was refused.

        Prompts are looked at in parts, so that few of them are in memory; without `keep` the pairs are only counted.
        """
        partner: dict[Place, Place] = {}
        counted = Counter[str]()
        parts = 1 + len(self._labels) // _ROWS_PER_PART
        for part in range(parts):
            prompts = self._prompts(part, parts, read, refused, counted)
            counted["prompts"] += len(prompts)
            for asked, prompt in prompts.items():
                good, bad = prompt.side(True), prompt.side(False)
                counted["both"] += bool(good and bad)
                counted["pairs"] += min(len(good), len(bad))
                counted["judged_twice"] += sum(len(said) == 2 for said in prompt.labels.values())
                counted["different"] += len(prompt.places)
                if keep:
                    draw = random.Random(asked)
                    draw.shuffle(good)
                    draw.shuffle(bad)
                    partner.update(zip(good, bad, strict=False))
        return Pairs(
            partner,
            counted["pairs"],
            counted["rows"],
            counted["prompts"],
            counted["both"],
            counted["judged_twice"],
            copies=counted["rows"] - counted["different"],
        )

    def _prompts(
        self,
        part: int,
        parts: int,
        read: Callable[[Mapping[str, Any]], bool],
        refused: Collection[Place],
        counted: Counter[str],
    ) -> dict[bytes, _Prompt]:
        prompts: dict[bytes, _Prompt] = {}
        for at, (number, probability) in enumerate(zip(self._labels, self._probabilities, strict=True)):
            start = at * _DIGEST_BYTES
            if parts > 1 and self._asked[start] % parts != part:
                continue
            file, row, _ = self._places[at]
            if (file, row) in refused:
                continue
            said: dict[str, Any] = {"label": self._values.value(number)}
            if not math.isnan(probability):
                said["probability"] = probability
            counted["rows"] += 1
            prompt = prompts.setdefault(bytes(self._asked[start : start + _DIGEST_BYTES]), _Prompt())
            answer = bytes(self._answers[start : start + _DIGEST_BYTES])
            prompt.places.setdefault(answer, (file, row))
            prompt.labels.setdefault(answer, set()).add(read(said))
        return prompts


@dataclass(frozen=True)
class Pairs:
    """Pairs made of thumbs.

    Attributes:
        partner: place of the desirable answer → place of the undesirable one; empty if pairs were only counted.
        pairs: how many there are.
        rows: labelled answers looked at; `prompts`: different prompts among them; `both`: prompts with both kinds.
        judged_twice: answers that got both labels and so belong to no pair; `copies`: rows that repeat an answer.
    """

    partner: Mapping[Place, Place]
    pairs: int
    rows: int
    prompts: int
    both: int
    judged_twice: int
    copies: int

    def facts(self) -> dict[str, int]:
        """Return the numbers for the report."""
        return {
            "pairs": self.pairs,
            "rows": self.rows,
            "paired": 2 * self.pairs,
            "alone": self.rows - 2 * self.pairs,
            "prompts": self.prompts,
            "both": self.both,
            "judged_twice": self.judged_twice,
            "copies": self.copies,
        }

    def tell(self, report: DataReport) -> None:
        """Say in the report how many rows found a partner; none at all refuses the data."""
        report.pairing = facts = self.facts()
        if not self.pairs:
            if self.rows:
                report.add(Problem("pairs.none", facts, file=report.path))
            return
        many = facts["paired"] >= _FEW * self.rows
        code, severity = ("pairs.made", "note") if many else ("pairs.few", "warning")
        report.add(Problem(code, facts, file=report.path, severity=severity))  # type: ignore[arg-type]

    def rows_of(self, kept: list[Row]) -> list[Row]:
        """Return the kept thumbs as rows of chosen and rejected; the place is that of the desirable answer."""
        at = {(row.file, row.number): row for row in kept}
        made = []
        for good, bad in self.partner.items():
            if good in at and bad in at:
                chosen, rejected = at[good], at[bad]
                rest = {k: v for k, v in chosen.data.items() if k not in _ANSWER_PARTS}
                data = {**rest, "chosen": chosen.data["completion"], "rejected": rejected.data["completion"]}
                made.append(
                    Row(
                        chosen.number,
                        chosen.line,
                        data,
                        chosen.file,
                        {**chosen.extra, "rejected_row": rejected.number},
                    )
                )
        return sorted(made, key=lambda row: (row.file, row.number))


class Desirable:
    """Find the good answers among thumbs, for SFT.

    A column that only looks like one of thumbs (its values are not all yes or no) is left alone, unless a person named
    it or gave a rule for it.
    """

    def __init__(self, rule: Rule | None, *, named: bool) -> None:
        self._rule = rule
        self._strict = named or rule is not None
        self._values = LabelValues()
        self._labels = array("i")
        self._places = Places()
        self.out = 0  # rows left out, once finished

    def take(self, row: Row, made: list[dict[str, Any]]) -> None:
        """Take the label out of the rows that a source row became, and remember it with its place."""
        for data in made:
            probability, label = data.pop("probability", None), data.pop("label", None)
            value = label if probability is None else probability >= 0.5
            self._labels.append(self._values.number(value))
            self._places.add(row.file, row.number, row.line)

    def finish(
        self, report: DataReport, complain: Callable[[Problem], None], *, collect: bool = True
    ) -> set[Place]:
        """Say in the report which rows are left out; return their places if they are to be collected."""
        column = report.columns.get("label") or report.columns.get("probability", "")
        by_probability = self._rule is not None and self._rule.kind == "probability"
        rule = (None if by_probability else self._rule) or infer_rule(self._values.values)
        verdicts = _Verdicts(rule, self._values)
        counted = Counter(map(verdicts.kind, self._labels))
        if counted["bad"] and not self._strict:
            report.columns.pop("label", None)
            report.unused.append(column)
            if column in _TELLING_NAMES:
                report.add(Problem("data.label_unused", {"column": column}, file=report.path, severity="warning"))
            return set()
        left_out: set[Place] = set()
        for at, number in enumerate(self._labels):
            if (kind := verdicts.kind(number)) == "good":
                continue
            if kind == "bad" or collect:
                file, row, line = self._places[at]
                left_out |= {(file, row)} if collect else set()
                if isinstance(label := verdicts.of(number), Problem) and kind == "bad":
                    complain(Problem(label.code, {**label.values, "column": column}, file, line, None, row, column))
        report.label_rule = rule.kind
        report.classes = {"desirable": counted["good"], "undesirable": counted["undesirable"]}
        self.out = len(self._labels) - counted["good"]
        values = {"kept": counted["good"], "total": len(self._labels), "out": self.out,
                  "unlabelled": counted["missing"], "column": column}
        if not counted["good"]:
            report.add(Problem("pairs.nothing_to_imitate", values, file=report.path))
        elif self.out:
            report.add(Problem("pairs.desirable_only", values, file=report.path, severity="note"))
        return left_out


class _Verdicts:
    """What a rule says of labels, by their numbers, each asked once."""

    def __init__(self, rule: Rule, values: LabelValues) -> None:
        self._rule, self._values = rule, values
        self._kinds: dict[int, str] = {}

    def of(self, number: int) -> bool | Problem:
        """Return the label, or the problem that it is."""
        return self._rule.read(self._values.value(number))

    def kind(self, number: int) -> str:
        """Return good, undesirable, missing or bad."""
        if (known := self._kinds.get(number)) is None:
            label = self.of(number)
            if isinstance(label, Problem):
                known = "missing" if normalise(self._values.value(number)) is None else "bad"
            else:
                known = "good" if label else "undesirable"
            if number < len(self._values.values):
                self._kinds[number] = known
        return known


def _digest(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=_DIGEST_BYTES).digest()
