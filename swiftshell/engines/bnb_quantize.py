"""Quantize a full model with bitsandbytes, save, reload, and compare with full precision before calling it good."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.data.load import load_input
from swiftshell.engines import quantization as quant
from swiftshell.engines.assemble import (
    DTYPES,
    context_length,
    forget,
    is_quantized,
    load_base,
    load_tokenizer,
    saved_dtype,
    stack_of,
    use_available_cores,
)
from swiftshell.engines.compare import Comparison, Recorded, data_rows, probe_rows
from swiftshell.engines.heldout import heldout_row
from swiftshell.engines.loading import copy_tokenizer, tokenizer_hashes, weight_bytes
from swiftshell.engines.metrics import wilson
from swiftshell.errors import EXIT_NO_RESOURCES, Problem, fail
from swiftshell.stages.base import Context, Outcome, StepRequest, Stopped

_FEW_TOKENS = 200  # below this one token is half a percent of the agreement
_SAME_AFTER_RELOAD_KLD = 1e-3  # double quantization rounds its own constants, so not exactly 0


@dataclass(frozen=True)
class Limits:
    """How far a quantized model may be from the full one: mean KL divergence (nats per token), top-1 agreement.

    Perplexity is shown but never a limit: a coarser model can have the better one.
    """

    max_mean_kld: float
    min_top1_agreement: float


# Published 8-bit formats lie around 0.001 to 0.006 nats and 96 to 98 %, 4-bit ones around 0.03 to 0.07 and 90 to 92 %.
LIMITS = {"int8": Limits(0.01, 0.97), "nf4": Limits(0.05, 0.90)}


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Quantize the `model` slot's model."""
    use_available_cores()
    ref, params = request.input("model"), request.params
    record: Mapping[str, Any] = ref.artifact or {}
    source = Path(stack_of(record, ref.path)[-1]["path"])
    if is_quantized(source):
        raise fail("quantize.already", file=str(source / "config.json"), path=str(source))
    _need_disk(ctx.out, source)
    dtype = saved_dtype(source) if params.compute_dtype == "auto" else params.compute_dtype
    tokenizer = load_tokenizer([{"kind": "model", "path": str(source)}])
    ctx.phase("loading")
    full = load_base(source, dtype)
    rows = _rows(request, tokenizer, record, context_length(full))
    if sum(map(len, rows)) < _FEW_TOKENS:
        ctx.note("quantize.few_probe_rows", rows=len(rows), tokens=sum(map(len, rows)))
    before = _recorded(full, "full", rows, ctx)
    del full
    forget()
    ctx.phase("quantizing")
    settings = quant.config(params.quantization, DTYPES[dtype], double_quant=params.double_quant)
    model = load_base(source, dtype, quantization=settings)
    in_memory = _recorded(model, "quantized", rows, ctx)
    folder = ctx.out / "model"
    _save(model, folder, source, ctx)
    del model
    forget()
    ctx.phase("verifying")
    reloaded = load_base(folder, dtype)
    layers = _quantized_layers(reloaded, params.quantization)
    after = _recorded(reloaded, "reloaded", rows, ctx)
    del reloaded
    forget()
    found, reload = before.compared_with(after), in_memory.compared_with(after)
    sizes = weight_bytes(folder), weight_bytes(source)
    gate = [*_is_quantized(folder, params.quantization, layers, *sizes), *_close_enough(found, reload, params)]
    facts = {"kind": "quantized_model", "dtype": dtype, "quantization": params.quantization,
             "double_quant": params.double_quant and params.quantization == "nf4", "source": record.get("source"),
             "reference": record.get("reference"), "stack": [{"kind": "quantized_model", "path": "."}],
             "quantized_from": record.get("id"), "verified": {"full_against_quantized": found.as_json()},
             **tokenizer_hashes(folder, tokenizer)}
    summary = {"quantization": params.quantization, "layers": layers, "saved_bytes": sizes[0], "full_bytes": sizes[1],
               "full_against_quantized": found.as_json(), "memory_against_reloaded": reload.as_json(),
               "probe_rows": len(rows)}
    metrics = {"mean_kld": found.mean_kld, "top1_agreement": found.top1_agreement,
               "perplexity_ratio": found.perplexity_ratio, "max_logit_diff": found.max_logit_diff,
               "size_fraction": sizes[0] / max(1, sizes[1])}
    return Outcome({"model": {k: v for k, v in facts.items() if v is not None}}, metrics, summary, gate)


def _need_disk(out: Path, source: Path) -> None:
    needed, free = weight_bytes(source) * 0.8 + (64 << 20), shutil.disk_usage(out).free
    if free < needed:
        raise fail("quantize.disk_full", exit_code=EXIT_NO_RESOURCES, file=str(out),
                   needed_gib=round(needed / 2**30, 2), free_gib=round(free / 2**30, 2))


def _rows(request: StepRequest, tokenizer: Any, record: Mapping[str, Any], context: int) -> list[list[int]]:
    """Return the probe texts: rows of `probe_data`, spread evenly, else what the record knows and the built-in ones."""
    count = request.params.probe_rows
    if "probe_data" not in request.inputs:
        return probe_rows(tokenizer, record, count, context)
    loaded, _ = load_input(request.input("probe_data"), "heldout")
    picked = [loaded[i * len(loaded) // count] for i in range(count)] if len(loaded) > count else loaded
    return data_rows(tokenizer, [heldout_row(r.number, r.line, r.data, r.file) for r in picked], context)


def _recorded(model: Any, name: str, rows: list[list[int]], ctx: Context) -> Recorded:
    if ctx.stop_requested():
        raise Stopped
    ctx.phase("comparing")
    return Recorded(ctx.work, name, rows).record(model, lambda done: ctx.progress(done, len(rows), "rows"))


def _save(model: Any, folder: Path, source: Path, ctx: Context) -> None:
    ctx.phase("saving")
    model.save_pretrained(folder)
    if (source / "generation_config.json").is_file():
        shutil.copyfile(source / "generation_config.json", folder / "generation_config.json")
    copy_tokenizer(source, folder)


def _quantized_layers(model: Any, method: str) -> int:
    """Count the linear layers that really hold quantized weights."""
    import bitsandbytes as bnb

    kind = bnb.nn.Linear4bit if method == "nf4" else bnb.nn.Linear8bitLt
    return sum(isinstance(module, kind) and module.weight.dtype.itemsize == 1 for module in model.modules())


def _is_quantized(folder: Path, method: str, layers: int, saved: int, full: int) -> list[Problem]:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("quantization_config") or {}
    declared = config.get("load_in_4bit") if method == "nf4" else config.get("load_in_8bit")
    if layers and saved < full and declared:
        return []
    return [Problem("quantize.not_quantized", {"method": method, "layers": layers, "saved_mib": round(saved / 2**20, 1),
                                               "full_mib": round(full / 2**20, 1)}, file=str(folder))]


def _close_enough(found: Comparison, reload: Comparison, params: Any) -> list[Problem]:
    usual, problems = LIMITS[params.quantization], []
    kld = params.max_mean_kld or usual.max_mean_kld
    top1 = params.min_top1_agreement or usual.min_top1_agreement
    # The agreement is a count over few tokens: it fails only if even its 95 % interval lies below the limit.
    _, at_most = wilson(found.top1_agreement * found.tokens, found.tokens)
    if not found.mean_kld <= kld or at_most < top1:
        problems.append(Problem("quantize.too_far", {
            "method": params.quantization, "kld": f"{found.mean_kld:.3g}", "kld_limit": f"{kld:.3g}",
            "top1": f"{found.top1_agreement:.3f}", "top1_limit": f"{top1:.3f}", "tokens": found.tokens}))
    if not reload.mean_kld <= _SAME_AFTER_RELOAD_KLD:
        problems.append(Problem("quantize.reload_differs", {
            "method": params.quantization, "kld": f"{reload.mean_kld:.3g}", "limit": f"{_SAME_AFTER_RELOAD_KLD:.3g}"}))
    return problems
