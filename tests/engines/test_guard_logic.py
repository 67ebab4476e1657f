"""The guard's judgement on made-up series: what trips it, what must not, and that its memory survives exactly."""

from __future__ import annotations

import json
import math
import random
from typing import Any

import pytest

from swiftshell.engines.guard import (
    CHOSEN,
    GRADIENTS_GONE,
    KL_SEQUENCE,
    KL_TOKEN,
    LOSS,
    REJECTED,
    Guard,
    Trip,
)
from swiftshell.stages.guard import Guard as Settings

Row = dict[str, float]


def row(
    chosen: float = 0.0, rejected: float = 0.0, kl: float = 0.0, loss: float = 0.5, kl_sequence: float = 0.0
) -> Row:
    return {LOSS: loss, CHOSEN: chosen, REJECTED: rejected, KL_TOKEN: kl, KL_SEQUENCE: kl_sequence}


def feed(rows: list[Row], beta: float = 0.1, every: int = 1, **settings: Any) -> tuple[Guard, Trip | None]:
    """Feed a series, one log every `every` steps; stop at the first trip."""
    guard = Guard(Settings(**settings), beta)
    for i, values in enumerate(rows, 1):
        if (trip := guard.observe(i * every, values)) is not None:
            return guard, trip
    return guard, None


def test_a_training_that_separates_the_classes_is_left_alone() -> None:
    rows = [row(chosen=0.1 + 0.002 * i, rejected=-0.02 * i, kl=-0.005 * i) for i in range(200)]
    guard, trip = feed(rows)
    assert trip is None
    assert guard.healthy
    assert guard.gap > 3


@pytest.mark.parametrize("patience", [1, 3, 5, 12])
def test_falling_desirable_answers_trip_within_the_patience(patience: int) -> None:
    rows = [row()] * 20 + [row(chosen=-1.0, rejected=-1.0, kl=-1.0)] * 40
    _, trip = feed(rows, patience_steps=patience, smoothing_steps=5)
    assert trip is not None
    assert trip.code == "guard.chosen_fell"
    assert trip.step <= 20 + patience + 1, "one step for the average to cross the limit, then the patience"
    assert trip.limit == -0.15
    assert trip.found is not None
    assert trip.found < trip.limit


def test_the_kl_that_trl_shows_plays_no_part() -> None:
    rows = [{**row(chosen=-2.0, rejected=-2.0, kl=-2.0), "kl": 0.0}] * 30
    assert feed([row(), *rows])[1] is not None


def test_a_growing_kl_trips() -> None:
    _, trip = feed([row(chosen=0.1, kl=0.02 * i) for i in range(60)])
    assert trip is not None
    assert (trip.code, trip.limit) == ("guard.kl_high", 0.15)


def test_a_kl_below_what_desirable_answers_gain_is_let_pass_further() -> None:
    """KTO on a base model without an SFT raises the likelihood of everything in the new style, the good answers most."""
    assert feed([row()] + [row(chosen=0.8, rejected=-0.2, kl=0.3)] * 60)[1] is None
    assert feed([row()] + [row(chosen=0.8, rejected=-0.2, kl=0.6)] * 60)[1] is not None


def test_flat_gradients_trip() -> None:
    wild = row(chosen=0.05, rejected=0.0, kl=0.1, kl_sequence=2 * GRADIENTS_GONE / 0.1)
    _, trip = feed([row()] * 5 + [wild] * 20)
    assert trip is not None
    assert trip.code == "guard.gradients_gone"


def test_both_classes_falling_together_trips_before_the_limit() -> None:
    """At -0.002 a step, the limit of -0.15 would be crossed after step 75; the window sees it earlier."""
    rows = [row(chosen=-0.002 * i, rejected=-0.0018 * i) for i in range(60)]
    _, trip = feed(rows)
    assert trip is not None
    assert trip.code == "guard.both_fall"


def test_both_falling_while_the_margin_grows_is_kto_at_work() -> None:
    rows = [row(chosen=-0.002 * i, rejected=-0.01 * i) for i in range(60)]
    assert feed(rows)[1] is None


def test_a_deeper_fall_is_excused_only_by_a_still_deeper_one_of_the_others() -> None:
    fallen = -0.3  # twice the limit
    assert feed([row()] + [row(chosen=fallen, rejected=4 * fallen)] * 60)[1] is None
    assert feed([row()] + [row(chosen=fallen, rejected=1.2 * fallen)] * 60)[1] is not None
    assert feed([row()] + [row(chosen=4 * fallen, rejected=40 * fallen)] * 60)[1] is not None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [LOSS, CHOSEN, KL_TOKEN])
def test_a_number_that_is_not_finite_trips_at_once(bad: float, name: str) -> None:
    guard, trip = feed([row(), {**row(), name: bad}])
    assert trip == Trip("guard.not_finite", 2, None, None)
    assert all(math.isfinite(v) for pair in guard.state.averages.values() for v in pair)


def test_a_single_odd_batch_trips_nothing() -> None:
    rows = [row()] * 10 + [row(chosen=-0.5, rejected=-0.5)] + [row()] * 20
    assert feed(rows)[1] is None


def test_a_batch_of_few_tokens_counts_for_few() -> None:
    """Batches hold answers of one length: what the shortest ones lost per token says little about the whole."""
    short = {
        **row(chosen=-0.9, rejected=-0.9),
        "rewards/chosen": -0.9 * 2 * 0.1,
        "rewards/rejected": -0.9 * 2 * 0.1,
    }
    long = {
        **row(chosen=0.01, rejected=-0.02),
        "rewards/chosen": 0.01 * 60 * 0.1,
        "rewards/rejected": -0.02 * 60 * 0.1,
    }
    assert feed([long, long, short] * 30)[1] is None
    assert feed(
        [long, long, {**short, "rewards/chosen": -0.9 * 60 * 0.1, "rewards/rejected": -0.9 * 60 * 0.1}] * 30
    )[1]


def test_what_is_not_logged_is_not_judged() -> None:
    """apo_zero_unpaired has no KL; a batch may lack one class."""
    rows = [{LOSS: 0.4, CHOSEN: 0.1}] * 30
    guard, trip = feed(rows)
    assert trip is None
    assert guard.healthy


def test_a_continued_policy_is_measured_from_where_it_started() -> None:
    """A second round starts away from the reference: that is no drift, and falling further is."""
    far = row(chosen=-0.4, rejected=-0.5, kl=0.4)
    assert feed([far] * 60)[1] is None
    assert feed([far] * 10 + [row(chosen=-1.0, rejected=-1.1, kl=0.4)] * 20)[1] is not None
    assert feed([far] * 10 + [row(chosen=-0.4, rejected=-0.5, kl=1.0)] * 20)[1] is not None


def test_a_start_above_the_reference_is_no_credit_to_lose() -> None:
    """Desirable answers that were gained in an earlier round may come back to the reference, and no further."""
    gained = [row(chosen=0.6)] * 10
    assert feed(gained + [row(chosen=-0.1, rejected=-0.9)] * 20)[1] is None
    assert feed(gained + [row(chosen=-0.3, rejected=-0.3)] * 20)[1] is not None


def test_averages_over_several_steps_count_as_that_many() -> None:
    """With one log in ten steps, the first one out of bounds is ten bad steps."""
    rows = [row()] * 3 + [row(chosen=-1.0, rejected=-1.0)] * 3
    _, trip = feed(rows, every=10)
    assert trip is not None
    assert trip.step == 40


def test_probe_answers_join_in() -> None:
    guard = Guard(Settings(), 0.1)
    assert all(guard.observe(i, row()) is None for i in range(1, 11))
    guard.observe_probe(0.9)
    assert not guard.healthy
    trips = [guard.observe(i, row()) for i in range(11, 17)]
    first = next(t for t in trips if t is not None)
    assert (first.code, first.step, first.found) == ("guard.probe_high", 15, 0.9)


def test_healthy_means_half_of_every_limit() -> None:
    settings = Settings()
    assert feed([row()] + [row(chosen=settings.min_chosen_logratio * 0.45)] * 40)[0].healthy
    assert not feed([row()] + [row(chosen=settings.min_chosen_logratio * 0.7)] * 40)[0].healthy
    assert not feed([row()] + [row(kl=settings.max_kl * 0.7)] * 40)[0].healthy


def _random_series(seed: int) -> list[Row]:
    rng = random.Random(seed)
    drift, noise = rng.uniform(-0.05, 0.02), rng.uniform(0.0, 0.3)
    return [
        row(
            chosen=drift * i + rng.gauss(0, noise),
            rejected=2 * drift * i + rng.gauss(0, noise),
            kl=drift * i + rng.gauss(0, noise),
            loss=rng.random(),
        )
        for i in range(80)
    ]


@pytest.mark.parametrize("seed", range(40))
def test_memory_survives_json_exactly(seed: int) -> None:
    """Cut anywhere, restored from JSON and fed the rest: the same verdict at the same step, and the same memory."""
    series = _random_series(seed)
    cut = random.Random(seed).randrange(1, 80)
    whole, expected = feed(series)
    first = Guard(Settings(), 0.1)
    found = None
    for i, values in enumerate(series[:cut], 1):
        if (found := first.observe(i, values)) is not None:
            break
    second = Guard(Settings(), 0.1)
    second.restore(json.loads(json.dumps(first.as_json())))
    if found is None:
        for i, values in enumerate(series[cut:], cut + 1):
            if (found := second.observe(i, values)) is not None:
                break
    assert found == expected
    assert second.as_json() == whole.as_json()


@pytest.mark.parametrize("seed", range(40))
def test_never_before_the_patience_and_never_without_a_number_out_of_bounds(seed: int) -> None:
    guard, trip = feed(_random_series(seed))
    if trip is None:
        assert guard.state.bad_steps < 5
        return
    assert trip.step >= 5
    assert trip.found is not None
    assert trip.limit is not None
    assert abs(trip.found) > abs(trip.limit)
    assert not guard.healthy


@pytest.mark.parametrize("seed", range(20))
def test_tighter_limits_never_trip_later(seed: int) -> None:
    series = _random_series(seed)
    loose = feed(series, min_chosen_logratio=-0.6, max_kl=0.6)[1]
    tight = feed(series, min_chosen_logratio=-0.3, max_kl=0.3)[1]
    if loose is not None and loose.code != "guard.both_fall":
        assert tight is not None
        assert tight.step <= loose.step
