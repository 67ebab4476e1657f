"""What the curves of a training say: each fault is told by its name, and a healthy run is not called ill."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from swiftshell.engines.metrics import over_all
from swiftshell.engines.reward_numbers import Answer, Groups, answers_of, numbers_of, spearman
from swiftshell.engines.rows import Example
from swiftshell.engines.verdicts import Chart, Circumstances, VerdictCallback, read
from swiftshell.i18n import has
from tests.engines.conftest import FakeContext

pytestmark = pytest.mark.engine

ABOUT = Circumstances(
    beta=0.1,
    learning_rate=3e-4,
    untrained_loss=0.57,
    answer_tokens=12.0,
    batches=75,
    desirable=200,
    undesirable=200,
)
STEPS = 75


def chart(
    steps: int = STEPS,
    noise: float = 0.02,
    *,
    done: float = 1.0,
    without: tuple[str, ...] = (),
    **ends: float,
) -> Chart:
    """Return curves that go from the untrained values to `ends` in a straight line, with noise."""
    rng = random.Random(1)
    for side in ("chosen", "rejected"):  # a reward is beta x tokens x the log-ratio per token
        if f"logratios_{side}_per_token" in ends:
            ends[f"rewards_{side}"] = ABOUT.beta * ABOUT.answer_tokens * ends[f"logratios_{side}_per_token"]
    start = {
        "loss": 0.57,
        "kl": 0.0,
        "kl/unclamped": 0.0,
        "kl/unclamped_per_token": 0.0,
        "rewards/chosen": 0.0,
        "rewards/rejected": 0.0,
        "rewards/margins": 0.0,
        "logratios/chosen_per_token": 0.0,
        "logratios/rejected_per_token": 0.0,
    }
    found = Chart()
    for i in range(steps):
        share = (i + 1) / steps
        entry = {
            n: v + share * (ends.get(n.replace("/", "_"), v) - v) + rng.gauss(0, noise * share)
            for n, v in start.items()
            if n not in without
        }
        found.add({**entry, **({"kl": 0.0} if "kl" not in without else {})})
    found.done = done
    return found


HEALTHY = {
    "loss": 0.5,
    "kl_unclamped": -3.5,
    "kl_unclamped_per_token": -0.29,
    "rewards_chosen": -0.1,
    "rewards_rejected": -0.6,
    "rewards_margins": 0.5,
    "logratios_chosen_per_token": -0.08,
    "logratios_rejected_per_token": -0.5,
}


def held(*auc: float, **last: float) -> list[dict[str, float]]:
    found = [{"step": i * 25.0, "preference_auc": value, "length_auc": 0.5} for i, value in enumerate(auc)]
    return [*found[:-1], {**found[-1], **last}]


def codes(
    curves: Chart, measured: list[dict[str, float]] | None = None, about: Circumstances = ABOUT
) -> list[str]:
    return [v.code.removeprefix("verdict.") for v in read(curves, measured or [], about)]


def test_a_healthy_run_is_healthy() -> None:
    assert codes(chart(**HEALTHY)) == ["healthy"]
    assert codes(chart(**HEALTHY), held(0.5, 0.8, 0.9)) == ["healthy_held_out"]


def test_an_unclamped_kl_that_falls_is_no_collapse_while_desirable_answers_keep_their_likelihood() -> None:
    assert "collapse" not in codes(chart(**{**HEALTHY, "kl_unclamped_per_token": -0.6}))


def test_both_rewards_fall() -> None:
    ill = {
        **HEALTHY,
        "logratios_chosen_per_token": -0.4,
        "rewards_chosen": -0.5,
        "kl_unclamped_per_token": 0.0,
    }
    (verdict,) = read(chart(**ill), [], ABOUT)
    assert verdict.code == "verdict.both_fall"
    assert verdict.values["learning_rate"] == 3e-4


def test_without_log_ratios_rewards_are_brought_down_to_tokens() -> None:
    without = (
        "logratios/chosen_per_token",
        "logratios/rejected_per_token",
        "kl/unclamped_per_token",
        "kl/unclamped",
        "kl",
    )
    falls = chart(without=without, loss=0.4, rewards_chosen=-0.5, rewards_rejected=-0.8, rewards_margins=0.3)
    assert codes(falls) == ["both_fall"]  # 0.5 / 0.1 / 12 tokens: -0.42 nats each
    falls_no_more = {"rewards_chosen": -0.1, "rewards_rejected": -1.5, "rewards_margins": 1.4}
    keeps = chart(without=without, loss=0.4, **falls_no_more)
    assert codes(keeps) == ["healthy"]


def test_a_collapse_that_the_logged_kl_hides() -> None:
    ill = {
        **HEALTHY,
        "logratios_chosen_per_token": -2.0,
        "kl_unclamped_per_token": -2.2,
        "rewards_margins": 0.1,
    }
    found = read(chart(**ill), [], ABOUT)
    assert [v.code for v in found] == ["verdict.collapse"]
    assert found[0].values["logged_kl"] == 0.0


def test_far_from_the_reference() -> None:
    assert codes(chart(**{**HEALTHY, "kl_unclamped": 40.0})) == ["far_from_reference"]


def test_one_class_in_a_batch() -> None:
    about = replace(ABOUT, one_sided=60)
    assert codes(chart(**HEALTHY), about=about) == ["one_class_batches"]
    assert codes(chart(**HEALTHY), about=replace(ABOUT, one_sided=30)) == ["healthy"]


def test_nothing_learned() -> None:
    assert codes(chart(noise=0.001)) == ["nothing_learned"]
    assert codes(chart(noise=0.001, done=0.3)) == ["unclear"]  # warmup: too early to say


def test_labels_that_tell_nothing_apart() -> None:
    alike = {"loss": 0.571, "rewards_chosen": -0.1, "rewards_rejected": -0.1, "rewards_margins": 0.0}
    assert codes(chart(noise=0.05, **alike)) == ["not_told_apart"]


def test_random_labels_are_not_called_inverted() -> None:
    alike = {"loss": 0.571, "rewards_chosen": -0.1, "rewards_rejected": -0.1, "rewards_margins": 0.0}
    assert codes(chart(noise=0.05, **alike), held(0.5, 0.42)) == ["not_told_apart"]


def test_inverted_labels_show_on_held_out_rows_only() -> None:
    assert codes(chart(**HEALTHY), held(0.5, 0.2)) == ["inverted"]
    few = replace(ABOUT, desirable=4, undesirable=4)
    assert "inverted" not in codes(
        chart(**HEALTHY), held(0.5, 0.4), few
    )  # eight answers are too few to say so


def test_overfitting() -> None:
    assert codes(chart(**HEALTHY), held(0.5, 0.9, 0.8)) == ["overfitting"]
    (verdict,) = read(chart(**HEALTHY), held(0.5, 0.9, 0.8), ABOUT)
    assert verdict.values["step"] == 25
    assert codes(chart(**HEALTHY), held(0.5, 0.9, 0.89)) == ["healthy_held_out"]


def test_a_further_round_that_starts_high_and_falls_is_not_called_overfitted() -> None:
    """What it started from is compared by rounds; overfitting means that this training was better before."""
    assert "overfitting" not in codes(chart(**HEALTHY), held(0.9, 0.8))


def test_a_margin_that_does_not_reach_held_out_rows() -> None:
    assert codes(chart(**HEALTHY), held(0.5, 0.51)) == ["not_general"]


def test_answers_grow_longer_not_better() -> None:
    assert codes(chart(**HEALTHY), held(0.8, 0.8, length_ratio=1.8)) == ["longer_not_better"]
    assert codes(chart(**HEALTHY), held(0.7, 0.8, length_ratio=1.8)) == ["healthy_held_out"]


def test_a_reward_that_is_length() -> None:
    measured = held(0.5, 0.9, reward_length_correlation=0.95, length_auc=0.91)
    assert codes(chart(**HEALTHY), measured) == ["reward_is_length"]
    short = held(0.5, 0.9, reward_length_correlation=-0.95, length_auc=0.09)
    assert codes(chart(**HEALTHY), short) == ["reward_is_length"]
    assert codes(chart(**HEALTHY), held(0.5, 0.9, reward_length_correlation=0.95, length_auc=0.6)) == [
        "healthy_held_out"
    ]


def test_few_steps_say_nothing() -> None:
    assert codes(chart(steps=3, **HEALTHY)) == ["unclear"]
    assert codes(Chart()) == ["unclear"]


def test_several_faults_come_gravest_first() -> None:
    ill = {**HEALTHY, "logratios_chosen_per_token": -0.4, "kl_unclamped_per_token": 0.0}
    assert codes(chart(**ill), held(0.5, 0.2), replace(ABOUT, one_sided=70)) == [
        "both_fall",
        "inverted",
        "one_class_batches",
    ]


def logs(step: int, *, ill: bool) -> dict[str, float]:
    fallen = -0.02 * step if ill else 0.0
    return {
        "loss": 0.5,
        "rewards/chosen": fallen,
        "rewards/rejected": fallen - 0.3,
        "rewards/margins": 0.3,
        "logratios/chosen_per_token": fallen,
        "logratios/rejected_per_token": fallen - 0.1,
    }


def follow(callback: VerdictCallback, steps: range, *, ill: bool) -> None:
    state = SimpleNamespace(global_step=0, max_steps=60, log_history=[])
    callback.on_train_begin(None, state, None)
    for step in steps:
        state.global_step = step
        callback.on_log(None, state, None, logs=logs(step, ill=ill))


def test_bad_news_is_told_once_and_only_when_it_lasts(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path)
    callback = VerdictCallback(ctx, ABOUT)
    follow(callback, range(1, 12), ill=True)
    assert ctx.codes() == []  # not enough points that agree
    follow(callback, range(1, 40), ill=True)
    assert ctx.codes() == ["verdict.both_fall"]
    callback.finish([logs(step, ill=True) for step in range(1, 40)])
    assert ctx.codes() == ["verdict.both_fall"]


def test_the_end_tells_what_the_kept_weights_went_through(tmp_path: Path) -> None:
    """After the guard went back, the last word is about the steps that count."""
    ctx = FakeContext(tmp_path)
    callback = VerdictCallback(ctx, ABOUT)
    follow(callback, range(1, 40), ill=True)
    told = callback.finish([logs(step, ill=False) for step in range(1, 40)])
    assert [v["code"] for v in told] == ["verdict.healthy"]
    assert ctx.codes() == ["verdict.both_fall", "verdict.healthy"]


def test_a_resumed_training_remembers_its_chart(tmp_path: Path) -> None:
    callback = VerdictCallback(FakeContext(tmp_path), ABOUT)
    state = SimpleNamespace(global_step=9, max_steps=60, log_history=[logs(i, ill=False) for i in range(9)])
    callback.on_train_begin(None, state, None)
    assert len(callback.chart) == 9


def test_every_verdict_has_its_words() -> None:
    import swiftshell.engines.verdicts as module

    text = Path(module.__file__).read_text(encoding="utf-8")
    found = {part.split('"')[0] for part in text.split('"verdict.')[1:]}
    assert len(found) > 10
    assert [name for name in found if not has(f"verdict.{name}") or not has(f"verdict.{name}.hint")] == []


# ------------------------------------------------------------------------------------------ held-out numbers


def answer(prompt: int, tokens: int, desirable: bool) -> Answer:
    return Answer((prompt,), tuple(range(100 * desirable, 100 * desirable + tokens)), desirable)


def test_numbers_of_a_measurement() -> None:
    answers = [
        answer(1, 2, True),
        answer(1, 4, False),
        answer(2, 2, True),
        answer(2, 4, False),
        answer(3, 3, True),
    ]
    found = numbers_of(answers, [1.0, -1.0, -2.0, 2.0, 3.0], 0.1, z0=0.5)
    assert found["preference_auc"] == pytest.approx(3 / 6)  # of 3 x 2 comparisons
    assert found["preference_accuracy"] == 0.5  # prompt 3 has no pair
    assert found["threshold_accuracy"] == pytest.approx(3 / 5)
    assert found["reward_chosen"] == pytest.approx(0.1 * 2 / 3)
    assert found["length_auc"] == 0.0
    assert found["tokens_rejected"] == 4.0
    assert numbers_of(answers[:1], [1.0], 0.1).keys() == {"reward_chosen", "tokens_chosen"}


def test_ties_count_half() -> None:
    answers = [answer(1, 2, True), answer(1, 4, False)]
    found = numbers_of(answers, [0.0, 0.0], 0.1)
    assert found["preference_auc"] == found["preference_accuracy"] == 0.5
    groups = Groups([*answers, answer(1, 5, False)])
    assert over_all(1, groups.accuracy([1.0, 0.0, 2.0])) == 0.5


def test_rank_correlation() -> None:
    assert spearman([1.0, 2.0, 3.0, 10.0], [5.0, 6.0, 7.0, 8.0]) == pytest.approx(1.0)
    assert spearman([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1.0)
    assert spearman([1.0, 1.0, 1.0], [3.0, 2.0, 1.0]) is None


def rows(prompts: int) -> list[Example]:
    pairs: list[Any] = [
        Example(i, i, "f", {"prompt": "", "chosen": "", "rejected": ""}, (i, 7), ((1, 2), (3, 4, i)))
        for i in range(prompts)
    ]
    return pairs


def test_held_out_rows_become_different_answers_with_their_prompts_whole() -> None:
    found = answers_of([*rows(3), *rows(3)], seed=1)
    assert len(found) == 6
    assert sum(a.desirable for a in found) == 3
    thumb = Example(1, 1, "f", {"prompt": "", "completion": "", "label": False}, (1,), ((2,),))
    assert answers_of([thumb, thumb], 1) == [Answer((1,), (2,), False)]


def test_too_many_held_out_rows_are_a_seeded_choice_of_prompts() -> None:
    found = answers_of(rows(100), seed=1, most=20)
    assert len(found) == 20
    assert len({a.prompt_ids for a in found}) == 10
    assert found == answers_of(rows(100), seed=1, most=20)
    assert found != answers_of(rows(100), seed=2, most=20)
