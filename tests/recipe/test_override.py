"""`--set`: which step and parameter are meant, the value as YAML, and the recipe checked again afterwards."""

from __future__ import annotations

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import sentence
from swiftshell.recipe.load import parse_recipe
from swiftshell.recipe.override import apply_overrides
from tests.recipe.support import GOOD, only, problems, recipe

SINGLE = "schema: 1\nname: one\nsteps: [{id: mine, stage: echo, params: {ticks: 3, text: a}}]"


def test_a_step_and_its_parameter() -> None:
    found = apply_overrides(
        recipe(), ["kto.beta=5e-1", "sft.lora.r=64", "dpo.lora.target_modules=[q_proj, v_proj]"]
    )
    kto, sft = found.step("kto"), found.step("sft")
    assert (kto.params["beta"], kto.param_sources["beta"]) == (0.5, "flag")
    assert sft.params["lora"] == {"r": 64, "lora_alpha": 64}
    assert sft.param_sources["lora.r"] == "flag"
    assert sft.param_sources["lora.lora_alpha"] == "recipe:15"
    assert found.step("dpo").params["lora"]["target_modules"] == ["q_proj", "v_proj"]
    assert found.text == GOOD, "the recipe stays as it was written"
    assert found.overrides == ("kto.beta=5e-1", "sft.lora.r=64", "dpo.lora.target_modules=[q_proj, v_proj]")


def test_a_whole_mapping_is_laid_over_what_is_there() -> None:
    assert recipe(GOOD, "sft.lora={r: 4}").step("sft").params["lora"] == {"r": 4, "lora_alpha": 64}


def test_later_settings_win_and_add_up() -> None:
    found = apply_overrides(apply_overrides(recipe(), ["kto.beta=0.3", "kto.max_steps=5"]), ["kto.beta=0.4"])
    assert (found.step("kto").params["beta"], found.step("kto").params["max_steps"]) == (0.4, 5)


def test_one_step_needs_no_name() -> None:
    assert parse_recipe(SINGLE, overrides=["ticks=9"]).step("mine").params["ticks"] == 9
    assert parse_recipe(SINGLE, overrides=["mine.ticks=9"]).step("mine").params["ticks"] == 9
    assert parse_recipe(SINGLE, overrides=["echo.ticks=9"]).step("mine").params["ticks"] == 9, (
        "or the stage's"
    )
    assert parse_recipe(SINGLE, overrides=["text=a=b"]).step("mine").params["text"] == "a=b"
    assert parse_recipe(SINGLE, overrides=["text='5'"]).step("mine").params["text"] == "5"


@pytest.mark.parametrize(
    ("setting", "code", "said"),
    [
        (
            "beta=0.1",
            "set_which",
            ("more than one step could be meant by beta\n  --> --set beta=0.1\n"
            "hint: write one of: kto.beta, dpo.beta"),
        ),
        (
            "kot.beta=0.1",
            "set_step",
            'there is no step "kot"\n  --> --set kot.beta=0.1\nhint: did you mean "kto"?',
        ),
        ("zzz=1", "set_step_far", "the steps are: base, sft, kto, dpo, merged, small, score"),
        ("kto.beta", "set_form", "found kto.beta, expected key=value"),
        ("=3", "set_form", "for example --set learning_rate=5e-6"),
        ("kto..r=3", "set_form", "expected key=value"),
        ("kto.beta=[1", "set_value", "the value [1 is not YAML"),
        ("kto.betta=1", "unknown_param", 'hint: did you mean "beta"?'),
        (
            "kto.beta=high",
            "param_float",
            'steps.kto.params.beta: found "high", expected a number\n  --> --set kto.beta=high',
        ),
        ("kto.beta=", "param_float", "found null"),
        ("kto.engine_args.adam_beta3=1", "engine_arg_unknown", "adam_beta3"),
        ("sft.tuning=full", "ref_not_made", "step sft makes no adapter with tuning: full"),
    ],
)
def test_settings_that_do_not_fit(setting: str, code: str, said: str) -> None:
    found = problems(GOOD, setting)[0]
    assert found.code == f"recipe.{code}"
    assert said in sentence(found)


def test_recipe_and_settings_are_told_off_together() -> None:
    text = GOOD.replace("beta: 0.2", "beta: 99")
    assert {p.code for p in problems(text, "sft.foo=1")} == {"thumbs.beta_range", "recipe.unknown_param_far"}
    assert only(text, "sft.max_length=64").code == "thumbs.beta_range"
    assert recipe(text, "kto.beta=0.1").step("kto").params["beta"] == 0.1, "a setting may mend the recipe"


def test_an_applied_setting_that_is_wrong_leaves_the_recipe_alone() -> None:
    before = recipe()
    with pytest.raises(SwiftshellError):
        apply_overrides(before, ["kto.beta=x"])
    assert before.step("kto").params["beta"] == 0.2
