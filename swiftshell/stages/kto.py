"""KTO: Kahneman-Tversky Optimization from one thumbs-up or -down per answer (TRL KTOTrainer)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from swiftshell.stages.base import Slot
from swiftshell.stages.guard import Guard
from swiftshell.stages.shared import OUT_OF_RANGE, LearningRate, Training, TrainingStage


class KtoParams(Training):
    """KTO. `beta` is the KL weight; class weights `auto` bring weighted desirable : undesirable to 1.15."""

    learning_rate: LearningRate = 5e-6
    beta: Annotated[float, Field(gt=0, le=5, json_schema_extra={OUT_OF_RANGE: "thumbs.beta_range"})] = 0.1
    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    desirable_weight: float | Literal["auto"] = "auto"
    undesirable_weight: float | Literal["auto"] = "auto"
    per_device_train_batch_size: Annotated[
        int, Field(ge=2, json_schema_extra={OUT_OF_RANGE: "thumbs.batch_of_one"})
    ] = 8
    precompute_ref_log_probs: bool | Literal["auto"] = "auto"
    batch_composition: Literal["length", "random"] = "length"
    guard: Guard = Guard()
    replay_ratio: Annotated[float, Field(ge=0, le=10)] = 0.0  # rows of earlier rounds for each new row
    other_reference: bool = False  # accept a reference that is not the SFT model, knowing what it means


class Kto(TrainingStage):
    """Learn from single thumbs, against the SFT model as fixed reference."""

    name = "kto"
    params = KtoParams
    inputs = (
        Slot("policy", ("model", "adapter")),
        Slot("reference", ("model", "adapter")),
        Slot("train_data", ("dataset",)),
        Slot("replay_data", ("dataset",), required=False, many=True),  # newest round first
        Slot("eval_data", ("dataset",), required=False),
    )
    outputs = (Slot("adapter", ("adapter",), required=False), Slot("model", ("model",), required=False))
    engine = "swiftshell.engines.trl_kto:run"


STAGE = Kto()
