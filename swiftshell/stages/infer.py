"""Infer: answer a file of prompts (transformers engine)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from swiftshell.stages.base import Params, SimpleStage, Slot
from swiftshell.stages.shared import Dtype, PositiveInt


class InferParams(Params):
    """Generation settings, transformers' names. temperature 0 means greedy."""

    max_new_tokens: PositiveInt = 256
    temperature: Annotated[float, Field(ge=0)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    batch_size: PositiveInt | Literal["auto"] = "auto"
    dtype: Dtype = "auto"
    limit: Annotated[int, Field(ge=0)] = 0


class Infer(SimpleStage):
    """Answer prompts in batches."""

    name = "infer"
    params = InferParams
    inputs = (Slot("model", ("model", "adapter", "quantized_model")), Slot("prompts", ("dataset",)))
    outputs = (Slot("answers", ("answers",)),)
    engine = "swiftshell.engines.transformers_infer:run"
    distributions = ("torch", "transformers", "peft")


STAGE = Infer()
