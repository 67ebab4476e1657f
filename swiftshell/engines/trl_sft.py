"""SFT with TRL's SFTTrainer: demonstrations in, an adapter (or a whole model) out."""

from __future__ import annotations

from typing import Any

from swiftshell.engines import arguments, loading, packing, probe, rows, training, vision
from swiftshell.engines.loading import Precision, Stack
from swiftshell.engines.rows import Prepared, Reading
from swiftshell.errors import fail
from swiftshell.stages.base import Context, Outcome, StepRequest


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Train on demonstrations and record what the trained model says about a few fixed rows."""
    params = request.params
    arguments.refuse_impossible(request)
    training.start(ctx)
    policy = loading.stack_of(request.input("policy"))
    if params.tuning == "full" and policy.adapter is not None:
        raise fail("train.full_needs_model", file=str(policy.adapter))
    tokenizer = loading.load_tokenizer(policy.tokenizer_folder)
    limit, context = loading.length_limit(params.max_length, policy.base)
    reading = Reading(
        "sft", tokenizer, limit, context, params.drop_budget, params.assistant_only_loss, params.splits_rows,
        eyes=vision.load_eyes(policy.base, tokenizer),
    )
    data = rows.prepare(request.input("train_data"), reading, ctx)
    evaluation = (
        rows.prepare(request.input("eval_data"), reading.beside(data), ctx) if request.inputs.get("eval_data") else None
    )

    vision.refuse_impossible(params, data)
    training.phase(ctx, "loading")
    training.load_libraries(params)
    from trl import SFTTrainer

    precision = loading.choose_precision(params, policy.base)
    args = _arguments(request, ctx, precision, policy, limit, data, evaluation)
    model = loading.load_stack(policy, precision, trainable=True)
    fresh_lora = params.tuning == "lora" and policy.adapter is None
    probe_rows = probe.choose_rows(data.examples, params.probe_rows, reading.eyes)
    if params.flattened:
        packing.prove_apart(model, data.examples, precision)
    before = None if params.tuning == "lora" else probe.independent_logps(model, probe_rows, precision)
    trainer = SFTTrainer(
        model=model,
        args=args,
        processing_class=reading.processing_class(data),
        train_dataset=training.data_set([e.data for e in data.examples]),
        eval_dataset=training.data_set([e.data for e in evaluation.examples]) if evaluation else None,
        peft_config=loading.lora_config(params.lora, model) if fresh_lora else None,
    )
    packed = packing.check(data.examples, trainer.train_dataset, params, limit, ctx)
    if data.pictures:
        vision.check_agreement(data.examples, trainer.data_collator)
    vision.tell(reading.eyes, params, ctx)
    _finish_weights(trainer, policy, params)
    _attach(trainer, ctx)
    training.train(trainer, request, ctx)

    slot = training.save(trainer, request, ctx, policy)
    record = training.own_probe(trainer, probe_rows, precision, base_logps=before)
    training.warn_if_probe_is_weak(record, precision, ctx)
    summary = {"assistant_only_loss": data.assistant_only_loss, "chat": data.chat, "max_length": limit, **packed}
    return training.outcome(trainer, slot, policy, tokenizer, precision, data, summary, probe=record)


def _arguments(
    request: StepRequest,
    ctx: Context,
    precision: Precision,
    policy: Stack,
    limit: int,
    data: Prepared,
    evaluation: Prepared | None,
) -> Any:
    from trl import SFTConfig

    split = "prompt" in data.examples[0].data
    # TRL holds no limit without padding unless it packs, and wants to hear none; the rows have been held to it already.
    whole: dict[str, Any] = {} if request.params.packing or not request.params.padding_free else {"max_length": None}
    return arguments.make(
        SFTConfig,
        request,
        ctx,
        precision,
        limit_tokens=limit,
        weight_bytes=loading.weight_bytes(policy.base),
        evaluates=evaluation is not None,
        pictures=data.pictures,
        packing=request.params.packing,
        packing_strategy=request.params.packing_strategy,
        padding_free=request.params.padding_free,
        assistant_only_loss=data.assistant_only_loss,
        completion_only_loss=request.params.completion_only_loss if split else None,
        **whole,
    )


def _finish_weights(trainer: Any, policy: Stack, params: Any) -> None:
    """Undo TRL's cast to bfloat16 on a quantized base; weights that were loaded are loaded again, unrounded."""
    if params.tuning == "lora" and params.quantization != "none":
        loading.trainables_to_float32(trainer.model)
        if policy.adapter is not None:
            loading.restore_adapter(trainer.model, policy.adapter)


def _attach(trainer: Any, ctx: Context) -> None:
    from swiftshell.engines.callbacks import ShellCallback

    trainer.add_callback(ShellCallback(ctx))
