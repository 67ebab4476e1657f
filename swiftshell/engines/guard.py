"""Tell from a preference training's logged numbers that the policy drifts. Pure logic: no torch, no files, no clock.

TRL logs its KL clamped at 0, so a policy that collapses shows 0.0 to the end. What is watched instead (all of it logged by
`engines.kto_trainer`): the KL estimate before the clamp, and what answers of both classes gained or lost per token
against the reference. Single batches are noisy, so limits hold for moving averages, for some steps in a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

from swiftshell.stages.guard import Guard as Settings

LOSS = "loss"
CHOSEN, REJECTED = "logratios/chosen_per_token", "logratios/rejected_per_token"  # nats per completion token
KL_TOKEN, KL_SEQUENCE = "kl/unclamped_per_token", "kl/unclamped"  # nats per token, per sequence
PROBE = "kl/probe"  # nats per generated token

# Beyond this, sigmoid'(beta * z0) is below 0.018, where 0.25 is what a fresh policy gets: nothing is learned any more.
GRADIENTS_GONE = 4.0
# A fall of the desirable answers is excused while the undesirable ones fall this many times as far: that is KTO at work.
EXCUSED_RATIO = 2.0
# The excuse reaches to this many times the limit: beyond, the policy forgets what it was. The same for a KL that is high
# while desirable answers gain more still, as when a base model learns a style by KTO alone.
HARD_LIMIT = 3.0
# Both classes must have lost this share of the limit within half a window before their falling together means something.
FALL_SHARE = 0.15


@dataclass(frozen=True)
class Trip:
    """Why training was stopped.

    Attributes:
        code: catalogue key.
        step: optimizer step, counted over the whole training.
        found, limit: the number that was too large or too small, and what it may be. None stands for not finite.
    """

    code: str
    step: int
    found: float | None
    limit: float | None

    def as_json(self) -> dict[str, Any]:
        """Return what the story of the legs keeps, rounded to what means anything."""
        return {k: round(v, 6) if isinstance(v, float) else v for k, v in asdict(self).items()}


@dataclass
class State:
    """All a guard remembers; plain numbers, so that JSON gives back exactly the same.

    Attributes:
        averages: metric name -> exponential moving averages of value times tokens, and of tokens.
        start: metric name -> first value seen: a policy that continues an earlier round does not start at 0.
        bad_steps: optimizer steps in a row that were out of bounds.
        window: the newest averages of both classes, oldest first, one entry for each log.
        probe: the newest KL on generated answers.
        last_step: optimizer step of the newest log.
    """

    averages: dict[str, list[float]] = field(default_factory=dict)
    start: dict[str, float] = field(default_factory=dict)
    bad_steps: int = 0
    window: list[list[float]] = field(default_factory=list)
    probe: float | None = None
    last_step: int = 0


class Guard:
    """Watch one leg of a training: feed `observe` with what was logged; it returns a Trip when training must stop."""

    def __init__(
        self,
        settings: Settings,
        beta: float,
        *,
        first_step: int = 0,
        start: Mapping[str, float] | None = None,
    ) -> None:
        self.settings, self.beta = settings, beta
        self.state = State(start=dict(start or {}), last_step=first_step)

    def observe(self, step: int, logged: Mapping[str, float]) -> Trip | None:
        """Take one log: averages over the optimizer steps since the last one.

        Args:
            step: optimizer step, counted over the whole training.
            logged: metric names as logged; names that are missing are not judged.
        """
        steps = max(1, step - self.state.last_step)
        self.state.last_step = step
        loss = logged.get(LOSS, 0.0)
        watched = {n: logged[n] for n in (CHOSEN, REJECTED, KL_TOKEN, KL_SEQUENCE) if n in logged}
        if not all(math.isfinite(v) for v in (loss, *watched.values())):
            return Trip("guard.not_finite", step, None, None)
        for name, value in watched.items():
            self._average(name, value, self._tokens(name, logged), steps)
        self._remember_window()
        found = self._out_of_bounds(step)
        self.state.bad_steps = self.state.bad_steps + steps if found else 0
        return found if self.state.bad_steps >= self.settings.patience_steps else None

    def observe_probe(self, value: float) -> None:
        """Take the KL per token on answers that the policy generated; it is judged with every log until the next."""
        self.state.probe = value

    @property
    def healthy(self) -> bool:
        """Tell whether all that is watched is within half of its limit."""
        s = self.settings
        return (
            self.state.bad_steps == 0
            and self._fallen() >= self._floor() / 2
            and self._kl() <= self._ceiling() / 2
            and (self.state.probe or 0.0) <= s.max_kl / 2
            and self.beta * self._get(KL_SEQUENCE) <= GRADIENTS_GONE / 2
        )

    @property
    def gap(self) -> float:
        """Return how much better desirable answers do than undesirable ones (nats per token, averaged)."""
        return self._get(CHOSEN) - self._get(REJECTED)

    def as_json(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        return asdict(self.state)

    def restore(self, data: Mapping[str, Any]) -> None:
        """Go on from a state that `as_json` gave."""
        self.state = State(**data)

    def _tokens(self, name: str, logged: Mapping[str, float]) -> float:
        """Return the mean tokens of the sequences that a per-token number speaks of; 1 where that cannot be told."""
        per_sequence, scale = {
            CHOSEN: ("rewards/chosen", self.beta),
            REJECTED: ("rewards/rejected", self.beta),
            KL_TOKEN: (KL_SEQUENCE, 1.0),
        }.get(name, (name, 1.0))
        total, per_token = logged.get(per_sequence, 0.0) / scale, logged[name]
        return total / per_token if per_token and total / per_token > 0 else 1.0

    def _average(self, name: str, value: float, tokens: float, steps: int) -> None:
        """Average over tokens, not batches: batches hold answers of one length, and a few tokens tell little."""
        self.state.start.setdefault(name, value)
        old = self.state.averages.get(name)
        kept = (1 - 2 / (self.settings.smoothing_steps + 1)) ** steps if old else 0.0
        sums = old or [0.0, 0.0]
        self.state.averages[name] = [
            kept * o + (1 - kept) * n for o, n in zip(sums, (value * tokens, tokens), strict=True)
        ]

    def _remember_window(self) -> None:
        if CHOSEN in self.state.averages and REJECTED in self.state.averages:
            self.state.window.append([self._get(CHOSEN), self._get(REJECTED)])
            del self.state.window[: -_window_length(self.settings)]

    def _get(self, name: str) -> float:
        total, tokens = self.state.averages.get(name, (0.0, 1.0))
        return total / tokens

    def _fallen(self) -> float:
        """Return what the desirable answers lost per token since the start, or against the reference if that is less."""
        return self._get(CHOSEN) - min(0.0, self.state.start.get(CHOSEN, 0.0))

    def _ceiling(self) -> float:
        """Return how high the KL may be: higher while desirable answers gain more than answers to other prompts do."""
        gained = self._get(CHOSEN) - max(0.0, self.state.start.get(CHOSEN, 0.0))
        return self.settings.max_kl * (HARD_LIMIT if gained >= self._kl() else 1.0)

    def _kl(self) -> float:
        return self._get(KL_TOKEN) - max(0.0, self.state.start.get(KL_TOKEN, 0.0))

    def _out_of_bounds(self, step: int) -> Trip | None:
        s = self.settings
        if self._fallen() < self._floor():
            return Trip("guard.chosen_fell", step, self._fallen(), self._floor())
        if self._kl() > self._ceiling():
            return Trip("guard.kl_high", step, self._kl(), self._ceiling())
        if self.state.probe is not None and self.state.probe > s.max_kl:
            return Trip("guard.probe_high", step, self.state.probe, s.max_kl)
        if self.beta * self._get(KL_SEQUENCE) > GRADIENTS_GONE:
            return Trip("guard.gradients_gone", step, self.beta * self._get(KL_SEQUENCE), GRADIENTS_GONE)
        return self._both_fall(step)

    def _floor(self) -> float:
        """Return how far desirable answers may fall: further while undesirable ones fall a good deal more."""
        lost = self._get(REJECTED) - min(0.0, self.state.start.get(REJECTED, 0.0))
        excused = lost <= EXCUSED_RATIO * min(0.0, self._fallen())
        return self.settings.min_chosen_logratio * (HARD_LIMIT if excused else 1.0)

    def _both_fall(self, step: int) -> Trip | None:
        """Tell whether both classes lose likelihood while the policy learns to tell them apart no better.

        The newer half of the window is compared with the older one, and must still be falling: the average after a
        single odd batch rises again.
        """
        window = self.state.window
        half = len(window) // 2
        if len(window) < _window_length(self.settings) or self._fallen() >= 0:
            return None
        older, newer = (
            [fmean(w[i] for w in part) for i in (0, 1)] for part in (window[:half], window[half:])
        )
        chosen, rejected = newer[0] - older[0], newer[1] - older[1]
        enough = self.settings.min_chosen_logratio * FALL_SHARE
        falling = max(chosen, rejected) < enough and window[-1][0] < newer[0] and window[-1][1] < newer[1]
        return Trip("guard.both_fall", step, chosen, enough) if falling and chosen <= rejected else None


def _window_length(settings: Settings) -> int:
    return max(20, 6 * settings.smoothing_steps)
