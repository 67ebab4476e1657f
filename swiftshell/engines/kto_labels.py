"""Turn what people, rules and scorers said of each answer into a label, a weight, and one weight for each class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from swiftshell.engines.rows import Example
from swiftshell.errors import fail

TARGET_RATIO = (
    1.15  # weighted desirable : undesirable, inside what the paper (1 to 3/2) and TRL (1 to 4/3) recommend
)
WEIGHT_CAP = 15.0  # beyond this the rare class's noise is amplified more than its signal


@dataclass(frozen=True)
class Labelled:
    """Rows with a hard label and a weight each, and the weights of the classes.

    Attributes:
        examples: `data` has `label` (bool) and `weight` (float).
        desirable, undesirable: numbers of rows.
        desirable_weight, undesirable_weight: TRL's class weights.
    """

    examples: list[Example]
    desirable: int
    undesirable: int
    desirable_weight: float
    undesirable_weight: float

    def summary(self) -> dict[str, Any]:
        """Return the facts for the step's result."""
        return {
            "desirable": self.desirable,
            "undesirable": self.undesirable,
            "desirable_weight": self.desirable_weight,
            "undesirable_weight": self.undesirable_weight,
        }


def read(examples: Sequence[Example], params: Any, file: str) -> Labelled:
    """Return the rows with label and weight.

    Raises:
        SwiftshellError: one class is missing.
    """
    desirable, undesirable = class_counts([e.data["label"] for e in examples], file)
    both = weights(desirable, undesirable, params.desirable_weight, params.undesirable_weight)
    weighted = [replace(e, data={**e.data, "weight": 1.0}) for e in examples]
    return Labelled(weighted, desirable, undesirable, *both)


def class_counts(labels: Sequence[bool], file: str) -> tuple[int, int]:
    """Return the numbers of desirable and undesirable rows.

    Raises:
        SwiftshellError: one class is missing; KTO has nothing to tell apart.
    """
    desirable = sum(labels)
    undesirable = len(labels) - desirable
    if not desirable or not undesirable:
        missing = "label: true" if not desirable else "label: false"
        raise fail("train.one_class", file=file, total=len(labels), missing=missing)
    return desirable, undesirable


def weights(
    desirable: int, undesirable: int, desirable_weight: float | str, undesirable_weight: float | str
) -> tuple[float, float]:
    """Return both class weights; `auto` brings the weighted classes to `TARGET_RATIO` through the rarer one."""
    if desirable_weight != "auto" and undesirable_weight != "auto":
        return float(desirable_weight), float(undesirable_weight)
    if desirable_weight == "auto" and undesirable_weight == "auto":
        if desirable < undesirable:
            return _capped(TARGET_RATIO * undesirable / desirable), 1.0
        return 1.0, _capped(desirable / (TARGET_RATIO * undesirable))
    if desirable_weight == "auto":
        given = float(undesirable_weight)
        return _capped(TARGET_RATIO * given * undesirable / desirable), given
    given = float(desirable_weight)
    return given, _capped(given * desirable / (TARGET_RATIO * undesirable))


def _capped(weight: float) -> float:
    return round(min(weight, WEIGHT_CAP), 4)
