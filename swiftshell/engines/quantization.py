"""Load weights in 4 or 8 bits, and keep bitsandbytes right on CPUs that it gets wrong."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def guard_cpu_kernels() -> bool:
    """Switch off bitsandbytes' AVX512-BF16 weight packing; return whether it would have been used.

    bitsandbytes 0.50.2 repacks nf4 weights in place during the first forward in evaluation mode on CPUs with
    AVX512-BF16. The packed layout has no backward: the next training step crashes or, worse, computes wrong gradients
    without a word. Call it before any quantized model is loaded. It can go when upstream undoes packing, or refuses it,
    in training mode.
    """
    import bitsandbytes.nn.modules as modules
    import torch

    packs = bool(modules.has_avx512bf16())
    if not torch.cuda.is_available():
        modules.has_avx512bf16 = lambda: False
    return packs and not torch.cuda.is_available()


def config(method: str, compute_dtype: Any, *, double_quant: bool = True) -> Any | None:
    """Return the BitsAndBytesConfig of a method (`nf4`, `int8`), or None for `none`."""
    if method == "none":
        return None
    from transformers import BitsAndBytesConfig

    guard_cpu_kernels()
    if method == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=double_quant,
        bnb_4bit_compute_dtype=compute_dtype,
    )


@contextmanager
def hidden_unless(needed: bool) -> Iterator[None]:
    """Import PEFT and TRL without bitsandbytes unless it is needed: about a second less at every start.

    PEFT imports bitsandbytes whenever it is installed. A module set to None counts as not installed; a process that has
    loaded either library already is left as it is.
    """
    hide = not needed and not {"bitsandbytes", "peft"} & sys.modules.keys() and _installed("bitsandbytes")
    if hide:
        sys.modules["bitsandbytes"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules["bitsandbytes"]


def needs_bitsandbytes(quantization: str, optim: str) -> bool:
    """Tell whether a step uses bitsandbytes: for its weights or for its optimizer."""
    return quantization != "none" or "8bit" in optim or "bnb" in optim or optim.startswith("paged")


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
