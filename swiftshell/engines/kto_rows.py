"""Order KTO's rows and weigh its classes.

TRL pairs each prompt with its neighbour's answer inside batches of fixed order to estimate the KL term, and never
shuffles. So the order given here is the order trained in: shuffled, the rarer class spread evenly, a whole number of
batches.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from swiftshell.errors import fail

TARGET_RATIO = (
    1.15  # weighted desirable : undesirable, inside what the paper (1 to 3/2) and TRL (1 to 4/3) recommend
)
WEIGHT_CAP = 15.0  # beyond this the rare class's noise is amplified more than its signal

Item = TypeVar("Item")


@dataclass(frozen=True)
class Arranged:
    """Rows in training order.

    Attributes:
        rows: a multiple of the batch size.
        repeated: rows at the end of `rows` that occur twice, to fill the last batch.
        one_sided: batches that hold one class only (the rarer class has fewer rows than there are batches).
    """

    rows: list[Any]
    repeated: int
    one_sided: int


def arrange(rows: Sequence[Item], labels: Sequence[bool], batch: int, seed: int) -> Arranged:
    """Shuffle, interleave the classes and fill the last batch by repeating rows (none is thrown away)."""
    order = _interleaved(labels, seed)
    missing = -len(order) % batch
    filled = [order[i % len(order)] for i in range(len(order) + missing)]
    sides = [{labels[i] for i in filled[at : at + batch]} for at in range(0, len(filled), batch)]
    return Arranged([rows[i] for i in filled], missing, sum(1 for s in sides if len(s) == 1))


def _interleaved(labels: Sequence[bool], seed: int) -> list[int]:
    """Return indices with the rarer class at even distances: a batch as long as the distance holds both classes."""
    rng = random.Random(seed)
    rare = [i for i, label in enumerate(labels) if label]
    common = [i for i, label in enumerate(labels) if not label]
    if len(rare) > len(common):
        rare, common = common, rare
    rng.shuffle(rare)
    rng.shuffle(common)
    total = len(labels)
    places = {int((i + 0.5) * total / len(rare)) for i in range(len(rare))} if rare else set()
    rares, commons = iter(rare), iter(common)
    return [next(rares) if at in places else next(commons) for at in range(total)]


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
