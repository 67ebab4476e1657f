"""Use thumbs for the stages that want something else: pairs for DPO, the good answers for SFT.

A pair is a desirable and an undesirable answer to exactly the same prompt (system prompt, tools and images included).
Every answer is used at most once, an answer that people judged both ways not at all. Which answer meets which is drawn
by a generator seeded with the prompt itself, so that plan, worker and a later run make the same pairs.

Only digests and places are kept, about 200 bytes a row, so that a check needs no row in memory.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data.labels import Rule, infer_rule, normalise
from swiftshell.data.report import DataReport
from swiftshell.data.row import Row
from swiftshell.errors import Problem

Place = tuple[str, int]  # file, row
_FEW = 0.5  # below this share of rows with a partner DPO leaves most of what people said unused
_TELLING_NAMES = ("label", "kto_tag", "is_preferred")  # a "tag" or "feedback" is often none of ours
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
        self._rows: list[tuple[bytes, bytes, Place, Any]] = []

    def add(self, row: Row, data: Mapping[str, Any]) -> None:
        """Remember a converted row (prompt, completion, label not yet read); one of weight 0 is to count for nothing."""
        if data.get("weight") == 0.0:
            return
        asked = {k: v for k, v in data.items() if k not in _ANSWER_PARTS}
        self._rows.append(
            (_digest(asked), _digest(data["completion"]), (row.file, row.number), dict(_label_parts(data)))
        )

    def finish(self, read: Callable[[Mapping[str, Any]], bool], refused: Collection[Place]) -> Pairs:
        """Return the pairs; `read` gives the label of a row's label parts, unless the row was refused."""
        prompts: dict[bytes, _Prompt] = {}
        rows = 0
        for asked, answer, place, said in self._rows:
            if place in refused:
                continue
            label = read(said)
            rows += 1
            prompt = prompts.setdefault(asked, _Prompt())
            prompt.places.setdefault(answer, place)
            prompt.labels.setdefault(answer, set()).add(label)
        partner: dict[Place, Place] = {}
        both = 0
        for asked, prompt in prompts.items():
            good, bad = prompt.side(True), prompt.side(False)
            both += bool(good and bad)
            draw = random.Random(asked)
            draw.shuffle(good)
            draw.shuffle(bad)
            partner.update(zip(good, bad, strict=False))
        judged_twice = sum(len(said) == 2 for p in prompts.values() for said in p.labels.values())
        copies = rows - sum(len(p.places) for p in prompts.values())
        return Pairs(partner, rows, len(prompts), both, judged_twice, copies)


@dataclass(frozen=True)
class Pairs:
    """Pairs made of thumbs.

    Attributes:
        partner: place of the desirable answer → place of the undesirable one.
        rows: labelled answers looked at; `prompts`: different prompts among them; `both`: prompts with both kinds.
        judged_twice: answers that got both labels and so belong to no pair; `copies`: rows that repeat an answer.
    """

    partner: Mapping[Place, Place]
    rows: int
    prompts: int
    both: int
    judged_twice: int
    copies: int

    def facts(self) -> dict[str, int]:
        """Return the numbers for the report."""
        pairs = len(self.partner)
        return {
            "pairs": pairs,
            "rows": self.rows,
            "paired": 2 * pairs,
            "alone": self.rows - 2 * pairs,
            "prompts": self.prompts,
            "both": self.both,
            "judged_twice": self.judged_twice,
            "copies": self.copies,
        }

    def tell(self, report: DataReport) -> None:
        """Say in the report how many rows found a partner; none at all refuses the data."""
        report.pairing = facts = self.facts()
        if not self.partner:
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
        self._values: list[tuple[Any, Row]] = []

    def take(self, row: Row, made: list[dict[str, Any]]) -> None:
        """Take the label out of the rows that a source row became, and remember it with its place."""
        for data in made:
            probability, label = data.pop("probability", None), data.pop("label", None)
            value = label if probability is None else probability >= 0.5
            self._values.append((value, Row(row.number, row.line, {}, row.file)))

    def finish(self, report: DataReport, complain: Callable[[Problem], None]) -> set[Place]:
        """Return the places of the rows to leave out, and say so in the report."""
        column = report.columns.get("label") or report.columns.get("probability", "")
        by_probability = self._rule is not None and self._rule.kind == "probability"
        rule = (None if by_probability else self._rule) or infer_rule(value for value, _ in self._values)
        read = [(rule.read(value), normalise(value) is None, row) for value, row in self._values]
        bad = [(label, row) for label, missing, row in read if isinstance(label, Problem) and not missing]
        if bad and not self._strict:
            report.columns.pop("label", None)
            report.unused.append(column)
            if column in _TELLING_NAMES:
                report.add(
                    Problem("data.label_unused", {"column": column}, file=report.path, severity="warning")
                )
            return set()
        for label, row in bad:
            complain(
                Problem(
                    label.code,
                    {**label.values, "column": column},
                    row.file,
                    row.line,
                    None,
                    row.number,
                    column,
                )
            )
        report.label_rule = rule.kind
        out = {(row.file, row.number) for label, _, row in read if label is not True}
        kept, unlabelled = len(read) - len(out), sum(missing for _, missing, _ in read)
        report.classes = {"desirable": kept, "undesirable": len(out) - unlabelled - len(bad)}
        values = {
            "kept": kept,
            "total": len(read),
            "out": len(out),
            "unlabelled": unlabelled,
            "column": column,
        }
        if not kept:
            report.add(Problem("pairs.nothing_to_imitate", values, file=report.path))
        elif out:
            report.add(Problem("pairs.desirable_only", values, file=report.path, severity="note"))
        return out


def _label_parts(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(part, data[part]) for part in ("label", "probability") if part in data]


def _digest(value: Any) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).digest()
