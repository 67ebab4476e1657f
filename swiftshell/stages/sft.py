"""SFT: supervised fine-tuning on demonstrations (TRL SFTTrainer)."""

from __future__ import annotations

from typing import Literal

from swiftshell.stages.base import Slot
from swiftshell.stages.shared import LearningRate, Training, TrainingStage


class SftParams(Training):
    """Supervised fine-tuning."""

    learning_rate: LearningRate = 1e-4
    packing: bool = False
    assistant_only_loss: bool | Literal["auto"] = "auto"
    completion_only_loss: bool = True


class Sft(TrainingStage):
    """Teach a base model to answer."""

    name = "sft"
    params = SftParams
    inputs = (
        Slot("policy", ("model", "adapter")),
        Slot("train_data", ("dataset",)),
        Slot("eval_data", ("dataset",), required=False),
    )
    outputs = (Slot("adapter", ("adapter",), required=False), Slot("model", ("model",), required=False))
    engine = "swiftshell.engines.trl_sft:run"


STAGE = Sft()
