"""Audit: find labels that are likely wrong, without a person, and say how sure that is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from swiftshell.errors import Problem
from swiftshell.stages.base import Slot
from swiftshell.stages.kto import KtoParams
from swiftshell.stages.shared import TrainingStage

Detector = Literal["conflicts", "rules", "text", "reference", "hidden", "early", "crossfit"]


class AuditParams(KtoParams):
    """KTO's settings for the probes that are trained, and what is looked at. Early probes learn more than one epoch takes."""

    detectors: list[Detector] = ["conflicts", "rules", "text", "reference", "hidden", "crossfit"]
    folds: Annotated[int, Field(ge=2, le=10)] = 3
    flag: Literal["desirable", "both", "none"] = "desirable"
    flag_above: Annotated[float, Field(gt=0, le=1)] = 0.5
    num_train_epochs: Annotated[float, Field(gt=0)] = 2.0

    def own_problems(self) -> Iterator[Problem]:
        """Yield what is wrong beyond the types: something must be looked at."""
        yield from super().own_problems()
        if not self.detectors:
            yield Problem("audit.no_detectors", {}, field_name="detectors")


class Audit(TrainingStage):
    """Question the labels of KTO rows."""

    name = "audit"
    params = AuditParams
    inputs = (
        Slot(
            "policy", ("model", "adapter"), required=False
        ),  # the SFT model; without it only the rows themselves speak
        Slot("train_data", ("dataset",)),
    )
    outputs = (Slot("audited", ("dataset",)), Slot("cleaned", ("dataset",)), Slot("report", ("report",)))
    engine = "swiftshell.engines.noise_audit:run"


STAGE = Audit()
