"""KTO with TRL's KTOTrainer: single thumbs in, a policy moved away from the fixed SFT model out."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from swiftshell.engines import (
    arguments,
    kto_batches,
    kto_labels,
    loading,
    preference,
    reference_cache,
    rounds,
    rows,
    training,
    watch,
)
from swiftshell.engines.kto_batches import Arranged
from swiftshell.engines.loading import Precision
from swiftshell.engines.preference import Opened
from swiftshell.engines.rows import Example, Prepared
from swiftshell.stages.base import Context, Outcome, StepRequest


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Train on thumbs against the SFT model; refuse any other reference before the first step."""
    arguments.refuse_impossible(request)
    training.start(ctx)
    opened = preference.open_step(request, "kto")
    data = rows.prepare(request.input("train_data"), opened.reading, ctx)
    data, replay = rounds.with_replay(data, request, opened.reading, ctx)
    labelled = kto_labels.read(data.examples, request.params, str(request.input("train_data").path))
    labelled.tell(ctx)
    arranged = _arrange(labelled.examples, request, ctx)
    evaluation = _evaluation(opened, data, request, ctx)
    order = _whole_order(arranged, request)

    training.phase(ctx, "loading")
    training.load_libraries(request.params)
    from swiftshell.engines.guarded import Guarded
    from swiftshell.engines.kto_trainer import WeightedKTOTrainer

    precision = loading.choose_precision(request.params, opened.policy.base)
    args = _arguments(request, ctx, precision, opened, labelled, steps=_steps(order, request), evaluates=bool(evaluation),
                      pictures=data.pictures)
    ready = preference.make_ready(opened, precision, data, arranged.rows, request, ctx)
    trainer = WeightedKTOTrainer(
        model=ready.models.model,
        ref_model=ready.models.ref_model,
        args=args,
        processing_class=opened.reading.processing_class(data),
        train_dataset=training.data_set([e.data for e in arranged.rows]),
        eval_dataset=training.data_set([e.data for e in evaluation]) if evaluation else None,
        peft_config=ready.models.peft_config,
    )
    rows.check_agreement(
        arranged.rows, trainer.train_dataset, lambda r: r["prompt_ids"] + r["completion_ids"]
    )
    asked = reference_cache.attach(trainer, opened.reference, precision, request, ctx, used=order)
    trainer.train_dataset = _needed(trainer.train_dataset).select(order)
    summary = {
        **labelled.summary(),
        "rows_repeated": arranged.repeated,
        "one_sided_batches": arranged.one_sided,
        **_padding(arranged, request),
        **asked,
        "replay": replay.summary(),
    }
    about = watch.circumstances(
        request,
        data.examples,
        evaluation,
        untrained_loss=_untrained_loss(labelled),
        one_sided=arranged.one_sided,
        batches=len(arranged.rows) // request.params.per_device_train_batch_size,
    )
    guard = Guarded()
    outcome = preference.finish(
        trainer, request, ctx, ready, data, summary, guard.train, evaluation=evaluation, about=about
    )
    return guard.tell(outcome)


def _untrained_loss(labelled: kto_labels.Labelled) -> float:
    """Return the loss of a policy that equals the reference: every row's term is half its weight."""
    both = {True: labelled.desirable_weight, False: labelled.undesirable_weight}
    return 0.5 * fmean(e.data["weight"] * both[bool(e.data["label"])] for e in labelled.examples)


def _evaluation(opened: Opened, train: Prepared, request: StepRequest, ctx: Context) -> list[Example]:
    """Return the held-out rows in batches of the training's size; none without held-out data."""
    if not request.inputs.get("eval_data"):
        return []
    data: Prepared = rows.prepare(request.input("eval_data"), opened.reading.beside(train), ctx)
    return list(_arrange(kto_labels.held_out(data.examples), request, ctx).rows)


def _arrange(examples: list[Example], request: StepRequest, ctx: Context) -> Arranged:
    batch = request.params.per_device_train_batch_size
    arranged = kto_batches.arrange(
        examples,
        [e.data["label"] for e in examples],
        batch,
        request.seed,
        lengths=_lengths(examples) if request.params.batch_composition == "length" else None,
        texts=[(hash(e.asked), hash(e.answers[0])) for e in examples],
    )
    if arranged.repeated:
        ctx.note("train.rows_repeated", count=arranged.repeated, batch=batch, total=len(examples))
    if arranged.one_sided:
        ctx.note("train.one_sided_batches", count=arranged.one_sided, batches=len(arranged.rows) // batch)
    return arranged


def _lengths(examples: list[Example]) -> list[tuple[int, int]]:
    """Return the tokens of each row's prompt and answer."""
    return [(len(e.prompt_ids), len(e.answers[0])) for e in examples]


def _padding(arranged: Arranged, request: StepRequest) -> dict[str, float]:
    """Return how many tokens are computed for each real one, in the rows and in the KL sequences."""
    of_rows, of_kl = kto_batches.padding(_lengths(arranged.rows), request.params.per_device_train_batch_size)
    return {"padding": round(of_rows, 4), "kl_padding": round(of_kl, 4)}


def _whole_order(arranged: Arranged, request: StepRequest) -> list[int]:
    params = request.params
    return kto_batches.whole_order(
        len(arranged.rows),
        params.per_device_train_batch_size,
        params.gradient_accumulation_steps,
        params.num_train_epochs,
        params.max_steps,
        request.seed,
    )


def _steps(order: list[int], request: StepRequest) -> int:
    """Return the optimizer steps that an order takes, a last one of fewer batches included."""
    return -(-len(order) // (request.params.per_device_train_batch_size * request.params.gradient_accumulation_steps))


def _needed(data_set: Any) -> Any:
    """Drop the columns that no step reads: with `remove_unused_columns` off, each would be decoded for each batch."""
    kept = ("row", "prompt_ids", "completion_ids", "KL_completion_ids", "label", "weight", "ref_logps", "ref_KL_logps")
    return data_set.select_columns([c for c in data_set.column_names if c in kept])


def _arguments(
    request: StepRequest,
    ctx: Context,
    precision: Precision,
    opened: Opened,
    labelled: kto_labels.Labelled,
    *,
    steps: int,
    evaluates: bool,
    pictures: bool,
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
        pictures=pictures,
        beta=params.beta,
        loss_type=params.loss_type,
        desirable_weight=labelled.desirable_weight,
        undesirable_weight=labelled.undesirable_weight,
        precompute_ref_log_probs=False,  # reference_cache does it, once for all runs
        train_sampling_strategy="sequential",
        dataloader_drop_last=True,
        remove_unused_columns=False,  # the rows' weights are no argument of any model
        num_train_epochs=1.0,  # the order holds every epoch
        max_steps=steps,
    )
