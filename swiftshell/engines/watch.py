"""Watch a preference training from its start to its end: held-out rewards, verdicts, and the place of its round."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from swiftshell.engines import heldout_rewards, rounds, training
from swiftshell.engines.heldout_rewards import HeldoutRewards
from swiftshell.engines.loading import Precision
from swiftshell.engines.reward_numbers import Answer, answers_of
from swiftshell.engines.rows import Example, Prepared
from swiftshell.engines.verdicts import Circumstances, Held, VerdictCallback
from swiftshell.errors import Problem
from swiftshell.stages.base import Context, StepRequest


class Watch:
    """Hang the observers on a trainer, and afterwards tell what they saw.

    Attributes:
        summary: facts for the step's result: `heldout`, `verdicts`, `verdict` (the headline), `rounds`.
        metrics: the held-out numbers of the trained model, as logged.
        record: what the artifact keeps as `rounds`.
        gate: problems that keep the model from its place on the board.
    """

    def __init__(
        self,
        trainer: Any,
        request: StepRequest,
        ctx: Context,
        data: Prepared,
        evaluation: Sequence[Example],
        *,
        tokenizer: Any,
        precision: Precision,
        about: Circumstances,
    ) -> None:
        self._trainer, self._request, self._ctx = trainer, request, ctx
        answers = answers_of(evaluation, request.seed)
        self._heldout = HeldoutRewards(trainer, answers, tokenizer, precision, ctx) if answers else None
        self._verdicts = VerdictCallback(ctx, about, self._held)
        self.summary: dict[str, Any] = {}
        self.metrics: dict[str, float] = {}
        self.record: dict[str, Any] = {}
        self.gate: list[Problem] = []
        if self._heldout is not None:
            _tell_overlap(data.examples, answers, ctx)
            trainer.add_callback(self._heldout)
        trainer.add_callback(self._verdicts)

    def _held(self) -> Held:
        return self._heldout.history if self._heldout is not None else []

    def start(self) -> None:
        """Measure the policy that training starts from."""
        if self._heldout is not None:
            training.phase(self._ctx, "evaluating")
            self._heldout.start()

    def finish(self) -> None:
        """Measure what was trained, read the chart for the last time, and compare the round with the one before."""
        told: dict[str, Any] | None = None
        if self._heldout is not None:
            training.phase(self._ctx, "evaluating")
            found = self._heldout.finish()
            told = heldout_rewards.summary_of(self._heldout)
            self.metrics = {f"eval_{k}": v for k, v in found.numbers.items() if math.isfinite(v)}
            self.summary["heldout"] = told
        verdicts = self._verdicts.finish(self._trainer.state.log_history)
        self.summary |= {"verdicts": verdicts, "verdict": verdicts[0]["code"]}
        self.record, self.gate = rounds.compare(rounds.round_of(self._request), told, self._ctx)
        self.summary["rounds"] = self.record


def circumstances(
    request: StepRequest,
    data: Sequence[Example],
    evaluation: Sequence[Example],
    *,
    untrained_loss: float | None,
    one_sided: int = 0,
    batches: int = 0,
) -> Circumstances:
    """Return what is known of a training beside its curves."""
    answers = answers_of(evaluation, request.seed)
    desirable = sum(a.desirable for a in answers)
    return Circumstances(
        beta=request.params.beta,
        learning_rate=request.params.learning_rate,
        untrained_loss=untrained_loss,
        answer_tokens=fmean(len(a) for e in data for a in e.answers) if data else 1.0,
        one_sided=one_sided,
        batches=batches,
        desirable=desirable,
        undesirable=len(answers) - desirable,
    )


def _tell_overlap(
    examples: Sequence[Example], answers: Sequence[Answer], ctx: Context
) -> None:
    trained = {e.asked for e in examples}
    held = {a.asked for a in answers}
    if shared := len(trained & held):
        ctx.warn("rounds.overlap", count=shared, total=len(held))
