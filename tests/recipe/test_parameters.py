"""Parameters: strict types, ranges, names from elsewhere, engine arguments, all with the value found."""

from __future__ import annotations

import pytest

from swiftshell.i18n import sentence
from swiftshell.recipe import engine_args
from tests.recipe.support import bent, line_of, only, problems, recipe

PARAMS = "{beta: 0.2, learning_rate: 5e-7, max_length: 256}"


def kto(params: str) -> str:
    return bent(PARAMS, params)


@pytest.mark.parametrize(
    ("params", "code", "said"),
    [
        ("{beta: big}", "param_float", 'steps.kto.params.beta: found "big", expected a number'),
        ("{beta: true}", "param_float", "found true, expected a number"),
        ("{beta: '0.1'}", "param_float", 'found "0.1", expected a number'),
        ("{beta: }", "param_float", "found null, expected a number"),
        ("{beta: 0}", "thumbs.beta_range", "beta is 0: it must be > 0"),
        ("{beta: 10}", "thumbs.beta_range", "it must be ≤ 5"),
        ("{learning_rate: 1}", "train.learning_rate_range", "the usual 5e-06"),
        ("{beta: .nan}", "param_not_finite", "found nan, expected a finite number"),
        ("{num_train_epochs: .inf}", "param_not_finite", "found inf, expected a finite number"),
        ("{max_steps: 2.5}", "param_int", "found 2.5, expected a whole number"),
        ("{max_steps: '10'}", "param_int", 'found "10", expected a whole number'),
        ("{per_device_train_batch_size: 1}", "thumbs.batch_of_one", "a batch of one has no neighbour"),
        ("{precompute_ref_log_probs: yes}", "choice", "expected one of: true, false, auto"),
        ("{gradient_checkpointing: maybe}", "choice", "expected one of: true, false, auto"),
        ("{loss_type: ktoo}", "choice", "expected one of: kto, apo_zero_unpaired"),
        ("{desirable_weight: x}", "param_float_or", 'found "x", expected a number or auto'),
        ("{optim: 3}", "param_str", "found 3, expected text"),
        ("{lora: 8}", "param_map", "steps.kto.params.lora: found 8, expected entries of the form key: value"),
        ("{lora: {r: 0}}", "param_range", "steps.kto.params.lora.r: found 0, out of range"),
        ("{lora: {alpha: 1}}", "unknown_param", 'did you mean "lora_alpha"?'),
        ("{lora: {target_modules: 3}}", "param_list_or", "expected a list or all-linear"),
        (
            "{lora: {target_modules: [q_proj, 3]}}",
            "param_str",
            "steps.kto.params.lora.target_modules[1]: found 3, expected text",
        ),
        ("[beta]", "not_map", "expected entries of the form key: value"),
        ("{desirble_weight: 1}", "unknown_param", 'did you mean "desirable_weight"?'),
        ("{Beta: 1}", "unknown_param", 'did you mean "beta"?'),
        ("{kl_control_weight: 1}", "param_old_name", "it is called beta here"),
        ("{lora_rank: 8}", "param_old_name", "it is called lora.r here"),
        ("{packing: true}", "param_other_stage", '"packing" is a parameter of sft, not of kto'),
        (
            "{neftune_noise_alpha: 5}",
            "param_is_engine_arg",
            "write it below engine_args: {neftune_noise_alpha: …}",
        ),
        ("{neftune_noise_alpah: 5}", "unknown_param", 'did you mean "engine_args.neftune_noise_alpha"?'),
        ("{zzzzzz: 5}", "unknown_param_far", "known here: tuning, quantization, lora"),
        ("{engine_args: 3}", "param_map", "expected entries of the form key: value"),
        (
            "{engine_args: {adam_beta3: 0.9}}",
            "engine_arg_unknown",
            'KTOConfig of TRL 1.16.0 has no field "adam_beta3"',
        ),
        (
            "{engine_args: {zzzzzz: 1}}",
            "engine_arg_unknown_far",
            "TRL's documentation of KTOConfig lists the fields",
        ),
        ("{engine_args: {adam_beta1: high}}", "engine_arg_type", 'found "high", expected float'),
        ("{engine_args: {beta: 0.2}}", "engine_arg_typed", "write beta in params, outside engine_args"),
        ("{engine_args: {bf16: true}}", "engine_arg_typed", "write dtype in params, outside engine_args"),
    ],
)
def test_wrong_parameters(params: str, code: str, said: str) -> None:
    text = kto(params)
    found = only(text)
    assert found.code == (code if "." in code else f"recipe.{code}")
    assert said in sentence(found)
    assert found.line == 19
    assert found.column is not None
    assert found.column >= text.splitlines()[18].index("params") + 1


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("output_dir: x", "arg_owned"),
        ("push_to_hub: true", "arg_network"),
        ("trust_remote_code: true", "arg_remote_code"),
        ("train_sampling_strategy: random", "arg_order"),
        ("max_prompt_length: 512", "arg_order"),
        ("sync_ref_model: true", "arg_reference"),
    ],
)
def test_engine_arguments_that_would_break_a_promise(argument: str, code: str) -> None:
    found = only(kto(f"{{engine_args: {{{argument}}}}}"))
    name = argument.partition(":")[0]
    assert (found.code, found.line, found.values["name"]) == (f"train.{code}", 19, name)


@pytest.mark.parametrize(
    ("params", "code", "field"),
    [
        ("{tuning: full, quantization: nf4}", "full_quantized", "quantization"),
        ("{lora: {target_modules: [lm_head]}}", "lora_on_head", "lora.target_modules"),
        ("{desirable_weight: 0}", "weight_out_of_range", "desirable_weight"),
    ],
)
def test_values_that_do_not_go_together(params: str, code: str, field: str) -> None:
    found = next(p for p in problems(kto(params)) if p.code.startswith("train."))
    assert (found.code, found.line, found.field_name) == (f"train.{code}", 19, f"steps.kto.params.{field}")


def test_a_learning_rate_that_collapsed_is_warned_of() -> None:
    (warned,) = recipe(kto("{learning_rate: 0.01}")).notes
    assert (warned.code, warned.severity, warned.line) == ("train.learning_rate_high", "warning", 19)
    assert not recipe(kto("{learning_rate: 2e-4}")).notes


def test_the_place_is_the_key_of_a_name_and_the_value_of_a_value() -> None:
    text = kto("{beta: 0.2, lora: {r: 0}, betta: 3}")
    value, key = problems(text)
    line = text.splitlines()[18]
    assert (value.column, key.column) == (line.index("0}") + 1, line.index("betta") + 1)


def test_good_values_pass_as_they_are() -> None:
    params = (
        "{beta: 1, desirable_weight: 2, undesirable_weight: auto, gradient_checkpointing: false, "
        "lora: {target_modules: [q_proj]}, "
        "engine_args: {adam_beta1: 0.8, lr_scheduler_kwargs: {a: 1}, neftune_noise_alpha: null}}"
    )
    found = recipe(kto(params)).step("kto").params
    assert found["engine_args"] == {
        "adam_beta1": 0.8,
        "lr_scheduler_kwargs": {"a": 1},
        "neftune_noise_alpha": None,
    }
    assert found["beta"] == 1


def test_a_wrong_default_is_one_problem_at_its_own_place() -> None:
    text = bent("max_length: 512", "max_length: -5")
    found = only(text)
    assert (found.field_name, found.line) == ("defaults.max_length", line_of(text, "-5"))


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("max_lenth: 3", "default_unknown", 'did you mean "max_length"?'),
        ("lora_rank: 3", "default_unknown", "lora.r"),
        ("zzzz: 3", "default_unknown_far", "no stage of this recipe has the parameter"),
        ("adam_beta1: 1", "default_engine_arg", "write it below defaults.engine_args"),
    ],
)
def test_defaults_that_no_stage_has(name: str, code: str, said: str) -> None:
    found = only(bent("  max_length: 512", f"  max_length: 512\n  {name}"))
    assert found.code == f"recipe.{code}"
    assert said in sentence(found)


def test_a_default_of_a_stage_that_the_recipe_lacks_is_a_warning() -> None:
    notes = recipe(bent("  max_length: 512", "  max_length: 512\n  ticks: 3")).notes
    assert [(n.code, n.severity, n.field_name) for n in notes] == [
        ("recipe.default_unused", "warning", "defaults.ticks")
    ]


def test_engine_argument_defaults_go_to_the_trainers_that_have_them() -> None:
    text = bent(
        "  max_length: 512", "  max_length: 512\n  engine_args: {adam_beta1: 0.8, f_divergence_type: js_divergence}"
    )
    found = recipe(text)
    assert found.step("dpo").params["engine_args"] == {"adam_beta1": 0.8, "f_divergence_type": "js_divergence"}
    assert found.step("kto").params["engine_args"] == {"adam_beta1": 0.8}
    typo = problems(text.replace("adam_beta1", "adam_betta1"))
    assert {p.code for p in typo} == {"recipe.engine_arg_unknown"}
    assert len({(p.line, p.column) for p in typo}) == 1


def test_a_deprecated_engine_argument_is_a_warning() -> None:
    notes = recipe(kto("{engine_args: {use_liger_kernel: false}}")).notes
    assert [(n.code, n.severity) for n in notes] == [("recipe.engine_arg_deprecated", "warning")]
    assert 'TRL 1.16.0 calls "use_liger_kernel" deprecated' in sentence(notes[0])


def test_a_stages_own_validator_speaks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A validator may raise a catalogue key with values, or a ValueError with a reason."""
    from pydantic import field_validator, model_validator
    from pydantic_core import PydanticCustomError

    from swiftshell.stages import echo

    class Strict(echo.EchoParams):
        @field_validator("text")
        @classmethod
        def _no_x(cls, value: str) -> str:
            if value == "x":
                raise PydanticCustomError("engine.echo_failed", "{text}", {"text": "x is taken"})
            return value

        @model_validator(mode="after")
        def _together(self) -> Strict:
            if self.ticks > 5 and self.tick_s > 1:
                raise ValueError("that would take too long")
            return self

    monkeypatch.setattr(echo.Echo, "params", Strict)
    text = "schema: 1\nsteps: [{id: a, stage: echo, params: {%s}}]"
    assert "the echo stage was told to fail: x is taken" in sentence(only(text % "text: x"))
    found = only(text % "ticks: 9, tick_s: 2")
    assert (found.code, found.values["reason"], found.field_name) == (
        "recipe.param_invalid",
        "that would take too long",
        "steps.a.params",
    )


def test_fields_json_is_small_and_knows_the_typed_parameters() -> None:
    from swiftshell.stages import registry

    assert engine_args.FILE.stat().st_size <= 80 * 1024
    for stage in ("sft", "kto", "dpo"):
        fields = engine_args.fields(stage)
        assert len(fields) > 120
        own = {
            "tuning",
            "quantization",
            "lora",
            "dtype",
            "drop_budget",
            "probe_rows",
            "engine_args",
            "other_reference",
            "batch_composition",
            "guard",
            "replay_ratio",
        }
        typed = set(registry.get(stage).params.model_fields) - own
        assert typed <= set(fields), "a typed parameter has TRL's name"


@pytest.mark.engine
def test_fields_json_is_what_the_pinned_trl_says() -> None:
    from swiftshell.engines.dump_fields import dump

    assert engine_args.FILE.read_text(encoding="utf-8") == dump(), (
        "run: python -m swiftshell.engines.dump_fields"
    )
