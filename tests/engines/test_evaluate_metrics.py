"""Numbers with intervals: known values, and the same answer as counting by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from swiftshell.engines import metrics as m


def test_wilson_known_values() -> None:
    assert m.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert m.wilson(0, 20)[0] == 0.0
    assert m.wilson(20, 20)[1] == 1.0
    assert m.wilson(0, 0) == (0.0, 1.0)


def test_auc_equals_counting_pairs() -> None:
    rng = np.random.default_rng(3)
    good = [list(rng.integers(0, 5, size=rng.integers(0, 3)) + 1.0) for _ in range(30)]
    bad = [list(rng.integers(0, 5, size=rng.integers(0, 3)) * 1.0) for _ in range(30)]
    ups, downs = [x for row in good for x in row], [x for row in bad for x in row]
    by_hand = np.mean([1.0 if u > d else 0.5 if u == d else 0.0 for u in ups for d in downs])
    assert m.over_all(30, m.auc_of(good, bad)) == pytest.approx(by_hand)


def test_auc_counts_a_row_as_often_as_it_is_drawn() -> None:
    auc = m.auc_of([[1.0], [0.0]], [[0.5], [0.5]])
    assert auc(np.array([[0, 1], [0, 0], [1, 1]])).tolist() == [0.5, 1.0, 0.0]


def test_auc_without_one_class_is_no_number() -> None:
    assert math.isnan(m.over_all(2, m.auc_of([[1.0], [2.0]], [[], []])))


def test_perplexity_weighs_tokens_not_rows() -> None:
    assert m.over_all(2, m.perplexity_of([-1.0, -9.0], [1, 9])) == pytest.approx(math.e)
    assert m.over_all(2, m.perplexity_of([-2.0, 0.0], [1, 9])) == pytest.approx(math.exp(0.2))


def test_bootstrap_is_fixed_and_holds_the_value() -> None:
    values = np.random.default_rng(0).normal(5, 1, size=200).tolist()
    low, high = m.bootstrap(200, m.mean_of(values))
    assert low < np.mean(values) < high
    assert 0.2 < high - low < 0.4  # 2 * 1.96 / sqrt(200) = 0.28
    assert (low, high) == m.bootstrap(200, m.mean_of(values))


def test_a_paired_difference_cancels_what_rows_share() -> None:
    earlier = np.random.default_rng(0).normal(0, 10, size=100)
    difference, low, high = m.paired_difference(100, m.mean_of((earlier + 0.5).tolist()), m.mean_of(earlier.tolist()))
    assert (difference, low, high) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(("one", "other"), [("Ａnna  has\na ball.", "anna has a ball"), ("是红的。", "是红的"), (" 12 ", "12")])
def test_texts_that_match(one: str, other: str) -> None:
    assert m.normalised(one) == m.normalised(other)


def test_texts_that_do_not_match() -> None:
    assert m.normalised("Anna has a ball") != m.normalised("Anna has a bell")
