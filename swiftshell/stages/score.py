"""Score: how likely models find answers that are already there, for choosing and checking labels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import Field

from swiftshell.errors import Problem
from swiftshell.stages.base import Facts, Params, SimpleStage, Slot
from swiftshell.stages.shared import Dtype, PositiveInt

ModelScorer = Literal["likelihood", "implicit_reward"]


class ScoreParams(Params):
    """`likelihood`: mean log-probability per token, nats. `implicit_reward`: beta times the log-ratio to the reference."""

    scorers: Annotated[list[ModelScorer], Field(min_length=1)] = ["likelihood"]
    beta: Annotated[float, Field(gt=0, le=5)] = 0.1
    max_length: PositiveInt = 1024
    dtype: Dtype = "auto"


class Score(SimpleStage):
    """Give every answer of a file a number by a model's log-probabilities."""

    name = "score"
    params = ScoreParams
    inputs = (
        Slot("policy", ("model", "adapter", "quantized_model")),
        Slot("reference", ("model", "adapter"), required=False),
        Slot("rows", ("dataset",)),
    )
    outputs = (Slot("scored", ("dataset",)),)
    engine = "swiftshell.engines.score_answers:run"
    distributions = ("torch", "transformers", "peft")

    def check(self, params: Any, facts: Facts) -> Iterable[Problem]:
        """Yield that the implicit reward lacks the model it is measured against."""
        if "implicit_reward" in params.scorers and not facts.inputs.get("reference"):
            yield Problem("score.needs_reference_model", {}, field_name="scorers")


STAGE = Score()
