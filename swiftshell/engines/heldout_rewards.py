"""Measure on held-out answers whether the policy tells desirable ones from undesirable ones, while it trains.

A preference loss rewards an answer with `beta x (log-probability under the policy - under the reference)`. TRL logs
means of it by class; whether the reward *ranks* answers it was not trained on is what this measures: the area under
the ROC curve (AUC), pairs put in the right order, and how far the reward is nothing but length. It costs one forward of
the policy a row and a measurement; the reference is asked once, or read where it is cached.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from transformers import TrainerCallback

from swiftshell.engines import generate, metrics, probe, vision
from swiftshell.engines.callbacks import ShellCallback
from swiftshell.engines.loading import Precision
from swiftshell.engines.reward_numbers import Answer, Groups, numbers_of
from swiftshell.run.files import read_json_or_none, write_json
from swiftshell.stages.base import Context, Stopped

_PROMPTS = 16  # answered greedily to see whether answers grow
_NEW_TOKENS = 96
_FILE = "heldout.json"


@dataclass
class Measured:
    """What one measurement found.

    Attributes:
        step: optimizer steps done.
        ratios: log-probability under the policy minus under the reference, nats, one an answer.
        numbers: metrics by name.
        lengths: tokens of the policy's own greedy answers to the first prompts.
    """

    step: int
    ratios: list[float]
    numbers: dict[str, float]
    lengths: list[int] = field(default_factory=list)


class HeldoutRewards(TrainerCallback):
    """Measure at the start, at every evaluation and at the end.

    `start` is called once the policy is in place and before training, `finish` after it.
    """

    def __init__(
        self, trainer: Any, answers: Sequence[Answer], tokenizer: Any, precision: Precision, ctx: Context
    ) -> None:
        self.trainer, self.answers, self.tokenizer, self.ctx = trainer, list(answers), tokenizer, ctx
        self._tolerance = probe.tolerance(precision)
        self._reference: list[float] | None = None
        self._file = ctx.checkpoints / _FILE
        text = json.dumps([(a.prompt_ids, a.completion_ids, a.desirable, *a.images) for a in self.answers])
        self._key = hashlib.sha256(text.encode()).hexdigest()
        self._weights: tuple[float, ...] | None = None
        self.first: Measured | None = None
        self.last: Measured | None = None
        self.history: list[dict[str, float]] = []  # one entry a measurement: step and numbers

    def start(self) -> None:
        """Measure the policy that training starts from; an earlier attempt's measurements are taken over."""
        kept = read_json_or_none(self._file)
        self.first = self._measure(0, None)
        if isinstance(kept, dict) and kept.get("key") == self._key:
            self.history = [e for e in kept.get("history", []) if isinstance(e, dict)]
        if not self.history:
            self._remember(self.first)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Forget what an attempt measured after the checkpoint that training goes on from."""
        self.history = [e for e in self.history if e.get("step", 0) <= self._step(state)]

    def on_evaluate(
        self, args: Any, state: Any, control: Any, metrics: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Measure beside TRL's own evaluation, whose unclamped KL is the threshold."""
        z0 = (metrics or {}).get("eval_kl/unclamped")
        self._remember(self._measure(self._step(state), z0))

    def finish(self) -> Measured:
        """Return the measurement of the trained weights; measured now unless the last one was of them."""
        if self.last is None or self._weights != _mark(self.trainer.model):
            z0 = next(
                (e["kl/unclamped"] for e in reversed(self.trainer.state.log_history) if "kl/unclamped" in e),
                None,
            )
            self._remember(self._measure(self._step(self.trainer.state), z0))
        assert self.last is not None
        return self.last

    def _step(self, state: Any) -> int:
        """Return the optimizer steps of the whole training, those before a restart by the guard included."""
        callbacks = self.trainer.callback_handler.callbacks
        offset = next((c.offset for c in callbacks if isinstance(c, ShellCallback)), 0)
        return int(state.global_step) + int(offset)

    def _measure(self, step: int, z0: float | None) -> Measured:
        if self._reference is None:
            self._reference = self._cached() or _log_probs(
                self.trainer, self.answers, self.ctx, reference=True
            )
        policy = _log_probs(self.trainer, self.answers, self.ctx)
        ratios = [p - r for p, r in zip(policy, self._reference, strict=True)]
        if all(
            abs(d) <= self._tolerance * len(a.completion_ids)
            for d, a in zip(ratios, self.answers, strict=True)
        ):
            ratios = [0.0] * len(
                ratios
            )  # still the reference: ranking what arithmetic left over would mean nothing
        found = Measured(step, ratios, numbers_of(self.answers, ratios, float(self.trainer.beta), z0))
        found.lengths = self._lengths()
        if self.first is not None and any(self.first.lengths):
            found.numbers["length_ratio"] = sum(found.lengths) / sum(self.first.lengths)
        self._weights = _mark(self.trainer.model)
        return found

    def _remember(self, found: Measured) -> None:
        self.last = found
        for name, value in found.numbers.items():
            self.ctx.metric(f"eval_{name}", value, found.step)
        self.history.append({"step": float(found.step), **found.numbers})
        write_json(self._file, {"v": 1, "key": self._key, "history": self.history})

    def _lengths(self) -> list[int]:
        """Return the lengths in tokens of greedy answers to the first prompts; none are given to images."""
        prompts = list(dict.fromkeys(a.prompt_ids for a in self.answers if not a.images))[:_PROMPTS]
        if not prompts:
            return []
        model = self.trainer.model
        training = model.training
        model.eval()
        with self.trainer.accelerator.autocast():
            found = generate.answer(model, self.tokenizer, prompts, generate.Sampling(_NEW_TOKENS))
        model.train(training)
        return [a.tokens for a in found]

    def _cached(self) -> list[float] | None:
        """Return the reference's log-probabilities from the data set's columns, if they are there."""
        rows = self.trainer.eval_dataset
        names = rows.column_names if rows is not None else []
        known: dict[tuple[tuple[int, ...], tuple[int, ...]], float] = {}
        for ids, logps in (
            ("completion_ids", "ref_logps"),
            ("chosen_ids", "ref_chosen_logps"),
            ("rejected_ids", "ref_rejected_logps"),
        ):
            if ids in names and logps in names and getattr(self.trainer, "ld_alpha", None) is None:
                for prompt, answer, value in zip(rows["prompt_ids"], rows[ids], rows[logps], strict=True):
                    known[tuple(prompt), tuple(answer)] = float(value)
        found = [known.get((a.prompt_ids, a.completion_ids)) for a in self.answers]
        return [v for v in found if v is not None] if found and None not in found else None


def _mark(model: Any) -> tuple[float, ...]:
    """Return numbers that change when any trained weight does: sums, for a small adapter a few microseconds each."""
    with torch.no_grad():
        sums = [p.detach().float().sum() for p in model.parameters() if p.requires_grad]
    return tuple(torch.stack(sums).tolist()) if sums else ()


def _batches(answers: Sequence[Answer], budget_tokens: int) -> Iterator[list[int]]:
    """Yield indices by falling length; a batch padded to its longest answer stays within the budget."""
    order = sorted(range(len(answers)), key=lambda i: -_length(answers[i]))
    pictured = [i for i in order if answers[i].images]
    order = [i for i in order if not answers[i].images]
    while order:
        size = max(1, budget_tokens // max(1, _length(answers[order[0]])))
        yield order[:size]
        order = order[size:]
    yield from ([i] for i in pictured)  # a row with images is a batch of its own


def _length(answer: Answer) -> int:
    return len(answer.prompt_ids) + len(answer.completion_ids)


def _log_probs(
    trainer: Any, answers: Sequence[Answer], ctx: Context, *, reference: bool = False
) -> list[float]:
    """Return the summed log-probability of every answer under the policy, or under the trainer's reference."""
    found = [0.0] * len(answers)
    longest = max(map(_length, answers), default=1)
    budget = max(1, trainer.args.per_device_eval_batch_size) * longest  # what evaluation takes fits here too
    model, training = trainer.model, trainer.model.training
    model.eval()
    try:
        for batch in _batches(answers, budget):
            if ctx.stop_requested() and reference:  # while training, the trainer stops after its step
                raise Stopped
            rows = [answers[i] for i in batch]
            values = _reference_batch(trainer, rows) if reference else _policy_batch(trainer, rows)
            for i, value in zip(batch, values, strict=True):
                found[i] = value
    finally:
        model.train(training)
    return found


def _policy_batch(trainer: Any, rows: Sequence[Answer]) -> list[float]:
    """Score one batch as TRL's loss does: the same head, the same precision."""
    inputs = _tensors(rows, trainer)
    labels = inputs["input_ids"].masked_fill(inputs["completion_mask"] == 0, -100)
    with torch.no_grad(), trainer.accelerator.autocast():
        logps = trainer.model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            labels=labels,
            use_cache=False,
            fused_lm_head=True,
            **{k: v.to(trainer.accelerator.device) for k, v in _pictured(trainer, rows[0]).seen().items()},
        ).log_probs
    sums: list[float] = logps.sum(-1).tolist()
    return sums


def _reference_batch(trainer: Any, rows: Sequence[Answer]) -> list[float]:
    """Ask the reference through the trainer, which knows where it is."""
    if rows[0].images:
        return probe.trainer_logps(trainer, [_pictured(trainer, rows[0])])
    model = trainer.ref_model if trainer.ref_model is not None else trainer.model
    if hasattr(trainer, "calculate_KL"):
        inputs = _tensors(rows, trainer)
        # KTO scores mismatched answers in the same call; two tokens stand for them, so that it costs nothing.
        inputs |= {f"KL_{name}": tensor[:, :2] for name, tensor in list(inputs.items())}
        found: list[float] = trainer.compute_ref_log_probs(model, inputs)[0].tolist()
        return found
    even = [*rows, rows[-1]] if len(rows) % 2 else list(rows)  # DPO cuts a batch into two halves
    shared, trainer.ld_alpha = getattr(trainer, "ld_alpha", None), None  # whole answers, as for the policy
    try:
        halves = trainer.compute_ref_log_probs(model, _tensors(even, trainer))
    finally:
        trainer.ld_alpha = shared
    return [float(v) for half in halves for v in half.tolist()][: len(rows)]


def _pictured(trainer: Any, row: Answer) -> probe.ProbeRow:
    """Return a row with the processor that looks at its images: with images, a trainer has one in the tokenizer's place."""
    eyes = vision.Eyes(trainer.processing_class) if row.images else None
    return probe.ProbeRow(row.prompt_ids, row.completion_ids, row.images, eyes)


def _tensors(rows: Sequence[Answer], trainer: Any) -> dict[str, Any]:
    """Return ids, attention mask and completion mask, each (batch, longest), padded on the right."""
    width = max(map(_length, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    seen, scored = torch.zeros_like(ids), torch.zeros_like(ids)
    for i, row in enumerate(rows):
        whole = row.prompt_ids + row.completion_ids
        ids[i, : len(whole)] = torch.tensor(whole)
        seen[i, : len(whole)] = 1
        scored[i, len(row.prompt_ids) : len(whole)] = 1
    device = trainer.accelerator.device
    return {
        "input_ids": ids.to(device),
        "attention_mask": seen.to(device),
        "completion_mask": scored.to(device),
    }


def summary_of(heldout: HeldoutRewards) -> dict[str, Any]:
    """Return the facts for the step's result: the numbers with 95 % intervals, and their change since the start."""
    first, last = heldout.first, heldout.last
    assert first is not None
    assert last is not None
    groups = Groups(heldout.answers)
    told: dict[str, Any] = {
        "answers": len(heldout.answers),
        "prompts": len(groups.all),
        "pairs": len(groups.paired),
        "start": _rounded(first.numbers),
        "end": _rounded(last.numbers),
        "history": [_rounded(e) for e in heldout.history],
        "intervals": {},
        "change": {},
    }
    measures = (
        ("preference_auc", groups.auc, len(groups.all) if groups.has_both else 0),
        ("preference_accuracy", groups.accuracy, len(groups.paired)),
    )
    for name, statistic, n in measures:
        if n:
            later, earlier = statistic(last.ratios), statistic(first.ratios)
            low, high = metrics.bootstrap(n, later)
            told["intervals"][name] = [metrics.finite(v) for v in (metrics.over_all(n, later), low, high)]
            told["change"][name] = [metrics.finite(v) for v in metrics.paired_difference(n, later, earlier)]
    return told


def _rounded(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in numbers.items() if np.isfinite(value)}
