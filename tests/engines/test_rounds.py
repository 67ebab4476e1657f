"""Rounds: what old rows join the new ones, and when a round is kept from its place because it is worse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swiftshell.engines import rounds
from swiftshell.engines.rounds import Round
from swiftshell.engines.rows import Example
from swiftshell.run import artifact
from tests.engines.conftest import (
    FAST,
    FakeContext,
    Ran,
    colour_rows,
    data_ref,
    make_request,
    make_runner,
    write_jsonl,
)

pytestmark = pytest.mark.engine

# ------------------------------------------------------------------------------------------ rows of earlier rounds


def thumb(question: int, answer: int, label: bool) -> Example:
    return Example(
        question, question, "f", {"prompt": "", "completion": "", "label": label}, (question,), ((answer,),)
    )


def test_new_rows_win_over_old_ones() -> None:
    new = [thumb(1, 1, True), thumb(2, 1, True)]
    old = [thumb(1, 1, True), thumb(2, 1, False), thumb(3, 1, False), thumb(1, 2, False)]
    found = rounds.merge(new, [old])
    assert (found.repeated, found.relabelled, found.available) == (1, 1, 2)
    assert found.examples == old[2:]


def test_a_newer_round_wins_over_an_older_one() -> None:
    newer, older = [thumb(1, 1, True)], [thumb(1, 1, False), thumb(2, 2, False)]
    found = rounds.merge([thumb(9, 9, True)], [newer, older])
    assert found.examples == [newer[0], older[1]]
    assert found.relabelled == 1


def test_rows_that_one_file_repeats_or_contradicts_stay_as_they_were() -> None:
    old = [thumb(1, 1, True), thumb(1, 1, True), thumb(1, 1, False)]
    assert rounds.merge([], [old]).examples == old
    found = rounds.merge(old, [old])  # the same file once more: nothing new, and no label that changed
    assert (found.examples, found.repeated, found.relabelled) == ([], 3, 0)


def test_old_rows_are_drawn_in_their_class_mix_and_the_same_every_time() -> None:
    old = [thumb(i, 1, i % 4 == 0) for i in range(400)]
    found = rounds.sample(old, 40, seed=1)
    assert len(found) == len({e.number for e in found}) == 40
    assert sum(e.data["label"] for e in found) == 10
    assert found == rounds.sample(old, 40, seed=1)
    assert found != rounds.sample(old, 40, seed=2)
    assert [e.number for e in found] == sorted(e.number for e in found)
    assert rounds.sample(old, 999, seed=1) == old


@pytest.mark.parametrize("count", range(12))
def test_shares_always_add_up(count: int) -> None:
    old = [thumb(i, 1, i % 3 == 0) for i in range(11)]
    assert len(rounds.sample(old, count, seed=3)) == min(count, 11)


# ------------------------------------------------------------------------------------------ comparison

SECOND = Round(2, "r/kto/adapter")


def compared(
    tmp_path: Path, this: Round = SECOND, **change: list[float | None]
) -> tuple[dict[str, Any], list[str], list[str]]:
    ctx = FakeContext(tmp_path)
    record, gate = rounds.compare(this, {"answers": 400, "pairs": 200, "change": change}, ctx)
    return record, [p.code for p in gate], ctx.codes()


def test_a_round_is_held_back_only_if_it_is_clearly_worse(tmp_path: Path) -> None:
    record, gate, told = compared(tmp_path, preference_auc=[-0.1, -0.15, -0.05])
    assert (gate, told, record["worse"]) == (["rounds.worse"], [], True)
    record, gate, told = compared(tmp_path, preference_auc=[-0.1, -0.21, 0.01])
    assert (gate, told, record["worse"]) == ([], ["rounds.equal"], False)
    assert compared(tmp_path, preference_auc=[0.1, 0.05, 0.15])[2] == ["rounds.better"]


def test_accuracy_speaks_where_auc_does_not(tmp_path: Path) -> None:
    worse = {"preference_accuracy": [-0.1, -0.15, -0.05]}
    assert compared(tmp_path, **worse)[1] == ["rounds.worse"]
    assert compared(tmp_path, preference_auc=[0.0, -0.01, 0.01], **worse)[1] == ["rounds.worse"]
    assert compared(tmp_path, preference_auc=[0.1, 0.05, 0.15], **worse)[1] == []


def test_without_both_classes_held_out_a_round_is_not_compared(tmp_path: Path) -> None:
    assert compared(tmp_path)[2] == ["rounds.not_compared"]
    assert compared(tmp_path, preference_auc=[None, None, None])[2] == ["rounds.not_compared"]


def test_a_first_round_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    record, gate, told = compared(tmp_path, Round(1, None), preference_auc=[-0.3, -0.4, -0.2])
    assert (record, gate, told) == ({"number": 1, "previous": None}, [], [])


# ------------------------------------------------------------------------------------------ whole rounds

KTO = {**FAST, "max_steps": 12, "learning_rate": 5e-3, "eval_steps": 6, "guard": {"enabled": False}}


@pytest.fixture(scope="module")
def first(sft: Ran, colours: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return a first round of KTO, measured on pairs."""
    return make_runner(tmp_path_factory.mktemp("first"))(
        "kto", KTO, inputs(sft, colours["kto"], colours["dpo"])
    )


def inputs(
    policy: Ran,
    train: Path,
    held: Path | None = None,
    *,
    reference: Ran | None = None,
    replay: Path | None = None,
) -> dict[str, Any]:
    found = {
        "policy": policy.ref("adapter", "policy"),
        "reference": (reference or policy).ref("adapter", "reference"),
        "train_data": data_ref(train),
    }
    if held is not None:
        found["eval_data"] = data_ref(held, "eval_data")
    if replay is not None:
        found["replay_data"] = (data_ref(replay, "replay_data"),)
    return found


def held_out(ran: Ran) -> dict[str, Any]:
    found: dict[str, Any] = ran.outcome.summary["heldout"]
    return found


def test_held_out_rewards_start_at_nothing_and_end_in_the_summary(first: Ran) -> None:
    told = held_out(first)
    assert told["start"]["preference_auc"] == told["start"]["preference_accuracy"] == 0.5
    assert told["start"]["reward_chosen"] == 0.0  # exactly: the policy is the reference
    assert told["end"]["preference_auc"] > 0.9
    assert [e["step"] for e in told["history"]] == [0, 6, 12]
    assert told["end"]["length_ratio"] > 0
    low, high = told["intervals"]["preference_auc"][1:]
    assert low <= told["end"]["preference_auc"] <= high
    assert first.outcome.metrics["eval_preference_auc"] == pytest.approx(told["end"]["preference_auc"])
    assert first.ctx.series("eval_preference_auc") == pytest.approx(
        [e["preference_auc"] for e in told["history"]]
    )


def test_rewards_agree_with_what_trl_logs_for_the_same_rows(first: Ran) -> None:
    """TRL's mean over the evaluation's batches; every row occurs equally often in both."""
    metrics = first.outcome.metrics
    assert held_out(first)["end"]["reward_chosen"] == pytest.approx(metrics["eval_rewards/chosen"], abs=0.03)
    assert held_out(first)["end"]["reward_rejected"] == pytest.approx(
        metrics["eval_rewards/rejected"], abs=0.03
    )


def test_a_first_round_says_that_it_is_the_first(first: Ran) -> None:
    record = artifact.read(first.artifacts["adapter"])
    assert record is not None
    assert record["rounds"] == {"number": 1, "previous": None}
    assert first.outcome.summary["verdict"].startswith("verdict.")
    assert "rounds.overlap" in first.ctx.codes()  # the same eight questions


def test_a_second_round_starts_where_the_first_ended_and_is_compared(
    first: Ran, sft: Ran, colours: dict[str, Path], tmp_path: Path
) -> None:
    new = write_jsonl(tmp_path / "new.jsonl", colour_rows("kto", 8))
    second = make_runner(tmp_path)(
        "kto",
        {**KTO, "replay_ratio": 1.0},
        inputs(first, new, colours["dpo"], reference=sft, replay=colours["kto"]),
    )
    start, ended = held_out(second)["start"], held_out(first)["end"]
    for name in ("preference_auc", "preference_accuracy", "reward_chosen", "reward_rejected"):
        assert start[name] == pytest.approx(ended[name], abs=1e-4), name
    told = second.outcome.summary
    assert (told["rounds"]["number"], told["rounds"]["previous"]) == (2, "run/kto/adapter")
    assert len(told["rounds"]["difference"]["preference_auc"]) == 3
    assert told["reference"] == "run/sft/adapter"
    assert {"rounds.equal", "rounds.better"} & set(second.ctx.codes())
    assert not second.outcome.gate
    assert told["replay"]["rows"] == 8
    assert told["replay"]["sources"][0]["path"] == str(colours["kto"])
    assert told["rows_trained"] == 16


def test_a_round_of_inverted_thumbs_is_kept_and_does_not_take_its_place(
    first: Ran, sft: Ran, colours: dict[str, Path], tmp_path: Path
) -> None:
    wrong = write_jsonl(
        tmp_path / "wrong.jsonl", [{**r, "label": not r["label"]} for r in colour_rows("kto")]
    )
    ran = make_runner(tmp_path)(
        "kto",
        {**KTO, "max_steps": 40, "learning_rate": 2e-2, "eval_steps": 0},
        inputs(first, wrong, colours["dpo"], reference=sft),
    )
    assert [p.code for p in ran.outcome.gate] == ["rounds.worse"]
    record = artifact.read(ran.artifacts["adapter"])
    assert record is not None
    assert record["good"] is False
    assert record["rounds"]["worse"] is True
    assert (ran.artifacts["adapter"] / "adapter_model.safetensors").is_file()
    assert "verdict.inverted" in [v["code"] for v in ran.outcome.summary["verdicts"]]


def test_without_held_out_rows_a_warning_says_so(
    first: Ran, sft: Ran, colours: dict[str, Path], tmp_path: Path
) -> None:
    ran = make_runner(tmp_path)("kto", KTO, inputs(first, colours["kto"], reference=sft))
    assert "rounds.not_compared" in ran.ctx.codes()
    assert "heldout" not in ran.outcome.summary
    assert ran.outcome.summary["rounds"]["number"] == 2


def test_dpo_rounds_are_compared_too(sft: Ran, colours: dict[str, Path], tmp_path: Path) -> None:
    params = {**FAST, "learning_rate": 5e-3, "eval_steps": 3}
    once = make_runner(tmp_path / "1")("dpo", params, inputs(sft, colours["dpo"], colours["dpo"]))
    twice = make_runner(tmp_path / "2")(
        "dpo", params, inputs(once, colours["dpo"], colours["dpo"], reference=sft)
    )
    assert held_out(once)["start"]["preference_auc"] == 0.5
    assert held_out(twice)["start"]["preference_accuracy"] == pytest.approx(
        held_out(once)["end"]["preference_accuracy"]
    )
    assert twice.outcome.summary["rounds"]["number"] == 2
    assert once.outcome.summary["rounds"] == {"number": 1, "previous": None}
    metrics = twice.outcome.metrics
    assert held_out(twice)["end"]["reward_chosen"] == pytest.approx(metrics["eval_rewards/chosen"], abs=0.05)


def test_dpo_after_kto_is_a_first_round(first: Ran, sft: Ran, colours: dict[str, Path]) -> None:
    request = make_request("dpo", FAST, inputs(first, colours["dpo"], reference=sft))
    assert rounds.round_of(request) == Round(1, None)


def test_a_resumed_training_keeps_what_was_measured_before(
    sft: Ran, colours: dict[str, Path], tmp_path: Path
) -> None:
    """Stop after step 9 (measured at 0 and 6), go on: the history is that of one training."""
    from swiftshell.stages.base import Stopped

    whole = make_runner(tmp_path / "whole")("kto", KTO, inputs(sft, colours["kto"], colours["dpo"]))
    runner = make_runner(tmp_path / "parts")
    with pytest.raises(Stopped):
        runner("kto", KTO, inputs(sft, colours["kto"], colours["dpo"]), stop_at=9)
    checkpoint = tmp_path / "parts" / "kto" / "checkpoints" / "checkpoint-9"
    rest = runner("kto", KTO, inputs(sft, colours["kto"], colours["dpo"]), resume_from=checkpoint)
    assert held_out(rest)["history"] == held_out(whole)["history"]
    assert rest.outcome.summary["verdicts"] == whole.outcome.summary["verdicts"]
    assert [e["step"] for e in held_out(rest)["history"]] == [0, 6, 12]


@pytest.mark.parametrize("precompute", [True, False])
def test_a_cached_reference_measures_the_same_and_is_not_asked_again(
    first: Ran,
    sft: Ran,
    colours: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    precompute: bool,
) -> None:
    from swiftshell.engines import heldout_rewards

    asked: list[int] = []
    real = heldout_rewards._reference_batch

    def listen(trainer: Any, rows: Any) -> Any:
        asked.append(len(rows))
        return real(trainer, rows)

    monkeypatch.setattr(heldout_rewards, "_reference_batch", listen)
    params = {**KTO, "precompute_ref_log_probs": precompute}
    ran = make_runner(tmp_path)("kto", params, inputs(sft, colours["kto"], colours["dpo"]))
    assert sum(asked) == (0 if precompute else held_out(ran)["answers"])  # once, though measured three times
    for name in ("reward_chosen", "reward_rejected", "preference_auc"):
        assert held_out(ran)["end"][name] == pytest.approx(held_out(first)["end"][name], abs=1e-4)
