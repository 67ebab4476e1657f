"""The kinds of artifacts. Apart from `base`, so that the board can be drawn without loading pydantic."""

from __future__ import annotations

from typing import Literal

Kind = Literal["model", "adapter", "quantized_model", "dataset", "answers", "report", "note"]
MODEL_KINDS: tuple[Kind, ...] = ("model", "adapter", "quantized_model")
