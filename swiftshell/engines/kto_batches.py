"""Compose KTO's batches: which rows train together, in what order.

TRL pairs each prompt with its neighbour's answer inside batches of fixed order to estimate the KL term, and never
shuffles. So the order given here is the order trained in: shuffled, the rarer class spread evenly, a whole number of
batches.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

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


def whole_order(rows: int, batch: int, accumulation: int, epochs: float, max_steps: int, seed: int) -> list[int]:
    """Return row positions for all of training; its length is optimizer steps x `batch` x `accumulation`, or less at the end.

    The batches of later epochs come in another order; the rows inside a batch stay together, so that the KL pairs TRL
    made, and what the reference says of them, hold in every epoch.
    """
    groups = [list(range(at, at + batch)) for at in range(0, rows, batch)]
    per_epoch = math.ceil(len(groups) / accumulation)
    steps = max_steps if max_steps > 0 else math.ceil(epochs * per_epoch)
    wanted = steps * accumulation if max_steps > 0 or epochs != 1 else len(groups)
    order: list[list[int]] = []
    epoch = 0
    while len(order) < wanted:
        turn = list(groups)
        if epoch:
            random.Random(f"{seed}/{epoch}").shuffle(turn)
        order += turn
        epoch += 1
    return [i for group in order[:wanted] for i in group]
