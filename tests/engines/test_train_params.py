"""What a training stage refuses before anything is read (no engine needed)."""

from __future__ import annotations

from typing import Any

import pytest

from swiftshell.i18n import LANGUAGES, catalogue
from swiftshell.stages import registry
from swiftshell.stages.shared import training_problems

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("sft", {"tuning": "full", "quantization": "nf4"}, "train.full_quantized"),
    ("sft", {"lora": {"target_modules": ["q_proj", "lm_head"]}}, "train.lora_on_head"),
    ("sft", {"lr_scheduler_type": "cosine_with_min_lr"}, "train.min_lr_missing"),
    ("dpo", {"loss_type": "exo_pair"}, "train.exo_needs_smoothing"),
    ("kto", {"desirable_weight": 0.0}, "train.weight_out_of_range"),
    ("kto", {"engine_args": {"output_dir": "x"}}, "train.arg_owned"),
    ("kto", {"engine_args": {"push_to_hub": True}}, "train.arg_network"),
    ("kto", {"engine_args": {"sync_ref_model": True}}, "train.arg_reference"),
    ("kto", {"engine_args": {"train_sampling_strategy": "random"}}, "train.arg_order"),
    ("sft", {"engine_args": {"trust_remote_code": True}}, "train.arg_remote_code"),
    ("dpo", {"engine_args": {"beta": 1}}, "train.arg_has_own_name"),
]


@pytest.mark.parametrize(("stage", "params", "code"), CASES)
def test_parameters_that_cannot_work_are_refused(stage: str, params: dict[str, Any], code: str) -> None:
    typed = registry.get(stage).params.model_validate(params)
    assert [p.code for p in training_problems(typed)] == [code]


@pytest.mark.parametrize("stage", ["sft", "kto", "dpo"])
def test_defaults_are_not_refused(stage: str) -> None:
    assert not list(training_problems(registry.get(stage).params()))


def test_a_lowest_learning_rate_is_enough() -> None:
    params = {
        "lr_scheduler_type": "cosine_with_min_lr",
        "engine_args": {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
    }
    assert not list(training_problems(registry.get("sft").params.model_validate(params)))


@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_refusal_says_what_to_do(lang: str) -> None:
    for _, _, code in CASES:
        assert catalogue(lang)[code]
        assert catalogue(lang)[code + ".hint"]
