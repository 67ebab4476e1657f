"""KTO with TRL's KTOTrainer: single thumbs in, a policy moved away from the fixed SFT model out."""

from __future__ import annotations

from typing import Any

from swiftshell.engines import arguments, kto_rows, loading, preference, rows, training
from swiftshell.engines.kto_rows import Arranged
from swiftshell.engines.loading import Precision
from swiftshell.engines.preference import Opened
from swiftshell.engines.rows import Example, Prepared
from swiftshell.stages.base import Context, Outcome, StepRequest


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Train on thumbs against the SFT model; refuse any other reference before the first step."""
    arguments.refuse_impossible(request)
    training.start(ctx)
    opened = preference.open_step(request, "kto")
    data, arranged = _rows("train_data", opened, request, ctx)
    evaluation = _rows("eval_data", opened, request, ctx)[1] if request.inputs.get("eval_data") else None
    counts = kto_rows.class_counts(
        [e.data["label"] for e in arranged.rows], str(request.input("train_data").path)
    )
    weights = kto_rows.weights(*counts, request.params.desirable_weight, request.params.undesirable_weight)

    training.phase(ctx, "loading")
    training.load_libraries(request.params)
    from trl import KTOTrainer

    precision = loading.choose_precision(request.params, opened.policy.base)
    args = _arguments(request, ctx, precision, opened, weights, evaluates=evaluation is not None)
    ready = preference.make_ready(opened, precision, data, arranged.rows, request, ctx)
    trainer = KTOTrainer(
        model=ready.models.model,
        ref_model=ready.models.ref_model,
        args=args,
        processing_class=opened.reading.tokenizer,
        train_dataset=training.data_set([e.data for e in arranged.rows]),
        eval_dataset=training.data_set([e.data for e in evaluation.rows]) if evaluation else None,
        peft_config=ready.models.peft_config,
    )
    rows.check_agreement(
        arranged.rows, trainer.train_dataset, lambda r: r["prompt_ids"] + r["completion_ids"]
    )
    summary = {
        "desirable": counts[0],
        "undesirable": counts[1],
        "rows_repeated": arranged.repeated,
        "one_sided_batches": arranged.one_sided,
        "desirable_weight": weights[0],
        "undesirable_weight": weights[1],
    }
    return preference.finish(trainer, request, ctx, ready, data, summary)


def _rows(slot: str, opened: Opened, request: StepRequest, ctx: Context) -> tuple[Prepared, Arranged]:
    data = rows.prepare(request.input(slot), opened.reading, ctx)
    return data, _arrange(data.examples, request, ctx)


def _arrange(examples: list[Example], request: StepRequest, ctx: Context) -> Arranged:
    batch = request.params.per_device_train_batch_size
    arranged = kto_rows.arrange(examples, [e.data["label"] for e in examples], batch, request.seed)
    if arranged.repeated:
        ctx.note("train.rows_repeated", count=arranged.repeated, batch=batch, total=len(examples))
    if arranged.one_sided:
        ctx.note("train.one_sided_batches", count=arranged.one_sided, batches=len(arranged.rows) // batch)
    return arranged


def _arguments(
    request: StepRequest,
    ctx: Context,
    precision: Precision,
    opened: Opened,
    weights: tuple[float, float],
    *,
    evaluates: bool,
) -> Any:
    from trl import KTOConfig

    params = request.params
    return arguments.make(
        KTOConfig,
        request,
        ctx,
        precision,
        limit_tokens=opened.reading.limit_tokens,
        weight_bytes=loading.weight_bytes(opened.policy.base),
        evaluates=evaluates,
        beta=params.beta,
        loss_type=params.loss_type,
        desirable_weight=weights[0],
        undesirable_weight=weights[1],
        precompute_ref_log_probs=params.precompute_ref_log_probs,
        train_sampling_strategy="sequential",
        dataloader_drop_last=True,
    )
