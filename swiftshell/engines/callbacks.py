"""Connect a transformers Trainer to the shell: progress, metrics, checkpoints, stopping, a check before step 1."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from swiftshell.engines.training import is_metric
from swiftshell.errors import fail
from swiftshell.stages.base import Context


class ShellCallback(TrainerCallback):
    """Report to the shell and obey its wish to stop.

    Attributes:
        offset, total: optimizer steps before the trainer's own first one, and of the whole training (None: the trainer's):
            a guarded training is told as one, however often it started again.
        raises_on_divergence: False if a guard deals with a loss that is not finite.
    """

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self.offset = 0
        self.total: int | None = None
        self.raises_on_divergence = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._ctx.phase("training")
        self._progress(state)

    def _progress(self, state: Any) -> None:
        self._ctx.progress(self.offset + state.global_step, self.total or state.max_steps, "steps")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._progress(state)
        if self._ctx.stop_requested() and state.global_step < state.max_steps:
            control.should_save = True
            control.should_training_stop = True

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        for name, value in (logs or {}).items():
            if is_metric(name, value):
                self._ctx.metric(name, float(value), self.offset + state.global_step)
        loss = (logs or {}).get("loss")
        if self.raises_on_divergence and isinstance(loss, float) and not math.isfinite(loss):
            raise fail(
                "train.diverged",
                exit_code=3,
                step=state.global_step,
                loss=loss,
                learning_rate=args.learning_rate,
            )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._ctx.checkpoint(Path(args.output_dir) / f"checkpoint-{state.global_step}", self.offset + state.global_step)


class BeforeFirstStep(TrainerCallback):
    """Call functions when everything is loaded (a checkpoint too) and nothing has been learned yet, in order."""

    def __init__(self, *actions: Callable[[], None]) -> None:
        self.actions = list(actions)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for action in self.actions:
            action()
