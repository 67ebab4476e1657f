"""Parameters that several stages share, declared once under TRL's names (PEFT's for LoRA)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from swiftshell.errors import Problem
from swiftshell.stages.base import Facts, Params, SimpleStage

Dtype = Literal["auto", "bfloat16", "float16", "float32"]
Quantization = Literal["none", "nf4", "int8"]
PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
OUT_OF_RANGE = "out_of_range"  # in a field's schema: the catalogue key that says what its limits mean
LearningRate = Annotated[float, Field(gt=0, lt=1, json_schema_extra={OUT_OF_RANGE: "train.learning_rate_range"})]


class Lora(Params):
    """LoRA settings, PEFT's names. `target_modules: all-linear` leaves out the language-model head."""

    r: PositiveInt = 16
    lora_alpha: PositiveInt = 32
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    target_modules: Literal["all-linear"] | list[str] = "all-linear"
    use_rslora: bool = False
    use_dora: bool = False


class Training(Params):
    """What SFT, KTO and DPO share. Defaults that differ by stage are set in the stage."""

    tuning: Literal["lora", "full"] = "lora"
    quantization: Quantization = "none"
    lora: Lora = Lora()
    dtype: Dtype = "auto"
    learning_rate: LearningRate = 1e-5
    lr_scheduler_type: Literal[
        "linear",
        "cosine",
        "constant",
        "constant_with_warmup",
        "polynomial",
        "inverse_sqrt",
        "cosine_with_min_lr",
    ] = "linear"
    warmup_steps: Annotated[float, Field(ge=0)] = (
        0.1  # below 1: a fraction of all optimizer steps (transformers)
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    num_train_epochs: Annotated[float, Field(gt=0)] = 1.0
    max_steps: Annotated[int, Field(ge=-1)] = -1
    per_device_train_batch_size: PositiveInt = 8
    gradient_accumulation_steps: PositiveInt = 4
    gradient_checkpointing: bool | Literal["auto"] = "auto"
    max_length: PositiveInt = 1024
    logging_steps: PositiveInt = 1
    save_steps: PositiveInt = 100
    save_total_limit: PositiveInt = 2
    eval_steps: Annotated[int, Field(ge=0)] = 0
    optim: str = "adamw_torch"
    drop_budget: Annotated[int, Field(ge=0)] = 0
    probe_rows: Annotated[int, Field(ge=4, le=256)] = 16
    engine_args: dict[str, Any] = Field(default_factory=dict)

    def own_problems(self) -> Iterator[Problem]:
        """Yield what is wrong with a stage's own parameters beyond their types."""
        return iter(())


# What `engine_args` may not say, and why: the code of the reason.
_OWNED = (
    "output_dir",
    "resume_from_checkpoint",
    "logging_dir",
    "report_to",
    "run_name",
    "do_train",
    "do_eval",
    "do_predict",
    "seed",
    "data_seed",
    "use_cpu",
    "no_cuda",
    "bf16",
    "fp16",
    "disable_tqdm",
    "logging_nan_inf_filter",
    "save_strategy",
    "save_only_model",
    "logging_strategy",
    "eval_strategy",
    "load_best_model_at_end",
    "per_device_eval_batch_size",
    "dataset_kwargs",
    "dataset_text_field",
    "skip_memory_metrics",
)
_NETWORK = (
    "push_to_hub",
    "hub_model_id",
    "hub_token",
    "hub_strategy",
    "hub_private_repo",
    "hub_always_push",
    "hub_revision",
    "trackio_space_id",
    "project",
)
_REFERENCE = (
    "ref_adapter_name",
    "model_adapter_name",
    "ref_model_init_kwargs",
    "sync_ref_model",
    "ref_model_mixup_alpha",
    "ref_model_sync_steps",
    "model_init_kwargs",
    "force_use_ref_model",
)
_ORDER = (
    "train_sampling_strategy",
    "dataloader_drop_last",
    "auto_find_batch_size",
    "dataset_num_proc",
    "group_by_length",
    "remove_unused_columns",
    "shuffle_dataset",
    "ignore_data_skip",
    "truncation_mode",
    "pad_token",
    "eos_token",
    "chat_template_path",
    "max_prompt_length",
    "max_completion_length",
)
REFUSED_ARGS = {
    **dict.fromkeys(_OWNED, "train.arg_owned"),
    **dict.fromkeys(_NETWORK, "train.arg_network"),
    **dict.fromkeys(_REFERENCE, "train.arg_reference"),
    **dict.fromkeys(_ORDER, "train.arg_order"),
    "trust_remote_code": "train.arg_remote_code",
}


# At this rate KTO with beta 0.1 collapsed on a toy model, at a fifth of it it did not (the guard's grid repeats that).
_HIGH_LEARNING_RATE = 1e-3


def training_problems(params: Any) -> Iterator[Problem]:
    """Yield what is wrong with a training stage's parameters beyond their types; the same for plan and worker."""
    if params.tuning == "full" and params.quantization != "none":
        yield Problem(
            "train.full_quantized", {"quantization": params.quantization}, field_name="quantization"
        )
    if isinstance(params.lora.target_modules, list) and "lm_head" in params.lora.target_modules:
        yield Problem("train.lora_on_head", {}, field_name="lora.target_modules")
    for name in params.engine_args:
        if name in REFUSED_ARGS:
            yield Problem(REFUSED_ARGS[name], {"name": name}, field_name=f"engine_args.{name}")
        elif name in type(params).model_fields:
            yield Problem("train.arg_has_own_name", {"name": name}, field_name=f"engine_args.{name}")
    minimum = params.engine_args.get("lr_scheduler_kwargs")
    if params.lr_scheduler_type == "cosine_with_min_lr" and not (
        isinstance(minimum, dict) and {"min_lr", "min_lr_rate"} & minimum.keys()
    ):
        yield Problem("train.min_lr_missing", {}, field_name="lr_scheduler_type")
    yield from params.own_problems()
    if hasattr(params, "undesirable_weight") and params.learning_rate >= _HIGH_LEARNING_RATE:
        usual = f"{type(params).model_fields['learning_rate'].default:g}"
        found = {"value": f"{params.learning_rate:g}", "usual": usual}
        yield Problem("train.learning_rate_high", found, field_name="learning_rate", severity="warning")
    for name in ("desirable_weight", "undesirable_weight"):
        value: Any = getattr(params, name, "auto")
        if value != "auto" and not 0 < value <= 100:
            yield Problem("train.weight_out_of_range", {"name": name, "value": value}, field_name=name)


class TrainingStage(SimpleStage):
    """A stage that trains with TRL: its parameters are checked as a whole."""

    distributions = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")

    def check(self, params: Any, facts: Facts) -> Iterator[Problem]:
        """Yield every parameter that cannot work or would break a promise; warnings come with the recipe's lines."""
        return (p for p in training_problems(params) if p.severity == "error")
