"""Turn what people, rules and scorers said of each answer into a label, a weight, and one weight for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from swiftshell.data.balance import TARGET_RATIO, WEIGHT_CAP, Balance, balance, fold
from swiftshell.engines.rows import Example
from swiftshell.errors import fail
from swiftshell.stages.base import Context

_NO_COLUMNS = ("probability", "weight")


@dataclass(frozen=True)
class Labelled:
    """Rows with a hard label and a weight each, and the weights of the classes.

    Attributes:
        examples: `data` has `label` (bool) and `weight` (float above 0) and no `probability`.
        balance: expected, weighted numbers of both classes and their weights.
        chosen: the class weights were set here, not by a person.
        soft: rows whose probability lies between 0 and 1.
        without_effect: rows left out, because their weight is 0 or their probability says nothing.
        row_weights: least and greatest weight given to a row.
    """

    examples: list[Example]
    balance: Balance
    chosen: bool
    soft: int
    without_effect: int
    row_weights: tuple[float, float]

    @property
    def desirable(self) -> int:
        """Return the number of rows with the label true."""
        return sum(bool(e.data["label"]) for e in self.examples)

    @property
    def undesirable(self) -> int:
        """Return the number of rows with the label false."""
        return len(self.examples) - self.desirable

    @property
    def desirable_weight(self) -> float:
        """Return TRL's weight of the desirable class."""
        return self.balance.desirable_weight

    @property
    def undesirable_weight(self) -> float:
        """Return TRL's weight of the undesirable class."""
        return self.balance.undesirable_weight

    def summary(self) -> dict[str, Any]:
        """Return the facts for the step's result."""
        return {
            "desirable": self.desirable,
            "undesirable": self.undesirable,
            "desirable_weight": self.desirable_weight,
            "undesirable_weight": self.undesirable_weight,
            "weighted_desirable": round(self.balance.desirable, 3),
            "weighted_undesirable": round(self.balance.undesirable, 3),
            "class_ratio": round(self.balance.ratio, 4),
            "class_weight_capped": self.balance.capped,
            "soft_rows": self.soft,
            "rows_without_effect": self.without_effect,
            "row_weight_min": self.row_weights[0],
            "row_weight_max": self.row_weights[1],
        }

    def tell(self, ctx: Context) -> None:
        """Say which class weights are used and why, and what was left out."""
        both = self.balance
        values = {
            "desirable_weight": f"{both.desirable_weight:g}",
            "undesirable_weight": f"{both.undesirable_weight:g}",
            "desirable": f"{both.desirable:.6g}",
            "undesirable": f"{both.undesirable:.6g}",
            "ratio": f"{both.ratio:.3g}",
        }
        ctx.note("thumbs.balanced" if self.chosen else "thumbs.given", **values, target=f"{TARGET_RATIO:g}")
        if both.capped:
            ctx.warn("thumbs.capped", **values, wanted=f"{both.wanted_weight:.3g}", cap=f"{WEIGHT_CAP:g}")
        if self.soft:
            ctx.note("thumbs.soft", count=self.soft, total=len(self.examples) + self.without_effect)
        if self.without_effect:
            ctx.note("thumbs.without_effect", count=self.without_effect, left=len(self.examples))


def read(examples: Sequence[Example], params: Any, file: str) -> Labelled:
    """Return the rows with label and weight.

    Rows of weight 0 count as absent, the others' weights are brought to mean 1 (equal ones are then exactly 1). The
    class weights follow from the weighted rows, each counted by its probability; with them a probability becomes a
    hard label and a weight without loss (`swiftshell.data.balance`).

    Raises:
        SwiftshellError: there is nothing to tell apart.
    """
    present = [e for e in examples if e.data.get("weight", 1.0) > 0.0]
    if not present:
        raise fail("thumbs.weights_zero", file=file, total=len(examples))
    given = [float(e.data.get("weight", 1.0)) for e in present]
    row_weights = normalised(given)
    chances = [_chance(e) for e in present]
    good = sum(w * p for w, p in zip(row_weights, chances, strict=True))
    bad = sum(w * (1.0 - p) for w, p in zip(row_weights, chances, strict=True))
    if not good or not bad:
        raise _one_class(len(present), file, missing="label: true" if not good else "label: false")
    asked = params.desirable_weight, params.undesirable_weight
    both = balance(good, bad, *asked)
    kept = []
    for example, weight, chance in zip(present, row_weights, chances, strict=True):
        label, share = fold(chance, both)
        if share > 0.0:
            kept.append(_labelled(example, label, weight * share))
    labels = {e.data["label"] for e in kept}
    if len(labels) < 2:
        raise fail("thumbs.one_side", file=file, total=len(present), label=str(labels == {True}).lower())
    soft = sum(0.0 < p < 1.0 for p in chances)
    return Labelled(
        kept,
        both,
        "auto" in asked,
        soft,
        len(examples) - len(kept),
        (round(min(given), 6), round(max(given), 6)),
    )


def held_out(examples: Sequence[Example]) -> list[Example]:
    """Return rows to measure with: each counts once, as what it more probably is."""
    return [_labelled(e, bool(e.data["label"]), 1.0) for e in examples]


def normalised(weights: Sequence[float]) -> list[float]:
    """Return weights of mean 1; equal ones become exactly 1, so that nothing changes where nothing is weighed."""
    if min(weights) == max(weights):
        return [1.0] * len(weights)
    mean = sum(weights) / len(weights)
    return [w / mean for w in weights]


def class_counts(labels: Sequence[bool], file: str) -> tuple[int, int]:
    """Return the numbers of desirable and undesirable rows.

    Raises:
        SwiftshellError: one class is missing; KTO has nothing to tell apart.
    """
    desirable = sum(labels)
    undesirable = len(labels) - desirable
    if not desirable or not undesirable:
        raise _one_class(len(labels), file, missing="label: true" if not desirable else "label: false")
    return desirable, undesirable


def weights(
    desirable: float, undesirable: float, desirable_weight: float | str, undesirable_weight: float | str
) -> tuple[float, float]:
    """Return both class weights (see `swiftshell.data.balance.balance`)."""
    both = balance(desirable, undesirable, desirable_weight, undesirable_weight)
    return both.desirable_weight, both.undesirable_weight


def _chance(example: Example) -> float:
    probability = example.data.get("probability")
    return float(bool(example.data["label"])) if probability is None else float(probability)


def _labelled(example: Example, label: bool, weight: float) -> Example:
    data = {k: v for k, v in example.data.items() if k not in _NO_COLUMNS}
    return replace(example, data={**data, "label": label, "weight": weight})


def _one_class(total: int, file: str, missing: str) -> Exception:
    return fail("train.one_class", file=file, total=total, missing=missing)
