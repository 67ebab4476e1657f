"""DPO: Direct Preference Optimization from pairs (TRL DPOTrainer)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from swiftshell.stages.base import Slot
from swiftshell.stages.shared import LearningRate, Training, TrainingStage

DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]


class DpoParams(Training):
    """DPO, TRL's names."""

    learning_rate: LearningRate = 5e-6
    beta: Annotated[float, Field(gt=0, le=5)] = 0.1
    loss_type: DpoLoss = "sigmoid"
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    precompute_ref_log_probs: bool = False
    other_reference: bool = False  # accept a reference that is not the SFT model, knowing what it means


class Dpo(TrainingStage):
    """Learn from pairs, against the SFT model as fixed reference."""

    name = "dpo"
    params = DpoParams
    inputs = (
        Slot("policy", ("model", "adapter")),
        Slot("reference", ("model", "adapter")),
        Slot("train_data", ("dataset",)),
        Slot("eval_data", ("dataset",), required=False),
    )
    outputs = (Slot("adapter", ("adapter",), required=False), Slot("model", ("model",), required=False))
    engine = "swiftshell.engines.trl_dpo:run"


STAGE = Dpo()
