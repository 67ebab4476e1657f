"""Fold an adapter into its base, save, reload, and compare with the adapter before calling it good."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from swiftshell.engines import quantization as quant
from swiftshell.engines.assemble import (
    DTYPES,
    add_adapters,
    context_length,
    forget,
    is_quantized,
    load_base,
    load_config,
    load_tokenizer,
    saved_dtype,
    stack_of,
    tokenizer_folder,
    trained_on,
    use_available_cores,
)
from swiftshell.engines.compare import Comparison, Recorded, probe_rows
from swiftshell.engines.loading import copy_tokenizer, tokenizer_hashes, weight_bytes
from swiftshell.errors import EXIT_NO_RESOURCES, Problem, fail
from swiftshell.stages.base import Context, Outcome, StepRequest, Stopped

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Limits:
    """How closely merged and adapter must agree in one precision.

    In float32 the two differ by rounding in the order of operations only. In 16 bits the sum of weight and update is
    rounded once more, so a logit moves by a few units in its last place (about 0.06 at a logit of 16 in bfloat16).
    """

    max_logit_diff: float
    max_mean_kld: float
    min_top1_agreement: float


LIMITS = {
    "float32": Limits(max_logit_diff=1e-2, max_mean_kld=1e-5, min_top1_agreement=0.999),
    "bfloat16": Limits(max_logit_diff=1.0, max_mean_kld=5e-3, min_top1_agreement=0.97),
    "float16": Limits(max_logit_diff=0.2, max_mean_kld=1e-3, min_top1_agreement=0.99),
}


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Merge the `adapter` slot's stack into one model."""
    use_available_cores()
    ref, params = request.input("adapter"), request.params
    record: Mapping[str, Any] = ref.artifact or {}
    stack = stack_of(record, ref.path)
    base = Path(stack[0]["path"])
    _refuse_what_cannot_merge(base, stack)
    dtype = saved_dtype(base) if params.dtype == "auto" else params.dtype
    _need_disk(ctx.out, base, dtype)
    tokenizer = load_tokenizer(stack)
    ctx.phase("loading")
    model = load_base(base, dtype)
    rows = probe_rows(tokenizer, record, params.probe_rows, context_length(model))
    recorded = _Probes(ctx, rows)
    plain = recorded.of(model, "base")
    model = add_adapters(model, stack, quantized=trained_on(record) != "none")
    adapter = recorded.of(model, "adapter")
    _continue_or_stop(ctx)
    ctx.phase("merging")
    merged = _merge(model, lambda done, total: ctx.progress(done, total, "modules"))
    folder = ctx.out / "model"
    untied = _save(merged, folder, base, stack, params.max_shard_size, ctx)
    del model
    forget(merged)
    _continue_or_stop(ctx)
    ctx.phase("verifying")
    reloaded = load_base(folder, dtype)
    after = recorded.of(reloaded, "merged")
    forget(reloaded)
    equal, effect, left = (adapter.compared_with(after), plain.compared_with(adapter), plain.compared_with(after))
    gate = _judge(equal, effect, left, _limits(params, dtype), dtype, tokenizer_folder(stack), folder, ctx)
    facts = {"kind": "model", "dtype": dtype, "source": record.get("source"), "merged_from": record.get("id"),
             "stack": [{"kind": "model", "path": "."}], "reference": record.get("reference"),
             "probe": None if gate else record.get("probe"),  # it answers like the adapter: the same numbers hold
             "verified": {"merged_against_adapter": equal.as_json(), "adapter_against_base": effect.as_json()},
             **tokenizer_hashes(folder, tokenizer)}
    summary: dict[str, Any] = {"dtype": dtype, "untied": untied, "merged_against_adapter": equal.as_json(),
                               "adapter_against_base": effect.as_json(), "probe_rows": len(rows)}
    if trained_on(record) != "none":
        summary["quantized_base"] = _told_apart_from_training(record, stack, base, dtype, recorded, after, ctx)
    metrics = {"max_logit_diff": equal.max_logit_diff, "mean_kld": equal.mean_kld,
               "top1_agreement": equal.top1_agreement, "adapter_max_logit_diff": effect.max_logit_diff}
    return Outcome({"model": {k: v for k, v in facts.items() if v is not None}}, metrics, summary, gate)


class _Probes:
    """Record models on the probe texts, with progress."""

    def __init__(self, ctx: Context, rows: list[list[int]]) -> None:
        self._ctx, self._rows = ctx, rows

    def of(self, model: Any, name: str) -> Recorded:
        self._ctx.phase("comparing")
        recorded = Recorded(self._ctx.work, name, self._rows)
        return recorded.record(model, lambda done: self._ctx.progress(done, len(self._rows), "rows"))


def _continue_or_stop(ctx: Context) -> None:
    if ctx.stop_requested():
        raise Stopped


def _refuse_what_cannot_merge(base: Path, stack: list[dict[str, Any]]) -> None:
    if not any(entry["kind"] == "adapter" for entry in stack):
        raise fail("merge.no_adapter", file=stack[-1]["path"], path=stack[-1]["path"])
    if is_quantized(base):
        raise fail("merge.quantized_base", file=str(base / "config.json"), base=str(base))


def _need_disk(out: Path, base: Path, dtype: str) -> None:
    """Refuse before any work when the merged weights cannot fit on the disk."""
    needed = weight_bytes(base) * _BYTES[dtype] / _BYTES[saved_dtype(base)] * 1.05 + (64 << 20)
    free = shutil.disk_usage(out).free
    if free < needed:
        raise fail("merge.disk_full", exit_code=EXIT_NO_RESOURCES, file=str(out), needed_gib=round(needed / 2**30, 2),
                   free_gib=round(free / 2**30, 2))


def _merge(model: Any, tell: Callable[[int, int], None]) -> Any:
    """Fold the last adapter in, module by module; values that are not finite are refused by PEFT."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    for number, layer in enumerate(layers):
        layer.merge = _counted(layer.merge, partial(tell, number + 1, len(layers)))
    try:
        return model.merge_and_unload(safe_merge=True)
    except ValueError as error:
        raise fail("merge.not_finite", reason=" ".join(str(error).split())[:300], exit_code=3) from error


def _counted(function: Callable[..., Any], after: Callable[[], Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        after()
        return result

    return call


def _save(merged: Any, folder: Path, base: Path, stack: list[dict[str, Any]], shard: str, ctx: Context) -> bool:
    """Write weights, configs and tokenizer; return whether input and output embeddings are stored apart from now on."""
    ctx.phase("saving")
    # PEFT unties them when an adapter changed only one of the two: a tied config would drop one on reload.
    untied = _tied(load_config(base)) and not _tied(merged.config)
    if untied:
        ctx.note("merge.untied")
    merged.save_pretrained(folder, max_shard_size=shard)
    if (base / "generation_config.json").is_file():  # as the base has it: saving again can drop what it does not know
        shutil.copyfile(base / "generation_config.json", folder / "generation_config.json")
    copy_tokenizer(tokenizer_folder(stack), folder)
    return untied


def _tied(config: Any) -> bool:
    return bool(getattr(config.get_text_config(), "tie_word_embeddings", False))


def _limits(params: Any, dtype: str) -> Limits:
    usual = LIMITS[dtype]
    return Limits(params.max_logit_diff or usual.max_logit_diff, usual.max_mean_kld,
                  params.min_top1_agreement or usual.min_top1_agreement)


def _judge(equal: Comparison, effect: Comparison, left: Comparison, limits: Limits, dtype: str, tokenizer_from: Path,
           folder: Path, ctx: Context) -> list[Problem]:
    """Return the problems that make the merged model unfit.

    Args:
        equal: adapter against merged.
        effect: base against adapter: what the adapter does at all.
        left: base against merged: what is left of it after merging.
        limits: how far `equal` may go.
        dtype: precision of the merged weights.
        tokenizer_from: folder whose tokenizer files must have arrived unchanged.
        folder: the merged model.
        ctx: for notes.
    """
    problems = []
    values = {"found": f"{equal.max_logit_diff:.3g}", "limit": f"{limits.max_logit_diff:.3g}",
              "top1": f"{equal.top1_agreement:.4f}", "top1_limit": f"{limits.min_top1_agreement:.4f}",
              "kld": f"{equal.mean_kld:.3g}", "kld_limit": f"{limits.max_mean_kld:.3g}", "dtype": dtype}
    too_far = (not equal.max_logit_diff <= limits.max_logit_diff or not equal.mean_kld <= limits.max_mean_kld
               or equal.top1_agreement < limits.min_top1_agreement)
    if too_far:
        problems.append(Problem("merge.not_equal", values))
    elif effect.max_logit_diff == 0:
        ctx.note("merge.no_effect")
    elif left.mean_kld < 0.5 * effect.mean_kld:
        # Every limit held, yet most of what the adapter does is gone: its effect is below the precision's rounding,
        # or it was not merged at all.
        problems.append(Problem("merge.effect_lost", {"effect": f"{effect.mean_kld:.3g}", "left": f"{left.mean_kld:.3g}",
                                                      "dtype": dtype}))
    changed = [p.name for p in sorted(tokenizer_from.iterdir()) if (folder / p.name).is_file()
               and p.name.startswith(("token", "chat_template", "vocab", "merges", "special", "added"))
               and p.read_bytes() != (folder / p.name).read_bytes()]
    if changed:
        problems.append(Problem("merge.tokenizer_changed", {"files": ", ".join(changed)}))
    return problems


def _told_apart_from_training(record: Mapping[str, Any], stack: list[dict[str, Any]], base: Path, dtype: str,
                              probes: _Probes, after: Recorded, ctx: Context) -> dict[str, Any]:
    """Measure what an adapter trained on a quantized base loses or gains on the full-precision one, and say so."""
    method = trained_on(record)
    ctx.phase("loading")
    model = add_adapters(load_base(base, dtype, quantization=quant.config(method, DTYPES[dtype])), stack, quantized=True)
    trained = probes.of(model, "trained")
    forget(model)
    found = trained.compared_with(after)
    ctx.note("merge.trained_quantized", method=method, dtype=dtype, kld=f"{found.mean_kld:.3g}",
             top1=f"{found.top1_agreement:.3f}", diff=f"{found.max_logit_diff:.3g}")
    return {"method": method, **found.as_json()}
