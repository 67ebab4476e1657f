"""Inputs: what a reference may point to, and what is said when it points nowhere or to the wrong kind."""

from __future__ import annotations

import pytest

from swiftshell.i18n import sentence
from swiftshell.recipe.references import effective_outputs
from swiftshell.stages import registry
from tests.recipe.support import bent, only, recipe

KTO_POLICY = "{policy: sft.adapter, reference: sft.adapter, train_data: data.thumbs}"


def with_policy(reference: str) -> str:
    return bent(KTO_POLICY, KTO_POLICY.replace("policy: sft.adapter", f"policy: {reference}"))


@pytest.mark.parametrize(
    ("reference", "code", "said"),
    [
        (
            "stf.adapter",
            "ref_unknown",
            "there is no stf.adapter\n  --> /work-space/mine.yaml:18:22\nhint: did you mean sft.adapter?",
        ),
        ("base.modell", "ref_slot", "step base has no output modell"),
        ("sft.model", "ref_not_made", "step sft makes no model with tuning: lora"),
        ("kto.adapter", "ref_self", "kto.adapter is the step's own output"),
        ("dpo.adapter", "ref_forward", "dpo.adapter is made later than it is needed"),
        ("models.bas", "ref_unknown", "did you mean models.base?"),
        ("models.zzz", "ref_unknown", "did you mean models.base?"),
        ("data.thumbs", "kind_wrong", "data.thumbs is of kind dataset; policy takes model | adapter"),
        ("qqqqqqqq", "ref_unknown_far", "possible here: models.base, base.model, sft.adapter"),
        ("3", "not_reference", "found 3, expected a reference"),
        ("[sft.adapter, base.model]", "one_only", "policy takes one input, found 2"),
        ("", "not_reference", "found null, expected a reference"),
    ],
)
def test_references_that_point_to_nothing(reference: str, code: str, said: str) -> None:
    found = only(with_policy(reference))
    assert found.code == f"recipe.{code}"
    assert (found.field_name, found.line) == ("steps.kto.inputs.policy", 18)
    assert said in sentence(found)


def test_an_entrys_own_name_is_understood() -> None:
    text = bent("train_data: data.thumbs", "train_data: thumbs")
    assert only(text).values["nearest"] == "data.thumbs"


def test_the_slot_may_be_left_out_where_there_is_one_output() -> None:
    assert recipe(with_policy("sft")).step("kto").refs("policy")[0].text == "sft.adapter"
    assert recipe(with_policy("base")).step("kto").refs("policy")[0].text == "base.model"


def test_full_tuning_makes_a_model_and_no_adapter() -> None:
    text = (
        with_policy("sft.model")
        .replace("reference: sft.adapter", "reference: sft.model", 1)
        .replace("params: {lora: {lora_alpha: 64}}", "params: {tuning: full}")
        .replace("reference: sft,", "reference: sft.model,")
    )
    text = text.replace("[base.model, sft.adapter,", "[base.model, sft,")
    assert recipe(text).step("kto").refs("policy")[0].kinds == ("model",)
    found = only(text.replace("policy: sft.model", "policy: sft.adapter"))
    assert "step sft makes no adapter with tuning: full" in sentence(found)


def test_an_adapter_must_be_merged_before_it_is_quantized() -> None:
    found = only(bent("{model: merged.model}", "{model: kto.adapter}"))
    assert sentence(found).endswith("hint: add a merge step before it and refer to its model")


def test_missing_and_unknown_inputs() -> None:
    text = bent(KTO_POLICY, "{polcy: sft.adapter, reference: sft.adapter}")
    from tests.recipe.support import problems

    found = problems(text)
    assert [(p.code, p.field_name) for p in found] == [
        ("recipe.input_missing", "steps.kto.inputs.policy"),
        ("recipe.input_missing", "steps.kto.inputs.train_data"),
        ("recipe.unknown_key", "steps.kto.inputs.polcy"),
    ]
    assert "kto needs this input (model | adapter)" in sentence(found[0])
    assert (
        only(bent("models: [base.model, sft.adapter, small.model]", "models: []")).code
        == "recipe.input_empty"
    )
    one = recipe(bent("[base.model, sft.adapter, small.model]", "base.model"))
    assert [r.text for r in one.step("score").refs("models")] == ["base.model"], (
        "one reference is a list of one"
    )


def test_download_fetches_one_thing() -> None:
    both = only(bent("inputs: {model: models.base}", "inputs: {model: models.base, dataset: data.pairs}"))
    assert both.code == "recipe.download_both"
    text = "schema: 1\nsteps: [{id: base, stage: download}]"
    assert only(text).code == "recipe.download_nothing"


def test_nothing_is_said_twice_about_an_entry_that_is_wrong_itself() -> None:
    """A broken `models` entry or step is reported where it stands, not again wherever it is used."""
    assert only(bent("{repo: Qwen/Qwen2.5-0.5B-Instruct}", "{repo: 3}")).field_name == "models.base.repo"
    assert only(bent("stage: merge", "stage: mergee")).field_name == "steps.merged.stage"


def test_outputs_that_a_step_will_really_make() -> None:
    def names(stage: str, params: dict[str, object], filled: set[str]) -> list[str]:
        return [s.name for s in effective_outputs(registry.get(stage), params, filled)[0]]

    assert names("kto", {}, {"policy"}) == ["adapter"]
    assert names("kto", {"tuning": "full"}, {"policy"}) == ["model"]
    assert names("download", {}, {"dataset"}) == ["dataset"]
    assert names("merge", {}, {"adapter"}) == ["model"]
