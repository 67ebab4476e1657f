"""Read labelled answers for review: one item for each different answer, with what speaks against its label.

What speaks against it comes from the audit where there is one (`swiftshell data audit`), else from contradicting copies,
a probability, and columns `score_…` that go along with the labels.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.data.load import load_with_report
from swiftshell.data.row import Row, Turn

P_WRONG, REASON, SURE = "audit_p_wrong", "audit_reason", "audit_sure"
_SCORE = "score_"
_TELLING_AUC = 0.55  # a score column that ranks the labels no better than this says nothing of them
_ENOUGH = 20  # labels of each kind to look whether it does
_CONTENT = ("prompt", "completion", "tools", "images")


@dataclass(frozen=True)
class Doubt:
    """What speaks against a label.

    Attributes:
        p_wrong: probability that the label is wrong.
        reason: a catalogue key of the area `audit`, or a text of the file's own.
        sure: high, medium, low, or empty where nobody said.
    """

    p_wrong: float
    reason: str = ""
    sure: str = ""


Audit = Mapping[tuple[str, bool], Doubt]  # by an answer's digest and the label that is questioned


@dataclass(frozen=True)
class Item:
    """One answer to review.

    Attributes:
        hash: digest of prompt and answer; copies share it.
        label: what the rows say of it; None where they say nothing, or half of them this and half that.
        rows: numbers of the rows that hold it, in the order of the file.
        conflict: these rows contradict each other.
        weight: how much it weighs in training.
        scores: what scorers gave it, by name.
    """

    hash: str
    prompt: tuple[Turn, ...]
    completion: tuple[Turn, ...]
    label: bool | None
    rows: tuple[int, ...]
    conflict: bool = False
    weight: float = 1.0
    doubt: Doubt | None = None
    scores: Mapping[str, float] = field(default_factory=dict)


def content_hash(data: Mapping[str, Any]) -> str:
    """Return the digest of what is asked and answered, 32 hex digits; label, weight and other columns do not count."""
    content = {part: data[part] for part in _CONTENT if data.get(part)}
    text = json.dumps(content, ensure_ascii=False, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8"), digest_size=16).hexdigest()


def load_labelled(path: Path, columns: Mapping[str, str] | None = None) -> list[Row]:
    """Return the rows of a data set as KTO reads them; pairs become two rows.

    Raises:
        SwiftshellError: rows that cannot be used, with their places.
    """
    return load_with_report(path, "kto", columns=columns)[0]


def items(rows: Sequence[Row], audit: Audit | None = None) -> list[Item]:
    """Return one item for each different answer, in the order of the file."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(content_hash(row.data), []).append(row)
    columns = _telling_scores(rows)
    return [_item(digest, group, audit or {}, columns) for digest, group in groups.items()]


def read_audit(path: Path) -> Audit:
    """Return what an audit says of each answer, from the rows it wrote (a file, or the folder of its output)."""
    return audit_of(load_labelled(path))


def audit_of(rows: Iterable[Row]) -> Audit:
    """Return what the rows' own audit columns say; nothing where there are none."""
    found: dict[tuple[str, bool], Doubt] = {}
    for row in rows:
        value = row.extra.get(P_WRONG)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0.0 <= value <= 1.0:
            doubt = Doubt(float(value), str(row.extra.get(REASON) or ""), str(row.extra.get(SURE) or ""))
            found.setdefault((content_hash(row.data), bool(row.data["label"])), doubt)
    return found


def _item(digest: str, group: Sequence[Row], audit: Audit, columns: Sequence[_Column]) -> Item:
    first = group[0]
    labels = [bool(row.data["label"]) for row in group]
    good = sum(labels)
    label = None if 2 * good == len(labels) else 2 * good > len(labels)
    weights = [float(row.data.get("weight", 1.0)) for row in group]
    conflict = 0 < good < len(labels)
    scores = {
        name.removeprefix(_SCORE): float(value)
        for name, value in first.extra.items()
        if name.startswith(_SCORE) and _is_number(value)
    }
    known = audit.get((digest, label)) if label is not None else None
    doubt = known or _plain_doubt(first, label, good / len(labels), columns)
    return Item(
        digest,
        tuple(first.data["prompt"]),
        tuple(first.data["completion"]),
        label,
        tuple(row.number for row in group),
        conflict,
        max(weights),
        doubt,
        scores,
    )


def _plain_doubt(row: Row, label: bool | None, share: float, columns: Sequence[_Column]) -> Doubt | None:
    """Return what can be said without an audit."""
    if 0.0 < share < 1.0:
        return Doubt(min(share, 1.0 - share), "audit.reason.conflict")
    probability = row.data.get("probability")
    if isinstance(probability, int | float):
        return Doubt(1.0 - probability if label else float(probability), "audit.reason.probability")
    votes = [(c.telling, c.rank(row.extra[c.column])) for c in columns if _is_number(row.extra.get(c.column))]
    total = sum(weight for weight, _ in votes)
    if not total:
        return None
    rank = sum(weight * r for weight, r in votes) / total
    # A rank is no probability: the best that a score can say is how odd the label looks among all.
    return Doubt(0.5 * (1.0 - rank if label else rank), "audit.reason.scores")


@dataclass(frozen=True)
class _Column:
    """A column of scores that goes along with the labels: its sorted values, and by how much it beats chance."""

    column: str
    values: Sequence[float]
    telling: float

    def rank(self, value: float) -> float:
        """Return the share of rows with a lower score, 0 to 1."""
        return bisect_left(self.values, float(value)) / max(1, len(self.values))


def _telling_scores(rows: Sequence[Row]) -> list[_Column]:
    names = dict.fromkeys(name for row in rows[:200] for name in row.extra if name.startswith(_SCORE))
    found = []
    for name in names:
        scored = [
            (float(row.extra[name]), bool(row.data["label"]))
            for row in rows
            if _is_number(row.extra.get(name))
        ]
        auc = _auc(scored)
        if auc is not None and auc >= _TELLING_AUC:
            found.append(_Column(name, sorted(v for v, _ in scored), auc - 0.5))
    return found


def _auc(scored: Sequence[tuple[float, bool]]) -> float | None:
    """Return how often a desirable row scores above an undesirable one; ties count half."""
    good = sorted(v for v, label in scored if label)
    bad = sorted(v for v, label in scored if not label)
    if min(len(good), len(bad)) < _ENOUGH:
        return None
    from bisect import bisect_right

    wins = sum(bisect_left(bad, v) + bisect_right(bad, v) for v in good)
    return wins / (2 * len(good) * len(bad))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value
