"""What KTO and DPO do alike: the reference is set up, proven before the first step, and written down."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.data import vocabulary
from swiftshell.engines import loading, probe, references, training, vision
from swiftshell.engines.loading import Precision, Stack
from swiftshell.engines.references import Expectation, Models
from swiftshell.engines.rows import Example, Prepared, Reading
from swiftshell.engines.verdicts import Circumstances
from swiftshell.engines.watch import Watch
from swiftshell.errors import Problem, SwiftshellError, fail
from swiftshell.stages.base import Context, Outcome, StepRequest

_PRECOMPUTED = ("ref_logps", "ref_chosen_logps")  # TRL's columns of KTO and DPO
_PRECOMPUTED_ROWS, _NEAR_ROWS = 8, 64


@dataclass(frozen=True)
class Opened:
    """What is known before any weights load: which models, and how rows are read."""

    policy: Stack
    reference: Stack
    reading: Reading


def open_step(request: StepRequest, purpose: str) -> Opened:
    """Find policy and reference and the policy's tokenizer.

    Raises:
        SwiftshellError: one of them is not there or cannot be used.
    """
    policy, reference = (loading.stack_of(request.input(slot)) for slot in ("policy", "reference"))
    tokenizer = loading.load_tokenizer(policy.tokenizer_folder)
    _same_vocabulary(policy, reference, tokenizer)
    limit, context = loading.length_limit(request.params.max_length, policy.base)
    eyes = vision.load_eyes(policy.base, tokenizer)
    return Opened(
        policy, reference, Reading(purpose, tokenizer, limit, context, request.params.drop_budget, eyes=eyes)
    )


def _same_vocabulary(policy: Stack, reference: Stack, tokenizer: Any) -> None:
    """Hold the reference to the policy's numbers of tokens.

    Raises:
        SwiftshellError: it reads other texts from the same numbers.
    """
    if vocabulary.is_the_same_file(policy.tokenizer_folder, reference.tokenizer_folder):
        return
    theirs = loading.load_tokenizer(reference.tokenizer_folder).get_vocab()
    if (found := vocabulary.difference(tokenizer.get_vocab(), theirs)) is not None:
        names = {"policy": policy.name or str(policy.path), "reference": reference.name or str(reference.path)}
        raise SwiftshellError(Problem("thumbs.reference_tokenizer", {**names, **found.values()}))


@dataclass(frozen=True)
class Ready:
    """Loaded models and what the reference must say."""

    opened: Opened
    precision: Precision
    models: Models
    proof: ReferenceProof


def make_ready(
    opened: Opened,
    precision: Precision,
    data: Prepared,
    first: Sequence[Example],
    request: StepRequest,
    ctx: Context,
) -> Ready:
    """Load both models and find out what the reference must say; `first` are the rows in training order."""
    policy, reference, params = opened.policy, opened.reference, request.params
    models = references.build(policy, reference, params, precision)
    tell_choices(policy, reference, models, params, opened.reading.tokenizer, ctx)
    vision.tell(opened.reading.eyes, params, ctx)
    expected = expectation(
        policy, reference, models, data.examples, params, precision, ctx, opened.reading.eyes
    )
    return Ready(opened, precision, models, ReferenceProof(expected, first, models, precision))


Train = Callable[[Any, StepRequest, Context], None]


def finish(
    trainer: Any,
    request: StepRequest,
    ctx: Context,
    ready: Ready,
    data: Prepared,
    summary: Mapping[str, Any],
    train: Train = training.train,
    *,
    evaluation: Sequence[Example],
    about: Circumstances,
) -> Outcome:
    """Train with the proof before the first step and watched all along, save, and say what was made."""
    opened, proof = ready.opened, ready.proof
    attach(trainer, proof, ready.models, request, ctx)
    tokenizer, precision = opened.reading.tokenizer, ready.precision
    watch = Watch(
        trainer, request, ctx, data, evaluation, tokenizer=tokenizer, precision=precision, about=about
    )
    watch.start()
    train(trainer, request, ctx)
    watch.finish()
    slot = training.save(trainer, request, ctx, opened.policy)
    told = {
        **summary,
        "reference": proof.expected.name,
        "reference_kept_as": ready.models.mode,
        "reference_difference": proof.difference,
        "reference_logps": proof.found,
        **watch.summary,
    }
    outcome = training.outcome(
        trainer,
        slot,
        opened.policy,
        tokenizer,
        precision,
        data,
        told,
        reference=reference_record(opened.reference, proof.expected, precision),
        probe=training.own_probe(trainer, proof.expected.rows, precision),
        rounds=watch.record,
    )
    outcome.metrics |= watch.metrics
    outcome.gate += watch.gate
    return outcome


def tell_choices(
    policy: Stack, reference: Stack, models: Models, params: Any, tokenizer: Any, ctx: Context
) -> None:
    """Note what a user may not expect: kept LoRA settings, a second model in memory, another template."""
    if policy.adapter is not None:
        shape = loading.adapter_shape(policy.adapter)
        if (shape.get("r"), shape.get("lora_alpha")) != (params.lora.r, params.lora.lora_alpha):
            ctx.note("train.lora_from_adapter", r=shape.get("r"), lora_alpha=shape.get("lora_alpha"))
    if models.mode == "second_model" and params.tuning == "lora":
        ctx.note("train.second_model", reference=reference.name or str(reference.path))
    mine = loading.tokenizer_hashes(policy.tokenizer_folder, tokenizer)
    theirs = loading.load_tokenizer(reference.tokenizer_folder)
    if mine != loading.tokenizer_hashes(reference.tokenizer_folder, theirs):
        ctx.warn(
            "train.template_differs",
            policy=str(policy.tokenizer_folder),
            reference=str(reference.tokenizer_folder),
        )


class ReferenceProof:
    """Ask the trainer's reference about the probe rows once everything is loaded, and refuse a wrong answer."""

    def __init__(
        self, expected: Expectation, own: Sequence[Example], models: Models, precision: Precision
    ) -> None:
        self.expected, self._precision = expected, precision
        self._pictured = [e for e in own if "images" in e.data]
        # What the reference says of some of the first rows trained on, should its answers be computed in advance (never
        # with images). The first are the longest, and plain logits of long rows take more room than training does.
        near = [at for at, e in enumerate(own[:_NEAR_ROWS]) if "images" not in e.data]
        self._own_places = sorted(sorted(near, key=lambda at: own[at].length_tokens)[:_PRECOMPUTED_ROWS])
        self._own_rows = [probe.row_of(own[at]) for at in self._own_places]
        self._own_logps = probe.independent_logps(models.reference, self._own_rows, precision)
        self.difference: float | None = None
        self.found: list[float] = []

    def check(self, trainer: Any, ctx: Context) -> None:
        """Compare.

        Raises:
            SwiftshellError: `train.reference_mismatch`.
        """
        ctx.phase("checking")
        vision.check_agreement(self._pictured, trainer.data_collator)
        self.found = probe.trainer_logps(trainer, self.expected.rows)
        self.difference = probe.refuse_if_different(
            self.expected.logps,
            self.found,
            self.expected.rows,
            self._precision,
            name=self.expected.name,
            source=self.expected.source,
        )
        column = next((c for c in _PRECOMPUTED if c in trainer.train_dataset.column_names), None)
        known = [n for n, at in enumerate(self._own_places) if at < len(trainer.train_dataset)]
        if column is not None and known:
            probe.refuse_if_different(
                [self._own_logps[n] for n in known],
                [float(trainer.train_dataset[self._own_places[n]][column]) for n in known],
                [self._own_rows[n] for n in known],
                self._precision,
                name=self.expected.name,
                source="computed",
            )
        ctx.note(
            "train.reference_proven",
            name=self.expected.name,
            rows=len(self.expected.rows),
            difference=round(self.difference, 7),
            source=self.expected.source,
        )


def attach(trainer: Any, proof: ReferenceProof, models: Models, request: StepRequest, ctx: Context) -> None:
    """Give the trainer the policy's weights and the callbacks: resume, proof, reporting, in this order."""
    from swiftshell.engines.callbacks import BeforeFirstStep, ShellCallback

    place_policy(trainer, models, request.params)
    actions: list[Callable[[], None]] = []
    if request.resume_from is not None:
        folder: Path = request.resume_from
        actions.append(lambda: training.restore_default(trainer, folder))
    actions.append(lambda: proof.check(trainer, ctx))
    trainer.add_callback(BeforeFirstStep(*actions))
    trainer.add_callback(ShellCallback(ctx))


def place_policy(trainer: Any, models: Models, params: Any) -> None:
    """Put the policy's weights into the trainer built on the reference, in float32 and unrounded."""
    if params.tuning == "full":
        return
    loading.trainables_to_float32(trainer.model)
    if models.inject is not None:
        loading.restore_adapter(trainer.model, models.inject)
    trained = [n for n, p in trainer.model.named_parameters() if p.requires_grad]
    if not trained or any(".ref." in n for n in trained):
        raise fail("train.nothing_trainable", exit_code=3, count=len(trained))


def reference_record(reference: Stack, expected: Expectation, precision: Precision) -> dict[str, Any]:
    """Return the artifact's `reference`: which model, how it is assembled, and its probe."""
    entries = [
        {k: v for k, v in dict(e).items() if k in ("kind", "path", "id", "name")} for e in reference.entries
    ]
    recorded = reference.record.get("probe")
    # Numbers computed anew are the ones that hold in this precision, and what a next round is compared with.
    kept: Mapping[str, Any] = (
        recorded
        if recorded and expected.source == "recorded"
        else probe.record(expected.rows, expected.logps, None, precision)
    )
    return {
        "id": reference.record.get("id"),
        "path": str(reference.path),
        "name": reference.name,
        "kind": "adapter" if reference.adapter else "model",
        "stack": entries,
        "probe": dict(kept),
    }


def expectation(
    policy: Stack,
    reference: Stack,
    models: Models,
    examples: Sequence[Example],
    params: Any,
    precision: Precision,
    ctx: Context,
    eyes: vision.Eyes | None = None,
) -> Expectation:
    """Return what the reference must say; notes a probe that has no record, or one that cannot tell base from SFT."""
    own = probe.choose_rows(examples, params.probe_rows, eyes)
    expected = references.expectation(policy, reference, models, own, params, precision, eyes)
    if expected.source == "computed":
        ctx.note("train.reference_computed", name=expected.name)
    recorded = reference.record.get("probe") or {}
    if recorded.get("rows") and not probe.is_whole(recorded):
        ctx.note("images.probe_gone")
    if recorded.get("base_logps"):
        training.warn_if_probe_is_weak(recorded, precision, ctx)
    return expected
