"""KTO with TRL's KTOTrainer: single thumbs in, a policy moved away from the fixed SFT model out."""

from __future__ import annotations

from typing import Any

from swiftshell.engines import (
    arguments,
    kto_rows,
    loading,
    preference,
    quantization,
    references,
    rows,
    training,
)
from swiftshell.engines.kto_rows import Arranged
from swiftshell.engines.loading import Precision, Stack
from swiftshell.engines.rows import Example, Reading
from swiftshell.stages.base import Context, Outcome, StepRequest


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Train on thumbs against the SFT model; refuse any other reference before the first step."""
    params = request.params
    arguments.refuse_impossible(request)
    training.start(ctx)
    policy, reference = (loading.stack_of(request.input(slot)) for slot in ("policy", "reference"))
    tokenizer = loading.load_tokenizer(policy.tokenizer_folder)
    limit, context = loading.length_limit(params.max_length, policy.base)
    reading = Reading("kto", tokenizer, limit, context, params.drop_budget)
    data = rows.prepare(request.input("train_data"), reading, ctx)
    kto_rows.class_counts([e.data["label"] for e in data.examples], str(request.input("train_data").path))
    arranged = _arrange(data.examples, request, ctx)
    evaluation = None
    if request.inputs.get("eval_data"):
        evaluation = _arrange(rows.prepare(request.input("eval_data"), reading, ctx).examples, request, ctx)

    training.phase(ctx, "loading")
    with quantization.hidden_unless(quantization.needs_bitsandbytes(params.quantization, params.optim)):
        from trl import KTOTrainer
    training.quiet_libraries()
    precision = loading.choose_precision(params, policy.base)
    counts = kto_rows.class_counts([e.data["label"] for e in arranged.rows], "")
    weights = kto_rows.weights(*counts, params.desirable_weight, params.undesirable_weight)
    args = _arguments(request, ctx, precision, policy, limit, weights, evaluates=evaluation is not None)
    models = references.build(policy, reference, params, precision)
    preference.tell_choices(policy, reference, models, params, tokenizer, ctx)
    expected = preference.expectation(policy, reference, models, data.examples, params, precision, ctx)
    proof = preference.ReferenceProof(expected, arranged.rows, models, precision)
    trainer = KTOTrainer(
        model=models.model,
        ref_model=models.ref_model,
        args=args,
        processing_class=tokenizer,
        train_dataset=training.data_set([e.data for e in arranged.rows]),
        eval_dataset=training.data_set([e.data for e in evaluation.rows]) if evaluation else None,
        peft_config=models.peft_config,
    )
    rows.check_agreement(
        arranged.rows, trainer.train_dataset, lambda r: r["prompt_ids"] + r["completion_ids"]
    )
    preference.attach(trainer, proof, models, request, ctx)
    training.train(trainer, request, ctx)

    slot, _ = training.save(trainer, request, ctx, policy)
    summary = {
        "desirable": counts[0],
        "undesirable": counts[1],
        "rows_repeated": arranged.repeated,
        "one_sided_batches": arranged.one_sided,
        "desirable_weight": weights[0],
        "undesirable_weight": weights[1],
        "reference": expected.name,
        "reference_kept_as": models.mode,
        "reference_difference": proof.difference,
        "reference_logps": proof.found,
    }
    return training.outcome(
        trainer,
        slot,
        policy,
        tokenizer,
        precision,
        data,
        summary,
        reference=preference.reference_record(reference, expected, precision),
        probe=training.own_probe(trainer, expected.rows, precision),
    )


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
    policy: Stack,
    limit: int,
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
        limit_tokens=limit,
        weight_bytes=loading.weight_bytes(policy.base),
        evaluates=evaluates,
        beta=params.beta,
        loss_type=params.loss_type,
        desirable_weight=weights[0],
        undesirable_weight=weights[1],
        precompute_ref_log_probs=params.precompute_ref_log_probs,
        train_sampling_strategy="sequential",
        dataloader_drop_last=True,
    )
