"""Train under the guard: in legs, each going back to good weights and held tighter than the one before.

A restart uses the trainer there is: its model (never wrapped again: a PeftModel given to TRL would become the reference),
its tokenized rows and what the reference says of them. New are the optimizer, the learning rate and its schedule over the
steps that are left, and beta, which TRL reads at every step. transformers' own resume is used inside a leg only: across
legs it would keep the old learning rate (docs/decisions.md).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import set_seed

from swiftshell.engines import guard_legs, loading, training
from swiftshell.engines.arguments import checkpoint_argument
from swiftshell.engines.callbacks import BeforeFirstStep, ShellCallback
from swiftshell.engines.guard import Guard, Trip
from swiftshell.engines.guard_legs import Leg, Legs
from swiftshell.engines.guard_probe import GeneratedProbe, choose_prompts
from swiftshell.engines.guard_watch import GuardCallback
from swiftshell.errors import Problem, fail
from swiftshell.run.files import write_json
from swiftshell.stages.base import Context, Outcome, StepRequest, Stopped


class Guarded:
    """Stands in for `training.train`; afterwards it adds its story to the outcome."""

    def __init__(self) -> None:
        self._legs: Legs | None = None

    def train(self, trainer: Any, request: StepRequest, ctx: Context) -> None:
        """Train to the end, or until the guard gives up.

        Raises:
            Stopped: a stop was asked for; a new attempt goes on from here.
            SwiftshellError: the loss is not finite whatever was tried.
        """
        settings, params = request.params.guard, request.params
        if not settings.enabled:
            training.train(trainer, request, ctx)
            return
        self._legs = Legs.read(ctx.checkpoints, params.learning_rate, params.beta)
        LegByLeg(trainer, request, ctx, self._legs).train()

    def tell(self, outcome: Outcome) -> Outcome:
        """Add the legs to the summary; after giving up the result is kept and not called good."""
        if self._legs is None:
            return outcome
        restarts, gave_up = len(self._legs.all) - 1, self._legs.gave_up
        legs = self._legs.as_json()["legs"]
        outcome.summary["guard"] = {"legs": legs, "restarts": restarts, "gave_up": gave_up}
        if gave_up is not None:
            first = self._legs.all[0].learning_rate
            values = {"restarts": restarts, "learning_rate": first}
            where = {"step": gave_up["step"], "total": gave_up["total"]}
            outcome.gate.append(
                Problem("guard.gave_up", {**values, **where})
                if gave_up["step"]
                else Problem("guard.gave_up_at_start", values)
            )
        return outcome


class LegByLeg:
    """One guarded training in one process."""

    def __init__(self, trainer: Any, request: StepRequest, ctx: Context, legs: Legs) -> None:
        self._trainer, self._request, self._ctx, self._legs = trainer, request, ctx, legs
        self._settings = request.params.guard
        self._rows, self._total = trainer.train_dataset, trainer.args.max_steps
        self._policy = loading.stack_of(request.input("policy"))
        self._precision = loading.choose_precision(request.params, self._policy.base)
        self._resume: Path | None = request.resume_from

    def train(self) -> None:
        """Run legs until one ends by itself or no more are allowed; then tell the whole as one training."""
        training.quiet_trainer(self._trainer)
        self._join_story()
        while self._legs.gave_up is None:
            watch = self._run_leg()
            if watch.trip is None:
                break
            self._go_back(watch.trip, watch)
            if self._ctx.stop_requested() and self._legs.gave_up is None:
                raise Stopped
        self._end_story()
        training.evaluate_at_end(self._trainer, self._ctx, always=self._legs.gave_up is not None)

    def _join_story(self) -> None:
        """Prepare for a later leg than the first: what has to be proven before a first step is proven on all rows, now."""
        shell = self._callback(ShellCallback)
        shell.raises_on_divergence = False
        leg = self._legs.current
        if leg.number == 0 and self._legs.gave_up is None:
            return
        self._legs.forget_before_current()  # in case the last process died on it
        if self._resume is None or self._resume.parent != self._legs.output_dir:
            self._resume = None
        first = self._callback(BeforeFirstStep)
        for action in first.actions:
            action()
        first.actions = []
        if self._legs.gave_up is not None:
            return
        self._ctx.note(
            "guard.resumed", leg=leg.number, learning_rate=leg.learning_rate, beta=round(leg.beta, 4)
        )
        if self._resume is not None:
            folder = self._resume
            first.actions = [lambda: training.restore_default(self._trainer, folder)]

    def _run_leg(self) -> GuardCallback:
        """Train the current leg to its end, to a trip, or to a stop."""
        resume, self._resume = self._resume, None
        self._set_up(fresh=resume is None)
        watch = self._watch()
        self._trainer.add_callback(watch)
        self._trainer.train(resume_from_checkpoint=checkpoint_argument(resume))
        self._trainer.remove_callback(watch)
        # The reference is proven, and no later leg begins with what this one was resumed from.
        self._callback(BeforeFirstStep).actions = []
        state = self._trainer.state
        if watch.trip is None and self._ctx.stop_requested() and state.global_step < state.max_steps:
            raise Stopped
        return watch

    def _set_up(self, *, fresh: bool) -> None:
        trainer, leg, args = self._trainer, self._legs.current, self._trainer.args
        shell = self._callback(ShellCallback)
        shell.offset, shell.total = leg.start_step, self._total
        if leg.number == 0:
            return
        rows_a_step = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
        trainer.train_dataset = self._rows.select(range(leg.start_step * rows_a_step, len(self._rows)))
        args.max_steps, args.learning_rate = self._total - leg.start_step, leg.learning_rate
        args.output_dir = str(self._legs.output_dir)
        args.beta = trainer.beta = leg.beta
        trainer.optimizer = trainer.lr_scheduler = None
        if fresh:
            self._load(leg.weights)
            set_seed(self._request.seed + leg.number)  # the same whether or not a new process begins the leg

    def _watch(self) -> GuardCallback:
        leg, given = self._legs.current, self._settings.snapshot_steps
        guard = Guard(self._settings, leg.beta, first_step=leg.start_step, start=leg.seen)
        every = 0 if self._request.params.tuning == "full" else given or max(5, self._total // 20)
        return GuardCallback(
            guard, self._ctx, self._legs.place, offset=leg.start_step, every=every, measure=self._probe()
        )

    def _probe(self) -> Callable[[], float] | None:
        """Return what measures the KL on generated answers, if that was asked for and the rows are text."""
        if not self._settings.probe_prompts:
            return None
        if "prompt_ids" not in self._rows.column_names:
            self._ctx.warn("guard.probe_needs_text")
            return None
        room = self._trainer.args.max_length // 2
        prompts = choose_prompts(self._rows, self._settings.probe_prompts, room)
        return GeneratedProbe(self._trainer, prompts, self._precision, self._request.seed).measure

    def _go_back(self, trip: Trip, watch: GuardCallback) -> None:
        """Choose the weights to go back to, write down the next leg, or that there is none."""
        leg = self._legs.current
        gives_up = leg.number >= self._settings.max_restarts
        found = watch.best_good() if gives_up else watch.newest_good()
        if gives_up and found is not None and leg.weights and leg.gap > found[1]:
            found = None
        local, gap, folder = found or (0, leg.gap, self._place_of(leg.weights))
        step = leg.start_step + local
        self._ctx.warn(trip.code, step=trip.step, found=_rounded(trip.found), limit=_rounded(trip.limit))
        leg.trip, leg.back_to = trip.as_json(), step
        history = [*self._legs.history(), *self._own_history(local)]
        if gives_up:
            self._give_up(trip, step, folder, history)
            return
        s = self._settings
        beta = max(leg.beta, min(leg.beta * s.beta_factor, s.max_beta))
        seen = watch.guard.state.start
        new = Leg(leg.number + 1, step, leg.learning_rate * s.learning_rate_factor, beta, "", gap, seen)
        new.weights = f"leg-{new.number}/start"
        guard_legs.keep_folder(folder, self._legs.folder / new.weights)
        self._legs.all.append(new)
        write_json(self._legs.place / guard_legs.HISTORY, history)
        self._legs.write()
        self._legs.forget_before_current()
        self._ctx.note(
            "guard.restarted",
            step=step,
            learning_rate=new.learning_rate,
            beta=round(beta, 4),
            left=self._settings.max_restarts - new.number,
        )

    def _give_up(self, trip: Trip, step: int, folder: Path, history: list[dict[str, Any]]) -> None:
        best = self._legs.folder / guard_legs.BEST
        guard_legs.keep_folder(folder, best)
        write_json(best / guard_legs.HISTORY, history)
        self._legs.gave_up = {"step": step, "total": self._total, "code": trip.code}
        self._legs.write()

    def _end_story(self) -> None:
        """Let the trainer's state tell the whole training in steps of the whole, and put the best weights in if given up.

        Raises:
            SwiftshellError: no step ever led anywhere but to a loss that is not finite.
        """
        state, leg, gave_up = self._trainer.state, self._legs.current, self._legs.gave_up
        if gave_up is None:
            state.log_history = [*self._legs.history(), *self._own_history(state.global_step)]
            state.global_step += leg.start_step
        else:
            if gave_up["code"] == "guard.not_finite" and not gave_up["step"]:
                raise fail(
                    "train.diverged",
                    exit_code=3,
                    step=leg.trip["step"] if leg.trip else 0,
                    loss=float("nan"),
                    learning_rate=leg.learning_rate,
                )
            self._load(guard_legs.BEST)
            state.log_history = self._legs.history(given_up=True)
            state.global_step = gave_up["step"]
        self._legs.forget_snapshots()
        state.max_steps = self._total
        shell = self._callback(ShellCallback)
        shell.offset = 0

    def _own_history(self, until: int) -> list[dict[str, Any]]:
        """Return what the current leg logged up to one of its steps, in steps of the whole training."""
        start = self._legs.current.start_step
        logged = [e for e in self._trainer.state.log_history if e.get("step", 0) <= until]
        return [{**e, "step": e["step"] + start} if "step" in e else e for e in logged]

    def _place_of(self, weights: str) -> Path:
        """Return the folder of a leg's first weights; a whole model trains from the policy that it was given."""
        if weights:
            return self._legs.folder / weights
        return self._policy.base if self._request.params.tuning == "full" else self._legs.place / "start"

    def _load(self, weights: str) -> None:
        guard_legs.load_weights(self._trainer.model, self._place_of(weights), self._precision)

    def _callback(self, kind: type[Any]) -> Any:
        return next(c for c in self._trainer.callback_handler.callbacks if isinstance(c, kind))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
