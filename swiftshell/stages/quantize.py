"""Quantize: nf4 or int8 weights, saved, reloaded and compared with the full-precision model (bitsandbytes)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from swiftshell.stages.base import Params, SimpleStage, Slot
from swiftshell.stages.shared import Dtype


class QuantizeParams(Params):
    """Method and gate. Gates left at None take the method's default (kto design notes: KLD and top-1, not perplexity)."""

    quantization: Literal["nf4", "int8"] = "nf4"
    double_quant: bool = True
    compute_dtype: Dtype = "auto"
    max_mean_kld: Annotated[float, Field(gt=0)] | None = None
    min_top1_agreement: Annotated[float, Field(gt=0, le=1)] | None = None
    probe_rows: Annotated[int, Field(ge=1)] = 32


class Quantize(SimpleStage):
    """Shrink the newest merged model."""

    name = "quantize"
    params = QuantizeParams
    inputs = (Slot("model", ("model",)), Slot("probe_data", ("dataset",), required=False))
    outputs = (Slot("model", ("quantized_model",)),)
    engine = "swiftshell.engines.bnb_quantize:run"
    distributions = ("torch", "transformers", "bitsandbytes")


STAGE = Quantize()
