"""SFT: supervised fine-tuning on demonstrations (TRL SFTTrainer)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from swiftshell.errors import Problem
from swiftshell.stages.base import Slot
from swiftshell.stages.shared import LearningRate, Training, TrainingStage


class SftParams(Training):
    """Supervised fine-tuning."""

    learning_rate: LearningRate = 1e-4
    packing: bool = False
    packing_strategy: Literal["bfd", "bfd_split", "wrapped"] = "bfd"
    padding_free: bool = False
    assistant_only_loss: bool | Literal["auto"] = "auto"
    completion_only_loss: bool = True

    @property
    def flattened(self) -> bool:
        """Tell whether rows follow each other in one sequence, kept apart by their positions alone."""
        return self.padding_free or (self.packing and self.packing_strategy != "wrapped")

    @property
    def splits_rows(self) -> bool:
        """Tell whether a row may be continued in another sequence."""
        return self.packing and self.packing_strategy != "bfd"

    def own_problems(self) -> Iterator[Problem]:
        """Yield settings that contradict each other or would do nothing."""
        if self.packing_strategy != "bfd" and not self.packing:
            yield Problem(
                "packing.strategy_unused", {"strategy": self.packing_strategy}, field_name="packing_strategy"
            )
        if self.packing and self.packing_strategy == "wrapped" and self.padding_free:
            yield Problem("packing.wrapped_padding_free", {}, field_name="padding_free")


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
