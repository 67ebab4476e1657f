"""The guard's eyes and hands inside a trainer: feed it with what is logged, put good weights aside, stop on a trip."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from swiftshell.engines import guard_legs
from swiftshell.engines.guard import LOSS, PROBE, Guard, Trip
from swiftshell.engines.training import is_metric
from swiftshell.stages.base import Context

_KEPT = 4  # good snapshots kept on disk


class GuardCallback(TrainerCallback, ExportableState):
    """Watch one leg.

    Its state goes into each checkpoint's `trainer_state.json`, so a resumed leg knows exactly what it knew there.

    Args:
        place: the leg's folder.
        offset: optimizer steps of the whole training before this leg; the trainer's own count starts at 0.
        every: optimizer steps between snapshots; 0 uses the trainer's own checkpoints (full fine-tuning).
        measure: returns the KL on generated answers; None: not asked for.
    """

    def __init__(
        self,
        guard: Guard,
        ctx: Context,
        place: Path,
        *,
        offset: int,
        every: int,
        measure: Callable[[], float] | None = None,
    ) -> None:
        self.guard, self.trip = guard, None
        self._ctx, self._place, self._offset, self._every, self._measure = ctx, place, offset, every, measure
        self._aside: list[dict[str, Any]] = []
        self._unsynced: list[int] = []  # snapshots that a power failure could still undo
        self._output_dir = Path()

    trip: Trip | None

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; the weights it lists are on the disk by then."""
        while self._unsynced:
            if (folder := self._folder(self._unsynced.pop())).is_dir():
                guard_legs.sync(folder)
        return {
            "args": {},
            "attributes": {"guard": self.guard.as_json(), "aside": [dict(e) for e in self._aside]},
        }

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        self._output_dir = Path(args.output_dir)
        told = state.stateful_callbacks.get(type(self).__name__) if state.global_step else None
        if told:
            self.guard.restore(told["attributes"]["guard"])
            self._aside = told["attributes"]["aside"]
            if not self._every:  # the checkpoint was written before it could be listed in itself
                self._put_aside(state.global_step)
        else:
            shutil.rmtree(self._place / "snapshots", ignore_errors=True)
            if self._every and not self._offset:
                guard_legs.write_weights(model, self._place / "start")
                guard_legs.sync(self._place / "start")
        state.stateful_callbacks.setdefault(type(self).__name__, self.state())

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        step = state.global_step
        if self._every and step % self._every == 0 and step < state.max_steps:
            guard_legs.write_weights(model, self._folder(step))
            self._unsynced.append(step)
            self._put_aside(step)
        settings = self.guard.settings
        if self._measure is not None and step % settings.probe_steps == 0:
            value = self._measure()
            self.guard.observe_probe(value)
            self._ctx.metric(PROBE, value, self._offset + step)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        if self.trip is not None or LOSS not in (logs or {}):
            return
        numbers = {n: float(v) for n, v in (logs or {}).items() if is_metric(n, v)}
        self.trip = self.guard.observe(self._offset + state.global_step, numbers)
        self._judge_aside(state.global_step)
        if self.trip is not None:
            control.should_training_stop = True
            # A checkpoint of a drifted policy would be what a resumed run starts from.
            control.should_save = control.should_evaluate = False

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if not self._every:
            self._put_aside(state.global_step)

    def newest_good(self) -> tuple[int, float, Path] | None:
        """Return step (of this leg), gap and folder of the newest weights put aside while all was well."""
        return next(reversed(self._good()), None)

    def best_good(self) -> tuple[int, float, Path] | None:
        """Return the same of those that told desirable from undesirable answers best."""
        return max(self._good(), key=lambda g: g[1], default=None)

    def _good(self) -> list[tuple[int, float, Path]]:
        found = [(e["step"], e["gap"], self._folder(e["step"])) for e in self._aside if e["good"]]
        return [g for g in found if guard_legs.whole(g[2])]

    def _folder(self, step: int) -> Path:
        if not self._every:
            return self._output_dir / f"checkpoint-{step}"
        return self._place / "snapshots" / f"step-{self._offset + step:06d}"

    def _put_aside(self, step: int) -> None:
        self._aside = [e for e in self._aside if e["step"] < step]
        self._aside.append({"step": step, "good": None, "gap": 0.0})

    def _judge_aside(self, step: int) -> None:
        """Judge weights once the averages have forgotten what came before them: at their own step it is too early to tell."""
        for entry in self._aside:
            if entry["good"] is None and step >= entry["step"] + self.guard.settings.smoothing_steps:
                entry["good"], entry["gap"] = self.trip is None and self.guard.healthy, self.guard.gap
        good = [e for e in self._aside if e["good"]]
        kept = [e for e in self._aside if e["good"] is None or e in good[-_KEPT:]]
        if self._every:
            for entry in self._aside:
                if entry not in kept:
                    guard_legs.remove(self._folder(entry["step"]))
        self._aside = kept
