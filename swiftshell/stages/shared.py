"""Parameters that several stages share, declared once under TRL's names (PEFT's for LoRA)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from swiftshell.stages.base import Params

Dtype = Literal["auto", "bfloat16", "float16", "float32"]
Quantization = Literal["none", "nf4", "int8"]
PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
LearningRate = Annotated[float, Field(gt=0, lt=1)]


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
        "linear", "cosine", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt", "cosine_with_min_lr"
    ] = "linear"
    warmup_steps: Annotated[float, Field(ge=0)] = 0.1  # below 1: a fraction of all optimizer steps (transformers)
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
