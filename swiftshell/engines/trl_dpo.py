"""DPO with TRL's DPOTrainer: pairs in, the policy (often KTO's) moved further, still against the fixed SFT model."""

from __future__ import annotations

import math
from typing import Any

from swiftshell.engines import arguments, loading, preference, reference_cache, rows, training, watch
from swiftshell.engines.loading import Precision
from swiftshell.engines.preference import Opened
from swiftshell.stages.base import Context, Outcome, StepRequest


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Train on pairs against the SFT model; refuse any other reference before the first step."""
    arguments.refuse_impossible(request)
    training.start(ctx)
    opened = preference.open_step(request, "dpo")
    data = rows.prepare(request.input("train_data"), opened.reading, ctx)
    evaluation = (
        rows.prepare(request.input("eval_data"), opened.reading.beside(data), ctx)
        if request.inputs.get("eval_data")
        else None
    )

    training.phase(ctx, "loading")
    training.load_libraries(request.params)
    from trl import DPOTrainer

    precision = loading.choose_precision(request.params, opened.policy.base)
    args = _arguments(request, ctx, precision, opened, evaluates=evaluation is not None, pictures=data.pictures)
    ready = preference.make_ready(opened, precision, data, data.examples, request, ctx)
    trainer = DPOTrainer(
        model=ready.models.model,
        ref_model=ready.models.ref_model,
        args=args,
        processing_class=opened.reading.processing_class(data),
        train_dataset=training.data_set([e.data for e in data.examples]),
        eval_dataset=training.data_set([e.data for e in evaluation.examples]) if evaluation else None,
        peft_config=ready.models.peft_config,
    )
    rows.check_agreement(
        data.examples, trainer.train_dataset, lambda r: r["prompt_ids"] + r["chosen_ids"] + r["rejected_ids"]
    )
    held = evaluation.examples if evaluation else []
    # The sigmoid's loss of a policy that equals the reference; other losses have other units.
    untrained = math.log(2) if request.params.loss_type in ("sigmoid", ["sigmoid"]) else None
    about = watch.circumstances(request, data.examples, held, untrained_loss=untrained)
    asked = reference_cache.attach(trainer, opened.reference, precision, request, ctx)
    summary = {"pairs": len(data.examples), **asked}
    return preference.finish(trainer, request, ctx, ready, data, summary, evaluation=held, about=about)


def _arguments(
    request: StepRequest, ctx: Context, precision: Precision, opened: Opened, *, evaluates: bool, pictures: bool
) -> Any:
    from trl import DPOConfig

    params = request.params
    return arguments.make(
        DPOConfig,
        request,
        ctx,
        precision,
        limit_tokens=opened.reading.limit_tokens,
        weight_bytes=loading.weight_bytes(opened.policy.base),
        evaluates=evaluates,
        pictures=pictures,
        beta=params.beta,
        loss_type=params.losses,
        loss_weights=params.loss_weights,
        label_smoothing=params.label_smoothing,
        precompute_ref_log_probs=False,  # reference_cache does it, once for all runs
    )
