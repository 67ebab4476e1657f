"""Translate SwiftApp's short configuration into a recipe, saying what was renamed, assumed or left out.

```
{"model_type": "qwen-7b", "train_type": "kto", "dataset": "hf://org/name",
 "data_args": {"label_field": "is_preferred", "text_field": "response"},
 "training_args": {"learning_rate": 5e-6, "kl_control_weight": 0.1},
 "quantization": "q_lora_bnb", "lora_rank": 64, "output_dir": "./output"}
```
Nothing is opened here but a recipe that is given by its path; whether models and data exist is the plan's business.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from swiftshell.api.legacy_models import MODEL_NAMES, folded, repository
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.recipe import engine_args
from swiftshell.recipe.document import read_document
from swiftshell.recipe.sections import absolute
from swiftshell.recipe.suggest import OLD_NAMES, nearest, shown
from swiftshell.stages import registry

TRAIN_TYPES = ("sft", "kto", "dpo")
STARTER = "starter"

CONFIG_KEYS = ("model_type", "train_type", "dataset", "eval_dataset", "reference", "data_args", "training_args",
               "tuning", "quantization", "lora_rank", "lora_alpha", "lora_dropout", "output_dir", "seed", "name")
_CONFIG_OLD = {"model": "model_type", "model_id_or_path": "model_type", "model_name": "model_type",
               "sft_type": "tuning", "finetuning_type": "tuning", "ref_model": "reference",
               "val_dataset": "eval_dataset", "train_dataset": "dataset"}
_LORA = {"lora_rank": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}

# What a configuration may call the quantization of the frozen base -> the method.
_QUANTIZATIONS = {"q_lora_bnb": "nf4", "qlora": "nf4", "q_lora": "nf4", "nf4": "nf4", "bnb_nf4": "nf4", "4bit": "nf4",
                  "bnb_4bit": "nf4", "int4": "nf4", "int8": "int8", "8bit": "int8", "bnb_8bit": "int8",
                  "bnb_int8": "int8", "none": "none", "": "none"}

_COLUMNS = {"label_field": "label", "text_field": "completion", "response_field": "completion",
            "completion_field": "completion", "answer_field": "completion", "output_field": "completion",
            "prompt_field": "prompt", "query_field": "prompt", "question_field": "prompt",
            "instruction_field": "prompt", "chosen_field": "chosen", "rejected_field": "rejected",
            "weight_field": "weight", "probability_field": "probability",
            "messages_field": "messages", "system_field": "system", "history_field": "history"}
_READING = {"split": "split", "file": "file", "format": "format", "limit": "limit", "max_samples": "limit",
            "columns": "columns", "label_rule": "label_rule"}
_COLUMN_STAGES = {"label": ("kto",), "weight": ("kto",), "probability": ("kto",),
                  "chosen": ("dpo", "kto"), "rejected": ("dpo", "kto")}

_GENERATION = ("temperature", "top_p", "top_k", "max_new_tokens", "do_sample", "num_beams", "repetition_penalty",
               "num_return_sequences", "min_new_tokens", "length_penalty")
_GONE = ("evaluation_strategy", "logging_dir", "overwrite_output_dir", "max_prompt_length", "max_completion_length",
         "truncation_mode", "generate_during_eval", "label_pad_token_id", "padding_value", "is_encoder_decoder",
         "no_cuda", "tf32", "save_safetensors", "group_by_length", "use_mps_device")


def recipe_from_config(config: Mapping[str, Any] | str | os.PathLike[str]) -> tuple[dict[str, Any], list[Problem]]:
    """Return the recipe a configuration stands for, and notes about how it was read.

    A mapping with `steps` is a recipe already, and a path names one; both come back as they are (the file's relative
    paths made absolute).

    Raises:
        SwiftshellError: everything in the configuration that cannot be understood.
    """
    if not isinstance(config, Mapping):
        return _from_file(Path(config)), []
    if "steps" in config:
        return dict(config), []
    translation = _Translation(config)
    recipe = translation.recipe()
    if translation.problems:
        raise SwiftshellError(translation.problems)
    return recipe, translation.notes


def _from_file(path: Path) -> dict[str, Any]:
    data: Any = read_document(path).data
    base = path.absolute().parent
    if not isinstance(data, dict):
        return {"steps": data}  # checking it says what is wrong with it
    entries = [entry for section in ("models", "data") if isinstance(data.get(section), dict)
               for entry in data[section].values()]
    steps = data.get("steps") if isinstance(data.get("steps"), list) else []
    for entry, key in [*((e, "path") for e in entries), *((s, "output_dir") for s in steps or [])]:
        if isinstance(entry, dict) and isinstance(entry.get(key), str):
            entry[key] = str(absolute(entry[key], base))
    return data


class _Translation:
    """One configuration being read; problems and notes are collected on the way."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.config = self._named(config)
        stage = self.config.get("train_type")
        self.stage = stage if stage in TRAIN_TYPES else ""
        self.seed = self.config.get("seed")
        self.output_dir = self.config.get("output_dir")
        self.params: dict[str, Any] = {}

    def recipe(self) -> dict[str, Any]:
        """Return the recipe; it is complete only if there are no problems."""
        self._train_type()
        models = {"base": self._model("model_type", self.config.get("model_type"))}
        inputs = {"policy": "models.base"}
        if self.stage in ("kto", "dpo"):
            inputs["reference"] = self._reference(models)
        data = {"train": self._dataset("dataset", self.config.get("dataset"))}
        inputs["train_data"] = "data.train"
        if self.config.get("eval_dataset") is not None:
            data["eval"] = self._dataset("eval_dataset", self.config["eval_dataset"])
            inputs["eval_data"] = "data.eval"
        self._training_args()
        self._adapter()
        step: dict[str, Any] = {"id": self.stage or "train", "stage": self.stage, "inputs": inputs,
                                "params": self.params}
        if self.output_dir is not None:
            step["output_dir"] = self.output_dir
        recipe = {"schema": 1, "name": self._name(models["base"]), "seed": self.seed, "models": models, "data": data,
                  "steps": [{k: v for k, v in step.items() if v != {}}]}
        return {k: self._plain(v, k) for k, v in recipe.items() if v is not None}

    def _plain(self, value: Any, field: str) -> Any:
        """Return a value as a recipe can hold it; numpy's numbers become Python's, other objects are refused."""
        if isinstance(value, Mapping):
            return {str(k): self._plain(v, str(k)) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [self._plain(v, field) for v in value]
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if value is not None and not isinstance(value, str | int | float | bool):
            if hasattr(value, "item") and isinstance(value.item(), int | float | bool):
                return value.item()
            self._problem("config_value", field, found=repr(value)[:60], kind=type(value).__name__)
        return value

    def _problem(self, code: str, field: str, **values: Any) -> None:
        self.problems.append(Problem(f"recipe.{code}", values, field_name=field))

    def _note(self, code: str, field: str, **values: Any) -> None:
        self.notes.append(Problem(f"recipe.{code}", values, field_name=field, severity="note"))

    def _named(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the configuration under our keys; unknown ones are refused with the nearest."""
        found: dict[str, Any] = {}
        for key, value in config.items():
            name = _CONFIG_OLD.get(str(key), str(key))
            if name in CONFIG_KEYS:
                found[name] = value
            elif _accepted(str(key)):
                self._problem("config_training_arg", str(key), found=key)
            else:
                self._unknown(str(key), str(key), CONFIG_KEYS)
        return found

    def _unknown(self, key: str, field: str, known: Collection[str]) -> None:
        near = nearest(key, known)
        if near:
            self._problem("unknown_key", field, found=key, nearest=near)
        else:
            self._problem("unknown_key_far", field, found=key, known=", ".join(known))

    def _mapping(self, key: str) -> dict[str, Any]:
        value = self.config.get(key)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self._problem("not_map", key, what=key, found=shown(value))
            return {}
        return {str(k): v for k, v in value.items()}

    def _train_type(self) -> None:
        given = self.config.get("train_type")
        if given is None:
            self._problem("config_missing", "train_type", choices=", ".join(TRAIN_TYPES))
        elif not self.stage:
            self._problem("choice", "train_type", found=shown(given), choices=", ".join(TRAIN_TYPES))

    def _model(self, field: str, given: Any) -> dict[str, Any]:
        """Return the `models` entry for a short name, a repository or a folder."""
        if isinstance(given, os.PathLike):
            return {"path": os.fspath(given)}
        if not isinstance(given, str) or not given.strip():
            self._problem("config_missing" if given is None else "not_text", field, found=shown(given),
                          choices="qwen2.5-7b, org/name, ./folder")
            return {}
        if given.startswith("ms://"):
            return {"repo": given.removeprefix("ms://"), "source": "ms"}
        if given == STARTER:
            return {"starter": True}
        if repo := repository(given):
            old = folded(given).startswith("qwen-")
            self._note("config_old_qwen" if old else "config_model", field, found=given, repo=repo)
            return {"repo": repo}
        if _is_path(given):
            return {"path": given}
        repo = given.removeprefix("hf://")
        if re.fullmatch(r"[\w.-]+/[\w.-]+", repo, re.ASCII):
            return {"repo": repo}
        near = nearest(folded(given), MODEL_NAMES)
        self._problem("config_model_unknown" if near else "config_model_unknown_far", field, found=given, nearest=near)
        return {}

    def _reference(self, models: dict[str, Any]) -> str:
        if self.config.get("reference") is not None:
            models["reference"] = self._model("reference", self.config["reference"])
            return "models.reference"
        name = models["base"].get("repo") or models["base"].get("path") or STARTER
        self._note("config_reference", "model_type", model=name, stage=self.stage)
        return "models.base"

    def _dataset(self, field: str, given: Any) -> dict[str, Any]:
        """Return the `data` entry for a data set, with the columns that `data_args` names."""
        reading = self._data_args() if field == "dataset" else {}
        if isinstance(given, os.PathLike):
            given = os.fspath(given)
        if not isinstance(given, str) or not given.strip():
            self._problem("config_missing" if given is None else "not_text", field, found=shown(given),
                          choices="hf://org/name, ./file.jsonl, starter")
            return {}
        scheme, mark, rest = given.partition("://")
        if given == STARTER:
            return {"starter": (self.stage or "sft") if field == "dataset" else "heldout", **reading}
        if mark and scheme == "hf":
            return {"repo": rest, **reading}
        if mark and scheme == "ms":
            return {"repo": rest, "source": "ms", **reading}
        if mark:
            self._problem("path_is_url", field, found=given)
        elif not _is_path(given) and re.fullmatch(r"[\w.-]+/[\w-]+", given, re.ASCII):
            self._problem("config_dataset_repo", field, found=given)
        return {"path": given, **reading}

    def _data_args(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        columns: dict[str, Any] = {}
        for key, value in self._mapping("data_args").items():
            field = f"data_args.{key}"
            part = _COLUMNS.get(key)
            if part is not None and self.stage and self.stage not in _COLUMN_STAGES.get(part, TRAIN_TYPES):
                self._note("config_no_meaning", field, found=key, stage=self.stage)
            elif part is not None:
                plain = key == "text_field" and self.stage == "sft" and value == "text"  # stories, not answers
                columns["text" if plain else part] = value
            elif key in _READING:
                found[_READING[key]] = value
            else:
                self._unknown(key, field, (*_COLUMNS, *_READING))
        given = found.get("columns")
        if columns and (given is None or isinstance(given, Mapping)):
            found["columns"] = {**columns, **(given or {})}
        return found

    def _training_args(self) -> None:
        for key, value in self._mapping("training_args").items():
            if self.stage:
                self._training_arg(key, value, f"training_args.{key}")

    def _training_arg(self, key: str, value: Any, field: str) -> None:
        """Put one training argument where it belongs, or say why it belongs nowhere."""
        known = registry.get(self.stage).params.model_fields
        old = OLD_NAMES.get(key, "")
        ours = old.partition(".")[0] or key
        others = [s for s in TRAIN_TYPES if s != self.stage and ours in registry.get(s).params.model_fields]
        if key in known:
            self._set(key, value)
        elif key in ("bf16", "fp16"):
            self._number_format(key, value)
        elif key == "seed":
            self.seed = value if self.seed is None else self.seed
        elif key == "output_dir":
            self.output_dir = value if self.output_dir is None else self.output_dir
        elif key in _GENERATION:
            self._note("config_generation", field, found=key, stage=self.stage)
        elif old and ours in known:
            self._note("config_renamed", field, found=key, name=old)
            self._set(old, value)
        elif key in engine_args.names(self.stage):
            self._nested("engine_args")[key] = value
        elif key in engine_args.fields(self.stage) or key in _GONE:
            self._note("config_decided", field, found=key, value=shown(value))
        elif others:
            self._note("config_other_stage", field, found=key, stage=self.stage, stages=", ".join(others))
        else:
            self._unknown(key, field, (*known, *engine_args.names(self.stage), *OLD_NAMES))

    def _set(self, dotted: str, value: Any) -> None:
        outer, _, inner = dotted.partition(".")
        if inner:
            self._nested(outer)[inner] = value
        elif dotted == "quantization":
            self._quantization("training_args.quantization", value)
        else:
            self.params[outer] = dict(value) if isinstance(value, Mapping) else value

    def _nested(self, name: str) -> dict[str, Any]:
        """Return a parameter that holds others; one that is no mapping stays, for the recipe's check to refuse."""
        present = self.params.setdefault(name, {})
        return present if isinstance(present, dict) else {}

    def _number_format(self, key: str, value: Any) -> None:
        if value is True:
            self.params["dtype"] = {"bf16": "bfloat16", "fp16": "float16"}[key]
            self._note("config_renamed", f"training_args.{key}", found=key, name=f"dtype: {self.params['dtype']}")
        elif value not in (False, None):
            self._problem("param_bool", f"training_args.{key}", found=shown(value))

    def _adapter(self) -> None:
        """Read what belongs to the adapter: quantization of the base, rank, scale."""
        if self.config.get("quantization") is not None:
            self._quantization("quantization", self.config["quantization"])
        if self.config.get("tuning") is not None:
            tuning = self.config["tuning"]
            self.params["tuning"] = "lora" if tuning in ("qlora", "q_lora") else tuning
        given = {ours: self.config[theirs] for theirs, ours in _LORA.items() if self.config.get(theirs) is not None}
        if given:
            self._nested("lora").update(given)
        lora = self.params.get("lora")
        if isinstance(lora, dict) and type(lora.get("r")) is int and "lora_alpha" not in lora:
            lora["lora_alpha"] = 2 * lora["r"]
            self._note("config_alpha", "lora_rank", rank=lora["r"], alpha=lora["lora_alpha"])

    def _quantization(self, field: str, given: Any) -> None:
        method = _QUANTIZATIONS.get(str(given).lower().replace("-", "_"))
        if method is None:
            self._problem("choice", field, found=shown(given), choices="q_lora_bnb, nf4, int8, none")
            return
        self.params["quantization"] = method
        if method != str(given):
            self._note("config_quantization", field, found=shown(given), method=method)

    def _name(self, model: Mapping[str, Any]) -> str:
        if self.config.get("name") is not None:
            return str(self.config["name"])
        text = str(model.get("repo") or model.get("path") or STARTER).rstrip("/").rpartition("/")[2]
        short = re.sub(r"[^\w.]+", "-", text.lower()).strip("-._") or "model"
        return f"{short[:50]}-{self.stage}".strip("-")


def _accepted(key: str) -> bool:
    """Tell whether a key is known as a training argument."""
    return key in OLD_NAMES or any(key in registry.get(stage).params.model_fields or key in engine_args.fields(stage)
                                   for stage in TRAIN_TYPES)


def _is_path(text: str) -> bool:
    return text.startswith((".", "/", "~")) or os.path.exists(text)
