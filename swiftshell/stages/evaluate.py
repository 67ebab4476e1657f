"""Evaluate: the same held-out rows through every model of a lineage, with 95 % intervals."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from swiftshell.stages.base import Params, SimpleStage, Slot
from swiftshell.stages.shared import Dtype, PositiveInt

Metric = Literal["desirable_share", "exact_match", "perplexity", "preference_accuracy", "preference_auc"]


class EvaluateParams(Params):
    """Which numbers, on how many rows. A metric whose columns the rows lack is left out and said so."""

    metrics: list[Metric] = ["desirable_share", "exact_match", "perplexity", "preference_accuracy", "preference_auc"]
    max_new_tokens: PositiveInt = 128
    batch_size: PositiveInt | Literal["auto"] = "auto"
    max_length: PositiveInt = 1024
    limit: Annotated[int, Field(ge=0)] = 0
    dtype: Dtype = "auto"


class Evaluate(SimpleStage):
    """Measure on held-out rows."""

    name = "evaluate"
    params = EvaluateParams
    inputs = (Slot("models", ("model", "adapter", "quantized_model"), many=True), Slot("eval_data", ("dataset",)))
    outputs = (Slot("report", ("report",)),)
    engine = "swiftshell.engines.evaluate:run"
    distributions = ("torch", "transformers", "peft")


STAGE = Evaluate()
