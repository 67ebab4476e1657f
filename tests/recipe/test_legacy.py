"""SwiftApp's short configuration: what it becomes, what is noted and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.legacy import recipe_from_config
from swiftshell.api.legacy_models import MODEL_NAMES, repository
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.i18n import sentence
from swiftshell.recipe.load import recipe_from_mapping

NOTEBOOK: dict[str, Any] = {
    "model_type": "qwen-7b",
    "train_type": "kto",
    "dataset": "hf://swift-kto-data/chinese-preference-v1",
    "data_args": {"label_field": "is_preferred", "text_field": "response"},
    "training_args": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 16,
        "learning_rate": 5e-6,
        "max_steps": 2000,
        "logging_steps": 100,
        "kl_control_weight": 0.1,
        "temperature": 1.0,
    },
    "quantization": "q_lora_bnb",
    "lora_rank": 64,
    "output_dir": "./output/qwen-kto-chinese",
}
SMALL: dict[str, Any] = {"model_type": "starter", "train_type": "kto", "dataset": "starter"}


def refused(config: dict[str, Any]) -> list[Problem]:
    with pytest.raises(SwiftshellError) as caught:
        recipe_from_config(config)
    return list(caught.value.problems)


def params(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = recipe_from_config(config)[0]["steps"][0].get("params", {})
    return found


def test_the_notebooks_configuration() -> None:
    data, notes = recipe_from_config(NOTEBOOK)
    assert data == {
        "schema": 1,
        "name": "qwen2.5-7b-instruct-kto",
        "models": {"base": {"repo": "Qwen/Qwen2.5-7B-Instruct"}},
        "data": {
            "train": {
                "repo": "swift-kto-data/chinese-preference-v1",
                "columns": {"label": "is_preferred", "completion": "response"},
            }
        },
        "steps": [
            {
                "id": "kto",
                "stage": "kto",
                "inputs": {"policy": "models.base", "reference": "models.base", "train_data": "data.train"},
                "params": {
                    "per_device_train_batch_size": 2,
                    "gradient_accumulation_steps": 16,
                    "learning_rate": 5e-6,
                    "max_steps": 2000,
                    "logging_steps": 100,
                    "beta": 0.1,
                    "quantization": "nf4",
                    "lora": {"r": 64, "lora_alpha": 128},
                },
                "output_dir": "./output/qwen-kto-chinese",
            }
        ],
    }
    assert {note.severity for note in notes} == {"note"}
    assert [note.code.removeprefix("recipe.config_") for note in notes] == [
        "old_qwen",
        "reference",
        "renamed",
        "generation",
        "quantization",
        "alpha",
    ], "each is said once"
    said = "\n".join(map(sentence, notes))
    assert (
        "qwen-7b means Qwen/Qwen2.5-7B-Instruct here: the first Qwen models run code from their repository"
        in said
    )
    assert "kto is trained against Qwen/Qwen2.5-7B-Instruct itself" in said
    assert "kl_control_weight is called beta here" in said
    assert "training_args.temperature is a setting of generation" in said


def test_data_on_modelscope(tmp_path: Path) -> None:
    recipe = recipe_from_mapping(recipe_from_config({**SMALL, "dataset": "ms://a/b"})[0], base_folder=tmp_path)
    assert (recipe.data["train"].repo, recipe.data["train"].source) == ("a/b", "ms")


def test_the_notebooks_recipe_is_good(tmp_path: Path) -> None:
    recipe = recipe_from_mapping(recipe_from_config(NOTEBOOK)[0], base_folder=tmp_path)
    (step,) = recipe.steps
    assert step.output_dir == tmp_path / "output/qwen-kto-chinese"
    assert recipe.data["train"].reading() == {"columns": {"label": "is_preferred", "completion": "response"}}
    assert step.params["learning_rate"] == 5e-6


def test_nothing_heavy_is_imported_and_no_connection_opened() -> None:
    code = (
        "import sys, socket\n"
        "def no(*a, **k): raise AssertionError('a connection')\n"
        "socket.socket.connect = no; socket.getaddrinfo = no\n"
        "from swiftshell.api.legacy import recipe_from_config\n"
        f"recipe_from_config({NOTEBOOK!r})\n"
        "print(sorted({'torch', 'transformers', 'trl', 'huggingface_hub', 'datasets'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("starter", {"starter": True}),
        ("qwen2.5-0.5b", {"repo": "Qwen/Qwen2.5-0.5B-Instruct"}),
        ("Qwen2_5-7B-Base", {"repo": "Qwen/Qwen2.5-7B"}),
        ("qwen3-8b", {"repo": "Qwen/Qwen3-8B"}),
        ("qwen3-8b-base", {"repo": "Qwen/Qwen3-8B-Base"}),
        ("llama-3.1-8b", {"repo": "meta-llama/Llama-3.1-8B-Instruct"}),
        ("mistral-7b", {"repo": "mistralai/Mistral-7B-Instruct-v0.3"}),
        ("me/My-Model", {"repo": "me/My-Model"}),
        ("hf://me/My-Model", {"repo": "me/My-Model"}),
        ("ms://me/My-Model", {"repo": "me/My-Model", "source": "ms"}),
        ("./folder", {"path": "./folder"}),
        ("/abs/f", {"path": "/abs/f"}),
        (Path("rel/f"), {"path": "rel/f"}),
    ],
)
def test_models_by_short_name_repository_and_folder(name: Any, entry: dict[str, Any]) -> None:
    assert recipe_from_config({**SMALL, "model_type": name})[0]["models"]["base"] == entry


def test_a_folder_that_is_there_needs_no_dot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "model").mkdir(parents=True)
    assert recipe_from_config({**SMALL, "model_type": "my/model"})[0]["models"]["base"] == {
        "path": "my/model"
    }


def test_short_names_are_spelled_as_they_are_looked_up() -> None:
    assert all(repository(name) == repo and repo.count("/") == 1 for name, repo in MODEL_NAMES.items())


@pytest.mark.parametrize("stage", ["sft", "kto", "dpo"])
def test_every_train_type_becomes_a_good_recipe(stage: str) -> None:
    data, notes = recipe_from_config({**SMALL, "train_type": stage})
    assert data["data"]["train"] == {"starter": stage}
    step = recipe_from_mapping(data).step(stage)
    assert ("reference" in step.inputs) == (stage != "sft")
    assert [n.code for n in notes] == ([] if stage == "sft" else ["recipe.config_reference"])


def test_a_reference_of_its_own_and_held_out_rows() -> None:
    data, notes = recipe_from_config({**SMALL, "reference": "./sft-adapter", "eval_dataset": "./held.jsonl"})
    assert data["models"]["reference"] == {"path": "./sft-adapter"}
    assert data["steps"][0]["inputs"] == {
        "policy": "models.base",
        "reference": "models.reference",
        "train_data": "data.train",
        "eval_data": "data.eval",
    }
    assert notes == []


def test_columns_and_reading() -> None:
    args = {
        "label_field": "ok",
        "response_field": "answer",
        "prompt_field": "q",
        "max_samples": 50,
        "split": "train",
        "label_rule": {"threshold": 3},
    }
    entry = recipe_from_config({**SMALL, "dataset": "./x.csv", "data_args": args})[0]["data"]["train"]
    assert entry == {
        "path": "./x.csv",
        "columns": {"label": "ok", "completion": "answer", "prompt": "q"},
        "limit": 50,
        "split": "train",
        "label_rule": {"threshold": 3},
    }
    stories = recipe_from_config(
        {**SMALL, "train_type": "sft", "dataset": "./s.txt", "data_args": {"text_field": "text"}}
    )
    assert stories[0]["data"]["train"]["columns"] == {"text": "text"}


def test_training_arguments_go_where_they_belong() -> None:
    args = {
        "lora_rank": 8,
        "lora_alpha": 8,
        "batch_size": 4,
        "bf16": True,
        "neftune_noise_alpha": 5,
        "seed": 3,
        "output_dir": "out",
        "quantization": "8bit",
        "warmup_ratio": 0.05,
        "beta": 0.3,
    }
    data, notes = recipe_from_config({**SMALL, "training_args": args})
    assert data["seed"] == 3
    assert data["steps"][0]["output_dir"] == "out"
    assert data["steps"][0]["params"] == {
        "lora": {"r": 8, "lora_alpha": 8},
        "per_device_train_batch_size": 4,
        "dtype": "bfloat16",
        "engine_args": {"neftune_noise_alpha": 5},
        "quantization": "int8",
        "warmup_steps": 0.05,
        "beta": 0.3,
    }
    renamed = {n.values["found"]: n.values["name"] for n in notes if n.code == "recipe.config_renamed"}
    assert renamed == {
        "lora_rank": "lora.r",
        "lora_alpha": "lora.lora_alpha",
        "batch_size": "per_device_train_batch_size",
        "bf16": "dtype: bfloat16",
        "warmup_ratio": "warmup_steps",
    }
    recipe_from_mapping(data)


@pytest.mark.parametrize(
    ("stage", "config", "code", "field"),
    [
        ("kto", {"training_args": {"top_p": 0.9}}, "config_generation", "training_args.top_p"),
        ("kto", {"training_args": {"packing": True}}, "config_other_stage", "training_args.packing"),
        (
            "dpo",
            {"training_args": {"desirable_weight": 2}},
            "config_other_stage",
            "training_args.desirable_weight",
        ),
        ("kto", {"training_args": {"report_to": "wandb"}}, "config_decided", "training_args.report_to"),
        (
            "kto",
            {"training_args": {"max_prompt_length": 512}},
            "config_decided",
            "training_args.max_prompt_length",
        ),
        ("sft", {"data_args": {"label_field": "x"}}, "config_no_meaning", "data_args.label_field"),
        (
            "sft",
            {"training_args": {"kl_control_weight": 0.1}},
            "config_other_stage",
            "training_args.kl_control_weight",
        ),
    ],
)
def test_what_has_no_meaning_is_named_and_not_used(
    stage: str, config: dict[str, Any], code: str, field: str
) -> None:
    data, notes = recipe_from_config({**SMALL, "train_type": stage, **config})
    assert (f"recipe.{code}", field) in [(n.code, n.field_name) for n in notes]
    assert "params" not in data["steps"][0]
    assert "columns" not in data["data"]["train"]


@pytest.mark.parametrize(
    ("given", "method"),
    [("q_lora_bnb", "nf4"), ("QLoRA", "nf4"), ("int8", "int8"), ("none", "none"), ("4bit", "nf4")],
)
def test_quantization_by_the_names_people_use(given: str, method: str) -> None:
    assert params({**SMALL, "quantization": given})["quantization"] == method


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"model_typ": "starter"}, "unknown_key", 'did you mean "model_type"?'),
        ({"train_type": "ppo"}, "choice", 'train_type: found "ppo", expected one of: sft, kto, dpo'),
        ({"train_type": None}, "config_missing", "train_type is missing from the configuration"),
        ({"model_type": None}, "config_missing", "model_type is missing from the configuration"),
        ({"model_type": "qwen2.5-7bb"}, "config_model_unknown", "did you mean qwen2.5-7b?"),
        (
            {"model_type": "zzzzzz"},
            "config_model_unknown_far",
            "no known short name, no folder and no repository",
        ),
        ({"model_type": 7}, "not_text", "model_type: found 7, expected text"),
        ({"dataset": None}, "config_missing", "dataset is missing from the configuration"),
        ({"dataset": "https://a/b"}, "path_is_url", "is an address, not a path"),
        ({"dataset": "a/b"}, "config_dataset_repo", "write hf://a/b if it is a data set on the hub"),
        ({"data_args": {"labl_field": "x"}}, "unknown_key", 'did you mean "label_field"?'),
        ({"data_args": [1]}, "not_map", "data_args: found [1]"),
        ({"training_args": {"kl_control_wieght": 1}}, "unknown_key", 'did you mean "kl_control_weight"?'),
        ({"training_args": {"zzzzzz": 1}}, "unknown_key_far", "training_args.zzzzzz: unknown key"),
        ({"training_args": {"bf16": "yes"}}, "param_bool", 'training_args.bf16: found "yes"'),
        ({"training_args": {"learning_rate": {1, 2}}}, "config_value", "a set; a recipe holds text, numbers"),
        (
            {"quantization": "awq"},
            "choice",
            'quantization: found "awq", expected one of: q_lora_bnb, nf4, int8, none',
        ),
        ({"learning_rate": 1e-5}, "config_training_arg", "move it into training_args"),
    ],
)
def test_what_is_refused(config: dict[str, Any], code: str, said: str) -> None:
    (found,) = refused({**SMALL, **config})
    assert found.code == f"recipe.{code}"
    assert said in sentence(found)


def test_everything_is_refused_at_once() -> None:
    found = refused(
        {
            "model_type": "zzz",
            "train_type": "kot",
            "datset": "x",
            "quantization": "awq",
            "data_args": {"labl_field": "x"},
        }
    )
    assert [p.field_name for p in found] == [
        "datset",
        "train_type",
        "model_type",
        "data_args.labl_field",
        "dataset",
        "quantization",
    ]


def test_values_of_the_wrong_type_are_left_to_the_recipes_check() -> None:
    data, _notes = recipe_from_config({**SMALL, "training_args": {"learning_rate": "fast"}})
    with pytest.raises(SwiftshellError) as caught:
        recipe_from_mapping(data)
    assert 'steps.kto.params.learning_rate: found "fast", expected a number' in sentence(
        caught.value.problems[0]
    )


def test_nested_arguments_and_short_ones_go_together_and_the_configuration_stays_as_it_was() -> None:
    args = {"lora": {"lora_alpha": 4}, "engine_args": {"adam_beta1": 0.8}, "adam_beta2": 0.9}
    config = {**SMALL, "training_args": args, "lora_rank": 2}
    assert params(config) == {"lora": {"lora_alpha": 4, "r": 2}, "engine_args": {"adam_beta1": 0.8, "adam_beta2": 0.9}}
    assert args == {"lora": {"lora_alpha": 4}, "engine_args": {"adam_beta1": 0.8}, "adam_beta2": 0.9}


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({"output_dir": []}, "steps.kto.output_dir"),
        ({"training_args": {"lora": 8}, "lora_rank": 2}, "steps.kto.params.lora"),
        ({"data_args": {"columns": 3, "label_field": "x"}}, "data.train.columns"),
        ({"seed": "x"}, "seed"),
        ({"name": "a/b"}, "name"),
    ],
)
def test_shapes_nobody_expects_are_refused_by_the_recipes_check(config: dict[str, Any], field: str) -> None:
    data, _notes = recipe_from_config({**SMALL, **config})
    with pytest.raises(SwiftshellError) as caught:
        recipe_from_mapping(data)
    assert [p.field_name for p in caught.value.problems] == [field]


def test_numbers_of_other_libraries_become_plain() -> None:
    class Scalar:
        def item(self) -> float:
            return 0.25

    assert params({**SMALL, "training_args": {"beta": Scalar()}}) == {"beta": 0.25}


def test_a_recipe_and_its_path_pass_through(tmp_path: Path) -> None:
    data = {
        "schema": 1,
        "models": {"m": {"path": "m"}},
        "data": {"d": {"path": "d.jsonl"}},
        "steps": [{"id": "a", "stage": "echo", "output_dir": "out"}],
    }
    assert recipe_from_config(data) == (data, [])
    path = tmp_path / "mine.yaml"
    path.write_text(
        "schema: 1\nmodels: {m: {path: m}}\ndata: {d: {path: ~/d.jsonl}}\n"
        "steps: [{id: a, stage: echo, output_dir: out}]\n"
    )
    found, notes = recipe_from_config(path)
    assert notes == []
    assert found["models"]["m"]["path"] == str(tmp_path / "m")
    assert found["data"]["d"]["path"] == str(Path("~/d.jsonl").expanduser())
    assert found["steps"][0]["output_dir"] == str(tmp_path / "out")
