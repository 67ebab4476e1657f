"""Read the curves of a preference training like a doctor reads a chart: a few verdicts, each with one thing to do.

Everything here is a pure function of the numbers that were logged and of what was measured on held-out rows, so the
same verdict comes out live, at the end, and in a test. A verdict is a catalogue key `verdict.<name>` with values; its
hint is the one thing to do. The limits were set on runs of the starter: where a healthy run passed them, they moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from transformers import TrainerCallback

from swiftshell.engines.guard import EXCUSED_RATIO, HARD_LIMIT
from swiftshell.stages.base import Context

_LEAST_POINTS = 8  # logged steps before anything is said
_READINGS = 100  # a long chart is read every hundredth of it: reading costs a little more with each point
_PATIENCE = 5  # readings in a row that must agree before a warning is given while training goes on
_LOST_PER_TOKEN = -0.15  # nats per token that desirable answers may lose, as in the guard
_STILL = 0.02  # rewards below this have not moved
_SPENT = 2.0  # beta x KL from which less than half of the gradient is left (the sigmoid's slope at 2)
_GROWN = 1.3  # greedy answers this much longer than at the start
_BETTER = 0.02  # AUC gained that counts as better
_FALLEN = 0.02  # AUC lost since its best that counts as fallen
_ALL_LENGTH = 0.8  # rank correlation of reward and length
_ONE_SIDED = 0.5  # share of batches with one class


@dataclass(frozen=True)
class Verdict:
    """What a chart says: a catalogue key, the numbers behind it, and whether it is bad news."""

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    severity: str = "warning"

    def as_json(self) -> dict[str, Any]:
        """Return the form a summary keeps."""
        return {"code": self.code, "severity": self.severity, "values": dict(self.values)}


@dataclass(frozen=True)
class Circumstances:
    """What is known of a training beside its curves.

    Attributes:
        beta, learning_rate: as set (the guard may change them later).
        untrained_loss: the loss of a policy that equals the reference (KTO: half the mean weight); None: not known.
        answer_tokens: mean length of an answer trained on.
        one_sided, batches: batches of one class only, and all of an epoch.
        desirable, undesirable: held-out answers of each kind, 0 without held-out data.
    """

    beta: float
    learning_rate: float
    untrained_loss: float | None
    answer_tokens: float
    one_sided: int = 0
    batches: int = 0
    desirable: int = 0
    undesirable: int = 0


class Chart:
    """The logged numbers in order, by name."""

    def __init__(self) -> None:
        self.series: dict[str, list[float]] = {}
        self.done = 0.0  # fraction of the optimizer steps

    def add(self, logs: Mapping[str, Any]) -> None:
        """Take one logged entry; what is not a finite number is passed over."""
        for name, value in logs.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                self.series.setdefault(name, []).append(float(value))

    def __len__(self) -> int:
        return len(self.series.get("loss", ()))

    def last(self, name: str) -> float | None:
        """Return the mean over the last fifth (5 points at least), or None without points."""
        values = self.series.get(name, [])
        return fmean(values[-max(5, len(values) // 5) :]) if values else None

    def first(self, name: str) -> float | None:
        """Return the mean over the first fifth (5 points at least), or None without points."""
        values = self.series.get(name, [])
        return fmean(values[: max(5, len(values) // 5)]) if values else None

    def is_certain(self, name: str, beyond: float = 0.0) -> bool:
        """Tell whether the mean of the last half lies more than two standard errors from a value."""
        values = self.series.get(name, [])
        half = values[len(values) // 2 :]
        return len(half) > 2 and abs(fmean(half) - beyond) > 2 * stdev(half) / math.sqrt(len(half))


Held = Sequence[Mapping[str, float]]  # measurements on held-out rows, oldest first
Reader = Callable[[Chart, Held, Circumstances], "Verdict | None"]


def read(chart: Chart, held: Held, about: Circumstances) -> list[Verdict]:
    """Return what the chart says, gravest first; `healthy` or `unclear` if nothing is wrong."""
    found = [v for reader in _READERS if (v := reader(chart, held, about)) is not None]
    codes = {v.code for v in found}
    if "verdict.collapse" in codes:
        found = [v for v in found if v.code != "verdict.both_fall"]
    if codes & {"verdict.not_told_apart", "verdict.nothing_learned"}:  # nothing was learned that could be inverted
        found = [v for v in found if v.code != "verdict.inverted"]
    return found or [_well(chart, held, about)]


def _per_token(chart: Chart, side: str, about: Circumstances, when: str = "last") -> float | None:
    """Return a class's log-ratio in nats per completion token: its mean reward, brought down to the mean answer.

    The logged `logratios/*_per_token` are means over batches, and a batch of short answers counts in them as much as one
    of long ones; they stand in where rewards are missing.
    """
    mean = chart.last if when == "last" else chart.first
    reward = mean(f"rewards/{side}")
    if reward is not None and about.answer_tokens:
        return reward / about.beta / about.answer_tokens
    return mean(f"logratios/{side}_per_token")


def _fallen(chart: Chart, held: Held, about: Circumstances) -> tuple[float, float] | None:
    """Return what both classes lost per token since the start, if the desirable one lost more than is KTO at work.

    The same measure as the guard's: a fall is excused while undesirable answers fall a good deal more. Where held-out
    rows say that desirable answers kept their likelihood, what fell in training were rows that are labelled wrong.
    """
    now = [_per_token(chart, side, about) for side in ("chosen", "rejected")]
    then = [_per_token(chart, side, about, "first") for side in ("chosen", "rejected")]
    if len(chart) < _LEAST_POINTS or None in now or None in then:
        return None
    chosen, rejected = (float(n or 0.0) - min(0.0, float(t or 0.0)) for n, t in zip(now, then, strict=True))
    limit = _LOST_PER_TOKEN * (HARD_LIMIT if rejected <= EXCUSED_RATIO * min(0.0, chosen) else 1.0)
    measured = len(held) > 1 and "reward_chosen" in held[-1]
    kept = measured and held[-1]["reward_chosen"] >= min(0.0, held[0].get("reward_chosen", 0.0))
    return None if chosen >= limit or kept else (chosen, rejected)


def _collapse(chart: Chart, held: Held, about: Circumstances) -> Verdict | None:
    """Desirable answers and answers to other prompts both lose likelihood, while TRL logs a KL of 0."""
    lost, kl = _fallen(chart, held, about), chart.last("kl/unclamped_per_token")
    if lost is None or kl is None or kl >= _LOST_PER_TOKEN or kl >= (chart.first("kl/unclamped_per_token") or 0.0):
        return None
    still_learns = lost[0] - lost[1] > -lost[0] / 2  # the classes part, however far both fall
    if still_learns and lost[0] > _LOST_PER_TOKEN * HARD_LIMIT:
        return None
    values = {"kl": _r(kl), "chosen": _r(lost[0]), "logged_kl": _r(chart.last("kl") or 0.0)}
    return Verdict("verdict.collapse", values)


def _both_fall(chart: Chart, held: Held, about: Circumstances) -> Verdict | None:
    lost = _fallen(chart, held, about)
    if lost is None or lost[1] >= 0:
        return None
    values = {"chosen": _r(lost[0]), "rejected": _r(lost[1]), "learning_rate": about.learning_rate}
    return Verdict("verdict.both_fall", values)


def _spent(chart: Chart, held: Held, about: Circumstances) -> Verdict | None:
    kl = chart.last("kl/unclamped")
    if len(chart) < _LEAST_POINTS or kl is None or about.beta * kl < _SPENT:
        return None
    return Verdict(
        "verdict.far_from_reference", {"kl": _r(kl), "beta": about.beta, "product": _r(about.beta * kl)}
    )


def _pinned(chart: Chart, held: Held, about: Circumstances) -> Verdict | None:
    """The loss stays where an untrained policy has it: nothing moved, or what moved does not tell the classes apart."""
    loss, margin = chart.last("loss"), chart.last("rewards/margins")
    rewards = [chart.last(f"rewards/{side}") for side in ("chosen", "rejected")]
    if len(chart) < _LEAST_POINTS or chart.done < 0.5 or loss is None or margin is None or None in rewards:
        return None
    largest = max(abs(float(r or 0.0)) for r in rewards)
    values = {
        "loss": _r(loss),
        "untrained": _r(about.untrained_loss or loss),
        "margin": _r(margin),
        "learning_rate": about.learning_rate,
    }
    if largest < _STILL and abs(margin) < _STILL:
        return Verdict("verdict.nothing_learned", values)
    untrained = about.untrained_loss
    is_pinned = untrained is not None and (loss > 0.99 * untrained or not chart.is_certain("loss", untrained))
    if is_pinned and not (margin > 0 and chart.is_certain("rewards/margins")):
        return Verdict("verdict.not_told_apart", {**values, "reward": _r(largest)})
    return None


def _one_class(chart: Chart, held: Held, about: Circumstances) -> Verdict | None:
    if not about.batches or about.one_sided / about.batches < _ONE_SIDED:
        return None
    return Verdict("verdict.one_class_batches", {"count": about.one_sided, "batches": about.batches})


def _inverted(chart: Chart, held: Held, about: Circumstances) -> Verdict | None:
    auc = _auc(held)
    if auc is None or auc + 1.96 * _auc_error(auc, about) >= 0.5:
        return None
    return Verdict("verdict.inverted", {"auc": _r(auc)})


def _overfitting(chart: Chart, held: Held, about: Circumstances) -> Verdict | None:
    """Held-out AUC was better before while the margin in training went on growing, or it never left chance."""
    series = [(e["step"], e["preference_auc"]) for e in held if "preference_auc" in e]
    margin = chart.last("rewards/margins")
    if len(series) < 2 or margin is None or not (margin > _STILL and chart.is_certain("rewards/margins")):
        return None
    step, best = max(series[:-1], key=lambda e: e[1])
    now = series[-1][1]
    grew = margin > (chart.first("rewards/margins") or 0.0)
    if grew and step > 0 and now < best - _FALLEN:
        return Verdict(
            "verdict.overfitting", {"auc": _r(now), "best": _r(best), "step": int(step), "margin": _r(margin)}
        )
    if chart.done >= 0.5 and abs(now - 0.5) < 1.96 * _auc_error(now, about):
        return Verdict(
            "verdict.not_general",
            {"auc": _r(now), "margin": _r(margin), "answers": about.desirable + about.undesirable},
        )
    return None


def _longer(chart: Chart, held: Held, about: Circumstances) -> Verdict | None:
    """Answers grow without ranking better, or the reward is hardly more than length."""
    if len(held) < 2 or _auc(held) is None:
        return None
    last, auc = held[-1], float(_auc(held) or 0.0)
    ratio, start = last.get("length_ratio", 1.0), held[0].get("preference_auc", 0.5)
    if ratio >= _GROWN and auc < start + _BETTER:
        return Verdict("verdict.longer_not_better", {"ratio": _r(ratio), "auc": _r(auc), "start": _r(start)})
    correlation, by_length = last.get("reward_length_correlation", 0.0), last.get("length_auc", 0.5)
    told_by_length = by_length if correlation > 0 else 1 - by_length
    if abs(correlation) >= _ALL_LENGTH and auc <= told_by_length + 0.01:
        return Verdict(
            "verdict.reward_is_length",
            {"correlation": _r(correlation), "auc": _r(auc), "length_auc": _r(told_by_length)},
        )
    return None


def _well(chart: Chart, held: Held, about: Circumstances) -> Verdict:
    """Say that training goes well as far as the numbers carry, or that they do not carry far enough."""
    margin, chosen = chart.last("rewards/margins"), _per_token(chart, "chosen", about)
    auc = _auc(held)
    certain = (
        len(chart) >= _LEAST_POINTS
        and margin is not None
        and margin > _STILL
        and chart.is_certain("rewards/margins")
    )
    if certain and auc is not None and auc - 1.96 * _auc_error(auc, about) > 0.5:
        return Verdict(
            "verdict.healthy_held_out", {"margin": _r(margin), "chosen": _r(chosen), "auc": _r(auc)}, "note"
        )
    if certain and auc is None:
        return Verdict("verdict.healthy", {"margin": _r(margin), "chosen": _r(chosen)}, "note")
    return Verdict("verdict.unclear", {"points": len(chart), "margin": _r(margin)}, "note")


# Gravest first: the first one is the headline.
_READERS: tuple[Reader, ...] = (
    _collapse,
    _both_fall,
    _inverted,
    _spent,
    _one_class,
    _pinned,
    _overfitting,
    _longer,
)


def _auc(held: Held) -> float | None:
    return next((e["preference_auc"] for e in reversed(held) if "preference_auc" in e), None)


def _auc_error(auc: float, about: Circumstances) -> float:
    """Return the standard error of an AUC over that many answers (Hanley and McNeil)."""
    good, bad = max(about.desirable, 1), max(about.undesirable, 1)
    above, twice = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = auc * (1 - auc) + (good - 1) * (above - auc * auc) + (bad - 1) * (twice - auc * auc)
    return math.sqrt(max(variance, 0.0) / (good * bad))


def _r(value: float | None) -> float | None:
    """Return a number as a sentence shows it: two to three telling digits."""
    return None if value is None else float(f"{value:.3g}")


class VerdictCallback(TrainerCallback):
    """Read the chart at every log, and say each piece of bad news once, when it has held for a few readings."""

    def __init__(self, ctx: Context, about: Circumstances, held: Callable[[], Held] = list) -> None:
        self.ctx, self.about, self.held = ctx, about, held
        self.chart = Chart()
        self._in_a_row: dict[str, int] = {}
        self._told: set[str] = set()

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start a chart: of what a checkpoint remembers, or empty (also when the guard starts a leg anew)."""
        self.chart, self._in_a_row = Chart(), {}
        for entry in state.log_history:
            self.chart.add(entry)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Take the entry and warn."""
        if not logs or "loss" not in logs:
            return
        self.chart.add(logs)
        self.chart.done = state.global_step / max(state.max_steps, 1)
        if len(self.chart) % max(1, len(self.chart) // _READINGS):
            return
        found = [v for v in read(self.chart, self.held(), self.about) if v.severity == "warning"]
        self._in_a_row = {v.code: self._in_a_row.get(v.code, 0) + 1 for v in found}
        for verdict in found:
            if self._in_a_row[verdict.code] >= _PATIENCE and verdict.code not in self._told:
                self._told.add(verdict.code)
                self.ctx.warn(verdict.code, **verdict.values)

    def finish(self, log_history: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return the last word for the summary, gravest first; say the first one if it was not said yet.

        Args:
            log_history: what was logged on the way to the weights that are kept (a guard leaves out what it undid).
        """
        self.chart = Chart()
        self.chart.done = 1.0
        for entry in log_history:
            self.chart.add(entry)
        found = read(self.chart, self.held(), self.about)
        if found[0].code not in self._told:
            (self.ctx.warn if found[0].severity == "warning" else self.ctx.note)(
                found[0].code, **found[0].values
            )
        return [v.as_json() for v in found]
