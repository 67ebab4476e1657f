"""The order of KTO's rows and the weights of its classes (no model needed)."""

from __future__ import annotations

import itertools
import random

import pytest

from swiftshell.engines import kto_batches, kto_labels
from swiftshell.errors import SwiftshellError


@pytest.mark.parametrize("batch", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("share", [0.5, 0.4, 0.2, 0.75])
@pytest.mark.parametrize("total", [64, 65, 101, 200])
def test_every_batch_holds_both_classes_where_there_are_enough(total: int, share: float, batch: int) -> None:
    labels = [i < total * share for i in range(total)]  # sorted by class, as unpaired pairs come
    arranged = kto_batches.arrange(list(range(total)), labels, batch, seed=3)
    assert len(arranged.rows) % batch == 0
    assert arranged.repeated == -total % batch
    assert set(arranged.rows) == set(range(total)), "no row is lost"
    rare = min(sum(labels), total - sum(labels))
    sides = [
        {labels[i] for i in arranged.rows[at : at + batch]} for at in range(0, len(arranged.rows), batch)
    ]
    one_sided = sum(len(s) == 1 for s in sides)
    assert arranged.one_sided == one_sided
    if rare * batch >= total and arranged.repeated == 0:
        assert one_sided == 0


def test_rare_classes_are_spread_and_counted() -> None:
    labels = [True] * 5 + [False] * 95
    arranged = kto_batches.arrange(list(range(100)), labels, 4, seed=0)
    places = [at for at, row in enumerate(arranged.rows) if row < 5]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert all(18 <= gap <= 22 for gap in gaps)
    assert arranged.one_sided == 20


def test_the_order_depends_on_the_seed_alone() -> None:
    labels = [random.Random(1).random() < 0.5 for _ in range(50)]
    one, same, other = (kto_batches.arrange(list(range(50)), labels, 4, seed=s).rows for s in (1, 1, 2))
    assert one == same != other


@pytest.mark.parametrize(
    ("desirable", "undesirable", "expected"),
    [
        (100, 100, (1.0, 0.8696)),
        (200, 100, (1.0, 1.7391)),
        (100, 200, (2.3, 1.0)),
        (10, 1000, (15.0, 1.0)),
        (1000, 10, (1.0, 15.0)),
    ],
)
def test_auto_weights_bring_the_classes_to_1_15(
    desirable: int, undesirable: int, expected: tuple[float, float]
) -> None:
    found = kto_labels.weights(desirable, undesirable, "auto", "auto")
    assert found == expected
    if 15.0 not in found:
        assert found[0] * desirable / (found[1] * undesirable) == pytest.approx(1.15, rel=1e-3)


def test_a_given_weight_is_kept_and_the_other_follows() -> None:
    assert kto_labels.weights(100, 50, 1.0, 1.0) == (1.0, 1.0)
    assert kto_labels.weights(100, 50, 2.0, "auto") == (2.0, round(200 / 57.5, 4))
    assert kto_labels.weights(100, 50, "auto", 2.0) == (1.15, 2.0)


def test_one_class_is_refused() -> None:
    with pytest.raises(SwiftshellError) as refused:
        kto_labels.class_counts([True] * 4, "thumbs.jsonl")
    problem = refused.value.problems[0]
    assert problem.code == "train.one_class"
    assert problem.values["missing"] == "label: false"
