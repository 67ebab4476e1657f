"""DPO with care: the reference in every construction, every loss by name, pairs made of thumbs."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.stages import registry
from swiftshell.stages.shared import training_problems
from tests.engines.conftest import FAST, Ran, Runner, colour_rows, data_ref, model_ref, write_jsonl
from tests.engines.test_train_reference import far, logps_of

pytestmark = pytest.mark.engine
ONE = {**FAST, "max_steps": 1, "save_steps": 1}


def dpo_inputs(model: Ran, slot: str, data: Path) -> dict[str, Any]:
    """Return the inputs of a DPO that starts from a model and is measured against it."""
    return {
        "policy": model.ref(slot, "policy"),
        "reference": model.ref(slot, "reference"),
        "train_data": data_ref(data),
    }


# --------------------------------------------------------------------------------------------- the reference


def test_dpo_on_the_sft_adapter_is_measured_against_it(
    sft: Ran, tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    done = run_step("dpo", FAST, dpo_inputs(sft, "adapter", colours["dpo"]))
    assert done.outcome.summary["reference_kept_as"] == "adapter_copy"
    probe = done.outcome.artifacts["adapter"]["reference"]["probe"]
    assert probe == sft.outcome.artifacts["adapter"]["probe"]
    independent = logps_of(tiny, sft.artifacts["adapter"], probe)
    assert far(done.outcome.summary["reference_logps"], independent) < 1e-3
    # Rewards are 0 where nothing was learned yet, and DPO's loss is ln 2 there; then it learns.
    assert done.ctx.series("rewards/chosen")[0] == pytest.approx(0, abs=1e-4)
    assert done.ctx.series("loss")[0] == pytest.approx(math.log(2), abs=1e-4)
    assert done.ctx.series("rewards/margins")[-1] > 0.01


def test_fresh_lora_on_the_merged_sft_model_is_measured_against_it(
    sft: Ran, tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    merged = run_step("merge", {}, {"adapter": sft.ref("adapter", "adapter")})
    inputs = dpo_inputs(merged, "model", colours["dpo"])
    done = run_step("dpo", FAST, inputs)
    assert done.outcome.summary["reference_kept_as"] == "adapter_off"
    probe = done.outcome.artifacts["adapter"]["reference"]["probe"]
    independent = logps_of(merged.artifacts["model"], None, probe)
    assert far(done.outcome.summary["reference_logps"], independent) < 1e-3
    assert far(independent, logps_of(tiny, None, probe)) > 1, "the base answers otherwise"
    with pytest.raises(SwiftshellError) as refused:
        run_step("dpo", FAST, {**inputs, "reference": model_ref("reference", tiny)}, name="cold base")
    assert refused.value.problems[0].code == "train.reference_mismatch"


def test_full_tuning_of_a_model_changed_in_memory_is_refused(
    sft: Ran, tiny: Path, colours: dict[str, Path], run_step: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TRL reads a missing reference again from where the policy's weights came from: the merge in memory is not there."""
    from swiftshell.engines import loading, references

    merged = run_step("merge", {}, {"adapter": sft.ref("adapter", "adapter")})
    right = references.build

    def in_memory(policy: Any, reference: Any, params: Any, precision: Any) -> Any:
        models = right(policy, reference, params, precision)
        base = loading.load_base(tiny, precision)
        changed = loading.put_adapter(base, sft.artifacts["adapter"], trainable=False).merge_and_unload()
        changed.requires_grad_(True)
        return replace(models, model=changed, ref_model=None)

    full = {**ONE, "tuning": "full", "learning_rate": 1e-3}
    inputs = dpo_inputs(merged, "model", colours["dpo"])
    assert run_step("dpo", full, inputs, name="right").outcome.summary["reference_kept_as"] == "second_model"
    monkeypatch.setattr(references, "build", in_memory)
    with pytest.raises(SwiftshellError) as refused:
        run_step("dpo", full, inputs, name="in memory")
    assert refused.value.problems[0].code == "train.reference_mismatch"


# ------------------------------------------------------------------------------------------------ the losses

LN2 = math.log(2)
BETA, EPS, TAU = 0.2, 0.1, 0.05
# What each loss is where policy and reference agree, from its formula with all log-ratios 0.
AT_START = {
    "sigmoid": LN2,
    "hinge": 1.0,
    "ipo": (1 / (2 * BETA)) ** 2,
    "exo_pair": 0.5 * (math.log(0.5) - math.log(1 - EPS)) + 0.5 * (math.log(0.5) - math.log(EPS)),
    "nca_pair": 2 * LN2,
    "robust": LN2,
    "bco_pair": 2 * LN2,
    "sppo_hard": 2 * (0.5 / BETA) ** 2,
    "aot": LN2,
    "aot_unpaired": LN2,
    "apo_zero": 1.0,
    "apo_down": 1.0,
    "discopop": 0.5 * LN2 + 0.5,
    "sigmoid_norm": LN2,
}
SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")


@pytest.fixture(scope="module")
def losses_at_start(
    sft: Ran, colours: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, float]:
    """Return the first loss that TRL computes for each loss type: one trainer, its losses changed between evaluations."""
    from swiftshell.engines import preference
    from tests.engines.conftest import make_runner

    found: dict[str, float] = {}

    def train(trainer: Any, request: Any, ctx: Any) -> None:
        for name in AT_START:
            trainer.loss_types, trainer.loss_weights, trainer.label_smoothing = [name], [1.0], EPS
            found[name] = float(trainer.evaluate()["eval_loss"])
        trainer.loss_types, trainer.loss_weights = ["sigmoid", "sft"], [2.0, 0.5]
        found["both"] = float(trainer.evaluate()["eval_loss"])
        trainer.loss_types, trainer.loss_weights = ["sft"], [1.0]
        found["sft"] = float(trainer.evaluate()["eval_loss"])
        right(trainer, request, ctx)

    right = preference.training.train
    inputs = dpo_inputs(sft, "adapter", colours["dpo"])
    inputs["eval_data"] = data_ref(colours["dpo"], "eval_data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preference, "finish", finish_with(preference.finish, train))
        make_runner(tmp_path_factory.mktemp("losses"))("dpo", {**ONE, "beta": BETA}, inputs)
    return found


def finish_with(finish: Any, train: Any) -> Any:
    """Return `preference.finish` with another training."""

    def finished(*args: Any, **kwargs: Any) -> Any:
        return finish(*args, **{**kwargs, "train": train})

    return finished


@pytest.mark.parametrize("name", AT_START)
def test_every_loss_is_the_one_its_name_says(name: str, losses_at_start: dict[str, float]) -> None:
    assert losses_at_start[name] == pytest.approx(AT_START[name], rel=2e-3)


def test_losses_are_added_up_with_their_weights(losses_at_start: dict[str, float]) -> None:
    assert losses_at_start["both"] == pytest.approx(2 * LN2 + 0.5 * losses_at_start["sft"], rel=1e-3)


def test_a_list_of_losses_trains(sft: Ran, colours: dict[str, Path], run_step: Runner) -> None:
    inputs = dpo_inputs(sft, "adapter", colours["dpo"])
    both = {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.25]}
    done = run_step("dpo", {**FAST, **both, "engine_args": {"ld_alpha": 0.5}}, inputs)
    loss = done.ctx.series("loss")
    assert loss[-1] < loss[0]
    assert loss[0] > LN2, "the likelihood of the chosen answers is part of it"


def all_losses() -> list[str]:
    """Return every loss that TRL's DPO names in its documentation of loss_type."""
    import re

    from trl import DPOConfig

    text = DPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    return re.findall(r"`'(\w+)'`", text)


def test_no_loss_of_trl_is_missing() -> None:
    ours = registry.get("dpo").params.model_json_schema()["properties"]["loss_type"]["anyOf"][0]["enum"]
    assert sorted(all_losses()) == sorted(ours)
    assert set(ours) == {*AT_START, "sft"}


@pytest.mark.parametrize("name", [*AT_START, "sft"])
def test_each_loss_is_accepted_with_what_it_needs(name: str) -> None:
    params: dict[str, Any] = {"loss_type": ["sigmoid", "sft"] if name == "sft" else name}
    params |= {"label_smoothing": EPS} if name in SMOOTHED else {}
    assert not list(training_problems(registry.get("dpo").params.model_validate(params)))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"loss_type": "sigmoid", "label_smoothing": 0.1}, "pairs.smoothing_unused"),
    ({"loss_type": "robust"}, "pairs.robust_needs_smoothing"),
    ({"loss_type": "exo_pair"}, "train.exo_needs_smoothing"),
    ({"loss_type": ["sigmoid", "sigmoid"]}, "pairs.loss_twice"),
    ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0]}, "pairs.loss_weights_count"),
    ({"loss_weights": [1.0, 2.0]}, "pairs.loss_weights_count"),
    ({"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, -1.0]}, "pairs.loss_weights_range"),
    ({"loss_type": ["sigmoid", "sft"], "loss_weights": [0.0, 0.0]}, "pairs.loss_weights_range"),
    ({"loss_type": "sft"}, "pairs.loss_sft_alone"),
    ({"engine_args": {"ld_alpha": 1.5}}, "pairs.ld_alpha_range"),
    ({"engine_args": {"f_divergence_type": "kl"}}, "pairs.divergence_unknown"),
    ({"loss_type": "nca_pair", "engine_args": {"f_divergence_type": "forward_kl"}}, "pairs.divergence_loss"),
    ({"loss_type": "aot_unpaired", "engine_args": {"use_weighting": True}}, "pairs.weighting_sorts"),
    ({"loss_type": "aot", "per_device_train_batch_size": 1}, "pairs.aot_needs_batch"),
    ({"engine_args": {"padding_free": True}}, "pairs.no_padding_free"),
]


@pytest.mark.parametrize(("params", "code"), REFUSED)
def test_what_a_loss_cannot_do_is_refused(params: dict[str, Any], code: str) -> None:
    typed = registry.get("dpo").params.model_validate(params)
    assert [p.code for p in training_problems(typed)] == [code]


# --------------------------------------------------------------------------------------------- pairs of thumbs


def test_thumbs_train_as_the_pairs_they_are(sft: Ran, tmp_path: Path, run_step: Runner) -> None:
    """One prompt, both kinds: the same losses as with the pairs written out, and how many rows found a partner is told."""
    pairs = colour_rows("dpo", 8)
    alone = [
        {"prompt": [{"role": "user", "content": "Why?"}], "completion": pairs[0]["chosen"], "label": True}
    ]
    thumbs = [
        {"prompt": p["prompt"], "completion": p[side], "label": side == "chosen"}
        for side in ("chosen", "rejected")
        for p in pairs
    ]
    told = run_step(
        "dpo", FAST, dpo_inputs(sft, "adapter", write_jsonl(tmp_path / "t.jsonl", thumbs + alone))
    )
    written = run_step(
        "dpo", FAST, dpo_inputs(sft, "adapter", write_jsonl(tmp_path / "p.jsonl", pairs)), name="pairs"
    )
    assert told.outcome.summary["pairs"] == written.outcome.summary["pairs"] == 8
    assert told.ctx.series("loss") == written.ctx.series("loss")
    (values,) = [v for code, v in told.ctx.notes if code == "pairs.made"]
    assert (values["pairs"], values["rows"], values["alone"]) == (8, 17, 1)
