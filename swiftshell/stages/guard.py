"""Settings of the guard that watches a preference training for drift, stops it and restarts it held tighter."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from swiftshell.stages.base import Params


class Guard(Params):
    """When training counts as drifting, and what is then done. Limits are nats per completion token.

    TRL's own `kl` is clamped at 0 and cannot show a collapse, so these look at the unclamped estimate and at how much
    likelihood the desirable answers lost.
    """

    enabled: bool = True
    patience_steps: Annotated[int, Field(ge=1)] = 5
    smoothing_steps: Annotated[int, Field(ge=1)] = 8  # span of the moving averages, in optimizer steps
    min_chosen_logratio: Annotated[float, Field(lt=0)] = -0.15
    max_kl: Annotated[float, Field(gt=0)] = 0.15
    max_restarts: Annotated[int, Field(ge=0, le=10)] = 3
    learning_rate_factor: Annotated[float, Field(gt=0, le=1)] = 0.5
    beta_factor: Annotated[float, Field(ge=1)] = 1.5
    max_beta: Annotated[float, Field(gt=0, le=5)] = 0.5
    snapshot_steps: Annotated[int, Field(ge=0)] = 0  # how often a good adapter is put aside; 0: a twentieth of the run
    probe_prompts: Annotated[int, Field(ge=0, le=512)] = 0  # prompts answered by generation to measure the KL; 0: none
    probe_steps: Annotated[int, Field(ge=1)] = 50
