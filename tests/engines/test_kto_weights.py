"""The weighted trainer against the pinned TRL: nothing changes at weight 1, and weights do exactly what they say."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.balance import balance, fold
from swiftshell.engines import kto_labels
from swiftshell.engines.rows import Example
from swiftshell.errors import SwiftshellError
from swiftshell.stages.kto import KtoParams
from tests.engines.conftest import colour_rows
from tests.engines.kto_support import BATCH, make, row_losses, terms, trained

pytestmark = pytest.mark.engine

PINNED = "1.16.0"
MOVED = (
    "TRL is {found}, the weighted trainer was checked against {pinned}: read KTOTrainer._compute_loss again (class "
    "weights multiplied into the losses, chosen first?) and _compute_kl_logps (policy first, then reference?), then "
    "move this pin"
)
LOSSES = ("kto", "apo_zero_unpaired")


def step_by_step(trainer: Any) -> tuple[list[float], list[dict[str, Any]], dict[str, Any]]:
    """Train; return the losses, the gradients of every step, and the trained tensors."""
    from transformers import TrainerCallback

    gradients: list[dict[str, Any]] = []

    class Keep(TrainerCallback):
        def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            named = trainer.model.named_parameters()
            gradients.append({n: p.grad.clone() for n, p in named if p.grad is not None})

    trainer.add_callback(Keep())
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return losses, gradients, trained(trainer.model)


def first_batch(trainer: Any) -> dict[str, Any]:
    return dict(next(iter(trainer.get_train_dataloader())))


def loss_and_gradient(trainer: Any) -> tuple[float, dict[str, Any]]:
    """Return loss and gradient of the first batch, from the model as it is."""
    trainer.model.train()
    trainer.model.zero_grad()
    loss = trainer.compute_loss(trainer.model, trainer._prepare_inputs(first_batch(trainer)))
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def gradient_of(trainer: Any, loss: Any) -> dict[str, Any]:
    trainer.model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """Return the largest difference of two gradients, over the largest entry of the second."""
    assert one.keys() == other.keys()
    largest = max(float(g.abs().max()) for g in other.values())
    return max(float((one[n] - other[n]).abs().max()) for n in one) / largest


# --- the pin ---


def test_the_names_that_are_used_are_there() -> None:
    from trl import KTOTrainer

    assert version("trl") == PINNED, MOVED.format(found=version("trl"), pinned=PINNED)
    source = inspect.getsource(KTOTrainer)
    for method, parameters in (
        ("compute_loss", ["self", "model", "inputs", "return_outputs", "num_items_in_batch"]),
        ("_compute_loss", ["self", "model", "inputs", "return_outputs"]),
        ("_compute_kl_logps", ["self", "model", "batch"]),
        ("compute_ref_log_probs", ["self", "model", "inputs"]),
    ):
        found = list(inspect.signature(getattr(KTOTrainer, method)).parameters)
        assert found == parameters, (
            f"{method} takes {found}. {MOVED.format(found=version('trl'), pinned=PINNED)}"
        )
    for used in (
        "self.desirable_weight * chosen_losses, self.undesirable_weight * rejected_losses",
        'self._metrics[mode]["rewards/chosen"]',
        'self._metrics = {"train": defaultdict(list), "eval": defaultdict(list)}',
        "self.beta",
    ):
        assert used in source, f"{used!r} is gone. {MOVED.format(found=version('trl'), pinned=PINNED)}"


# --- weight 1 ---


@pytest.mark.parametrize("precompute", [False, True], ids=["live", "precomputed"])
@pytest.mark.parametrize("loss_type", LOSSES)
def test_weight_one_is_bit_identical_to_trl(
    tiny: Path, tmp_path: Path, loss_type: str, precompute: bool
) -> None:
    rows, how = colour_rows("kto", 16), {"loss_type": loss_type, "precompute_ref_log_probs": precompute}
    how |= {"desirable_weight": 1.0, "undesirable_weight": 1.3}
    stock = step_by_step(make(tmp_path / "trl", tiny, rows, weighted=False, **how))
    ones = [{**row, "weight": 1.0} for row in rows]
    ours = step_by_step(make(tmp_path / "ours", tiny, ones, **how))
    assert ours[0] == stock[0]
    assert len(ours[0]) == 4
    assert len(set(ours[0])) == 4
    for one, other in zip(ours[1], stock[1], strict=True):
        assert one.keys() == other.keys()
        assert all(bool((one[name] == other[name]).all()) for name in one)
    assert all(bool((ours[2][name] == stock[2][name]).all()) for name in stock[2])


def test_rows_without_a_weight_count_once(tiny: Path, tmp_path: Path) -> None:
    rows = colour_rows("kto", BATCH)
    plain = loss_and_gradient(make(tmp_path / "plain", tiny, rows))
    ones = loss_and_gradient(make(tmp_path / "ones", tiny, [{**r, "weight": 1.0} for r in rows]))
    assert plain[0] == ones[0]
    assert difference(plain[1], ones[1]) == 0.0


# --- other weights ---


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("heavy", [0, 1])
def test_a_row_of_weight_two_counts_twice(tiny: Path, tmp_path: Path, loss_type: str, heavy: int) -> None:
    import torch

    weights = [2.0 if i == heavy else 1.0 for i in range(BATCH)]
    rows = [{**row, "weight": w} for row, w in zip(colour_rows("kto", BATCH), weights, strict=True)]
    how = {"loss_type": loss_type, "desirable_weight": 1.2, "undesirable_weight": 0.7}
    trainer = make(tmp_path, tiny, rows, **how)
    found = loss_and_gradient(trainer)
    ratios, labels, kl = terms(trainer.model, first_batch(trainer))
    wanted = (torch.tensor(weights) * row_losses(ratios, labels, kl, (1.2, 0.7))).mean()
    assert found[0] == pytest.approx(wanted.item(), abs=1e-6)
    assert difference(found[1], gradient_of(trainer, wanted)) < 1e-5
    even = row_losses(*terms(trainer.model, first_batch(trainer)), (1.2, 0.7))
    assert abs(found[0] - float(even.mean())) == pytest.approx(float(even[heavy]) / BATCH, abs=1e-6)


@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("chances", [(0.9, 0.3, 0.62, 0.05), (1.0, 0.0, 0.7, 0.7), (0.5, 0.1, 0.95, 0.45)])
def test_a_soft_label_has_the_expected_gradient(
    tiny: Path, tmp_path: Path, loss_type: str, chances: tuple[float, ...]
) -> None:
    """p * loss(desirable) + (1 - p) * loss(undesirable), each with its class's weight, row by row."""
    import torch

    both = balance(sum(chances), len(chances) - sum(chances))
    folded = [fold(p, both) for p in chances]
    rows = [
        {**row, "label": label, "weight": weight}
        for row, (label, weight) in zip(colour_rows("kto", BATCH), folded, strict=True)
    ]
    weights = both.desirable_weight, both.undesirable_weight
    how = {"loss_type": loss_type, "desirable_weight": weights[0], "undesirable_weight": weights[1]}
    trainer = make(tmp_path, tiny, rows, **how)
    found = loss_and_gradient(trainer)
    ratios, _, kl = terms(trainer.model, first_batch(trainer))
    p, yes = torch.tensor(chances), torch.ones(BATCH, dtype=torch.bool)
    good, bad = row_losses(ratios, yes, kl, weights), row_losses(ratios, ~yes, kl, weights)
    wanted = gradient_of(trainer, (p * good + (1 - p) * bad).mean())
    assert max(float((found[1][n] - wanted[n]).abs().max()) for n in wanted) < 1e-6
    assert difference(found[1], wanted) < 1e-5
    assert max(float(g.abs().max()) for g in wanted.values()) > 1e-4, "there is a gradient to compare"


# --- drift ---


def test_the_unclamped_kl_is_told_where_trl_says_zero(tiny: Path, tmp_path: Path) -> None:
    """TRL's kl reads 0 for every policy that makes other answers less probable; ours keeps the sign."""
    rows = [{**r, "weight": 1.0} for r in colour_rows("kto", BATCH)]
    for precompute in (False, True):
        trainer = make(
            tmp_path / str(precompute), tiny, rows, precompute_ref_log_probs=precompute, max_steps=1
        )
        _, labels, kl = terms(trainer.model, first_batch(trainer))
        assert kl < 0, "the drawn policy makes mismatched answers less probable"
        ratios = terms(trainer.model, first_batch(trainer))[0].detach()
        batch = first_batch(trainer)
        tokens = batch["completion_mask"][:, 1:].sum(-1)
        trainer.train()
        logged = next(e for e in trainer.state.log_history if "loss" in e)
        assert logged["kl"] == 0.0
        assert logged["kl/unclamped"] == pytest.approx(kl, rel=1e-4)
        kl_tokens = float(batch["KL_completion_mask"][:, 1:].sum())
        assert logged["kl/unclamped_per_token"] == pytest.approx(kl * BATCH / kl_tokens, rel=1e-4)
        for side, rows_of in (("chosen", labels), ("rejected", ~labels)):
            wanted = float(ratios[rows_of].sum() / tokens[rows_of].sum())
            assert logged[f"logratios/{side}_per_token"] == pytest.approx(wanted, rel=1e-4)


def test_apo_has_no_kl_and_its_log_ratios(tiny: Path, tmp_path: Path) -> None:
    trainer = make(tmp_path, tiny, colour_rows("kto", BATCH), loss_type="apo_zero_unpaired", max_steps=1)
    trainer.train()
    logged = next(e for e in trainer.state.log_history if "loss" in e)
    assert "kl/unclamped" not in logged
    assert {"logratios/chosen_per_token", "logratios/rejected_per_token"} <= logged.keys()


def test_a_batch_of_one_class_logs_that_class_alone(tiny: Path, tmp_path: Path) -> None:
    rows = [{**r, "label": True, "weight": 0.5} for r in colour_rows("kto", BATCH)]
    trainer = make(tmp_path, tiny, rows, max_steps=1)
    trainer.train()
    logged = next(e for e in trainer.state.log_history if "loss" in e)
    assert "logratios/chosen_per_token" in logged
    assert not {"logratios/rejected_per_token", "rewards/rejected"} & logged.keys()
    again = make(tmp_path / "again", tiny, rows)
    ratios, labels, kl = terms(again.model, first_batch(again))
    assert logged["loss"] == pytest.approx(0.5 * float(row_losses(ratios, labels, kl).mean()), abs=1e-5)


def test_evaluation_keeps_its_numbers_apart(tiny: Path, tmp_path: Path) -> None:
    rows = [{**r, "weight": 1.0} for r in colour_rows("kto", 8)]
    trainer = make(tmp_path, tiny, rows, eval_rows=colour_rows("kto", 8), max_steps=1)
    found = trainer.evaluate()
    assert {"eval_loss", "eval_kl/unclamped", "eval_logratios/chosen_per_token"} <= trainer.state.log_history[
        -1
    ].keys()
    assert found["eval_loss"] > 0
    trainer.train()
    assert not any(k.startswith("eval_") for e in trainer.state.log_history if "loss" in e for k in e)


# --- rows to labels ---


def examples(*said: dict[str, Any]) -> list[Example]:
    return [
        Example(n, None, "thumbs.jsonl", {"prompt": "q", "completion": "a", **s})
        for n, s in enumerate(said, 1)
    ]


def test_equal_weights_are_exactly_one_and_others_have_mean_one() -> None:
    equal = kto_labels.read(
        examples({"label": True, "weight": 0.3}, {"label": False, "weight": 0.3}), KtoParams(), "f"
    )
    assert [e.data["weight"] for e in equal.examples] == [1.0, 1.0]
    mixed = kto_labels.read(
        examples({"label": True, "weight": 3}, {"label": False, "weight": 1}), KtoParams(), "f"
    )
    assert [e.data["weight"] for e in mixed.examples] == [1.5, 0.5]
    assert (mixed.balance.desirable, mixed.balance.undesirable) == (1.5, 0.5)
    assert mixed.summary()["row_weight_max"] == 3


def test_class_weights_follow_the_weighted_and_soft_rows() -> None:
    found = kto_labels.read(
        examples(
            {"label": True, "weight": 2.0},
            {"label": True, "probability": 0.75, "weight": 1.0},
            {"label": False, "weight": 1.0},
            {"label": False, "weight": 0.0},
        ),
        KtoParams(),
        "f",
    )
    # mean weight 4/3: desirable (2 + 0.75) * 3/4, undesirable (0.25 + 1) * 3/4; the row of weight 0 is absent
    assert (found.balance.desirable, found.balance.undesirable) == pytest.approx((2.0625, 0.9375))
    assert found.undesirable_weight == pytest.approx(2.0625 / (1.15 * 0.9375), abs=1e-4)
    assert (found.without_effect, found.soft, len(found.examples)) == (1, 1, 3)
    factor = 0.75 - 0.25 * found.undesirable_weight
    assert found.examples[1].data["label"] is (factor > 0)
    assert all("probability" not in e.data for e in found.examples)


def test_class_weights_that_a_person_set_are_kept() -> None:
    rows = examples({"label": True}, {"label": False}, {"label": False})
    found = kto_labels.read(rows, KtoParams(desirable_weight=1.0, undesirable_weight=1.0), "f")
    assert (found.desirable_weight, found.undesirable_weight, found.chosen) == (1.0, 1.0, False)
    one = kto_labels.read(rows, KtoParams(desirable_weight=3.0), "f")
    assert (one.desirable_weight, one.chosen) == (3.0, True)


def test_rows_that_say_nothing_are_left_out() -> None:
    rows = examples({"label": True}, {"label": False}, {"label": True, "probability": 0.5})
    found = kto_labels.read(rows, KtoParams(desirable_weight=1.0, undesirable_weight=1.0), "f")
    assert (len(found.examples), found.without_effect) == (2, 1)


@pytest.mark.parametrize(
    ("said", "settings", "code"),
    [
        ([{"label": True, "weight": 0.0}, {"label": False, "weight": 0.0}], {}, "thumbs.weights_zero"),
        ([{"label": True}, {"label": True}], {}, "train.one_class"),
        (
            [{"label": True, "probability": 0.6}, {"label": True, "probability": 0.9}],
            {"desirable_weight": 1.0, "undesirable_weight": 1.0},
            "thumbs.one_side",
        ),
    ],
)
def test_nothing_to_tell_apart_is_refused(
    said: list[dict[str, Any]], settings: dict[str, Any], code: str
) -> None:
    with pytest.raises(SwiftshellError) as refused:
        kto_labels.read(examples(*said), KtoParams(**settings), "thumbs.jsonl")
    assert refused.value.problems[0].code == code


def test_held_out_rows_count_once() -> None:
    rows = kto_labels.held_out(examples({"label": True, "probability": 0.7, "weight": 3.0}, {"label": False}))
    assert [(e.data["label"], e.data["weight"], "probability" in e.data) for e in rows] == [
        (True, 1.0, False),
        (False, 1.0, False),
    ]
