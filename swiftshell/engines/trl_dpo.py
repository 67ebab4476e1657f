"""DPO with TRL's DPOTrainer: pairs in, the policy (often KTO's) moved further, still against the fixed SFT model."""

from __future__ import annotations

from typing import Any

from swiftshell.engines import arguments, loading, preference, quantization, references, rows, training
from swiftshell.engines.loading import Precision, Stack
from swiftshell.engines.rows import Reading
from swiftshell.stages.base import Context, Outcome, StepRequest


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Train on pairs against the SFT model; refuse any other reference before the first step."""
    params = request.params
    arguments.refuse_impossible(request)
    training.start(ctx)
    policy, reference = (loading.stack_of(request.input(slot)) for slot in ("policy", "reference"))
    tokenizer = loading.load_tokenizer(policy.tokenizer_folder)
    limit, context = loading.length_limit(params.max_length, policy.base)
    reading = Reading("dpo", tokenizer, limit, context, params.drop_budget)
    data = rows.prepare(request.input("train_data"), reading, ctx)
    evaluation = (
        rows.prepare(request.input("eval_data"), reading, ctx) if request.inputs.get("eval_data") else None
    )

    training.phase(ctx, "loading")
    with quantization.hidden_unless(quantization.needs_bitsandbytes(params.quantization, params.optim)):
        from trl import DPOTrainer
    training.quiet_libraries()
    precision = loading.choose_precision(params, policy.base)
    args = _arguments(request, ctx, precision, policy, limit, evaluates=evaluation is not None)
    models = references.build(policy, reference, params, precision)
    preference.tell_choices(policy, reference, models, params, tokenizer, ctx)
    expected = preference.expectation(policy, reference, models, data.examples, params, precision, ctx)
    proof = preference.ReferenceProof(expected, data.examples, models, precision)
    trainer = DPOTrainer(
        model=models.model,
        ref_model=models.ref_model,
        args=args,
        processing_class=tokenizer,
        train_dataset=training.data_set([e.data for e in data.examples]),
        eval_dataset=training.data_set([e.data for e in evaluation.examples]) if evaluation else None,
        peft_config=models.peft_config,
    )
    rows.check_agreement(
        data.examples, trainer.train_dataset, lambda r: r["prompt_ids"] + r["chosen_ids"] + r["rejected_ids"]
    )
    preference.attach(trainer, proof, models, request, ctx)
    training.train(trainer, request, ctx)

    slot, _ = training.save(trainer, request, ctx, policy)
    summary = {
        "pairs": len(data.examples),
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


def _arguments(
    request: StepRequest, ctx: Context, precision: Precision, policy: Stack, limit: int, *, evaluates: bool
) -> Any:
    from trl import DPOConfig

    params = request.params
    return arguments.make(
        DPOConfig,
        request,
        ctx,
        precision,
        limit_tokens=limit,
        weight_bytes=loading.weight_bytes(policy.base),
        evaluates=evaluates,
        beta=params.beta,
        loss_type=[params.loss_type],
        label_smoothing=params.label_smoothing,
        precompute_ref_log_probs=params.precompute_ref_log_probs,
    )
