"""Merge: fold an adapter into its base and prove that nothing changed (PEFT)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from swiftshell.stages.base import Params, SimpleStage, Slot
from swiftshell.stages.shared import Dtype


class MergeParams(Params):
    """How to merge and how closely merged and adapter must agree."""

    dtype: Dtype = "auto"
    max_logit_diff: Annotated[float, Field(gt=0)] | None = None  # None: chosen by dtype
    min_top1_agreement: Annotated[float, Field(gt=0, le=1)] | None = None  # None: chosen by dtype
    probe_rows: Annotated[int, Field(ge=1)] = 16
    max_shard_size: str = "4GB"


class Merge(SimpleStage):
    """Fold the newest adapter into full weights."""

    name = "merge"
    params = MergeParams
    inputs = (Slot("adapter", ("adapter",)),)
    outputs = (Slot("model", ("model",)),)
    engine = "swiftshell.engines.peft_merge:run"
    distributions = ("torch", "transformers", "peft")
    gpus = 0  # additions, done where the weights are: in memory


STAGE = Merge()
