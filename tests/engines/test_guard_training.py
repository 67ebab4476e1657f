"""The guard around real trainings: a collapse is rescued, giving up is honest, and a kill anywhere changes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from swiftshell.engines import guard_legs, trl_kto
from swiftshell.errors import SwiftshellError
from swiftshell.run.checkpoints import newest_valid
from swiftshell.stages.base import Outcome, StepRequest, Stopped
from tests.engines.conftest import (
    FAST,
    FakeContext,
    Ran,
    data_ref,
    make_request,
    model_ref,
)

pytestmark = pytest.mark.engine


class Killed(BaseException):
    """Ends the process's work where it is raised: nothing that the engine does on errors may help it."""


class Doomed(FakeContext):
    """A context in which the process dies at the n-th time that something is told (a metric, a note), counted over all."""

    dies: Callable[[str, int | None], bool] = staticmethod(lambda name, step: False)

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        super().metric(name, value, step)
        if self.dies(name, step):
            raise Killed

    def note(self, code: str, **values: Any) -> None:
        super().note(code, **values)
        if self.dies(code, None):
            raise Killed

    warn = note


# A random model on a learning rate far too high, under limits so tight that it must trip within a few steps.
TIGHT = {
    "patience_steps": 2,
    "smoothing_steps": 1,
    "min_chosen_logratio": -0.02,
    "max_kl": 0.02,
    "snapshot_steps": 2,
}
PARAMS = {**FAST, "max_steps": 12, "save_steps": 3, "learning_rate": 1e-2, "guard": TIGHT}


@pytest.fixture(scope="module")
def request_of(sft: Ran, colours: dict[str, Path]) -> Callable[..., StepRequest]:
    inputs = {
        "policy": sft.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "train_data": data_ref(colours["kto"]),
    }

    def make(resume_from: Path | None = None, **over: Any) -> StepRequest:
        params = {**PARAMS, **over, "guard": {**TIGHT, **over.get("guard", {})}}
        return make_request("kto", params, inputs, resume_from=resume_from)

    return make


def story(ctx: FakeContext) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((ctx.checkpoints / "legs.json").read_text(encoding="utf-8"))
    return told


def trained(ctx: FakeContext) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(ctx.out / "adapter" / "adapter_model.safetensors")


@pytest.fixture(scope="module")
def whole(
    request_of: Callable[..., StepRequest], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Outcome, FakeContext]:
    """Return the same training undisturbed."""
    ctx = FakeContext(tmp_path_factory.mktemp("whole") / "step")
    return trl_kto.run(request_of(), ctx), ctx


def test_the_story_is_told(whole: tuple[Outcome, FakeContext]) -> None:
    outcome, ctx = whole
    told = story(ctx)
    legs = told["legs"]
    assert len(legs) > 1, "the limits are so tight that it must have tripped"
    assert told["gave_up"] is None
    for before, after in pairwise(legs):
        assert after["start_step"] == before["back_to"] < before["trip"]["step"]
        assert after["learning_rate"] == pytest.approx(before["learning_rate"] / 2)
        assert after["beta"] == pytest.approx(min(before["beta"] * 1.5, 0.5))
    assert legs[-1]["trip"] is None
    assert outcome.summary["guard"]["legs"] == legs
    assert outcome.summary["guard"]["restarts"] == len(legs) - 1
    assert outcome.gate == []
    assert ctx.codes().count("guard.restarted") == len(legs) - 1
    assert [leg["trip"]["code"] in ctx.codes() for leg in legs[:-1]] == [True] * (len(legs) - 1)


def test_steps_are_those_of_the_whole_training(whole: tuple[Outcome, FakeContext]) -> None:
    outcome, ctx = whole
    assert outcome.metrics["global_step"] == 12
    assert outcome.summary["optimizer_steps"] == 12
    steps = [s for n, _, s in ctx.metrics if n == "loss"]
    assert steps[-1] == 12
    assert steps[0] == 1
    legs = story(ctx)["legs"]
    expected: list[int] = []
    for leg in legs:
        expected += range(leg["start_step"] + 1, (leg["trip"] or {"step": 12})["step"] + 1)
    assert steps == expected
    assert {total for _, total, unit in ctx.progressed if unit == "steps"} == {12}


def test_rows_go_on_where_the_kept_steps_ended(
    request_of: Callable[..., StepRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each optimizer step sees the rows that it would have seen without a restart."""
    from swiftshell.engines.kto_trainer import WeightedKTOTrainer

    seen: list[tuple[int, list[list[int]]]] = []
    inside = WeightedKTOTrainer.compute_loss
    ctx = FakeContext(tmp_path / "step")

    def spy(self: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        shown = int(ctx.progressed[-1][0])
        seen.append((shown, inputs["input_ids"].tolist()))
        return inside(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(WeightedKTOTrainer, "compute_loss", spy)
    trl_kto.run(request_of(gradient_accumulation_steps=2, max_steps=8), ctx)
    assert len(story(ctx)["legs"]) > 1
    by_step: dict[int, list[list[list[int]]]] = {}
    for step, ids in seen:
        by_step.setdefault(step, []).append(ids)
    again = [batches for batches in by_step.values() if len(batches) > 2]
    assert again, "no step was trained twice"
    for batches in again:
        for at in range(2, len(batches), 2):
            assert batches[at : at + 2] == batches[:2]


@pytest.mark.parametrize(
    "dies",
    ["first leg", "guard.restarted", "second leg, before its checkpoint", "second leg, after its checkpoint"],
)
def test_killed_anywhere_it_ends_the_same(
    dies: str,
    whole: tuple[Outcome, FakeContext],
    request_of: Callable[..., StepRequest],
    tmp_path: Path,
) -> None:
    import torch

    outcome, expected = whole
    legs = story(expected)["legs"]
    first_trip, second = legs[0]["trip"]["step"], legs[1]
    losses = [(s, v) for n, v, s in expected.metrics if n == "loss"]
    after_first = [i for i, (s, _) in enumerate(losses) if s == second["start_step"] + 1][
        -1 if len(legs) == 2 else 0
    ]

    state = {"legs": 0}

    def when(name: str, step: int | None) -> bool:
        if name == "guard.restarted":
            state["legs"] += 1
            return dies == name and state["legs"] == 1
        if name != "loss":
            return False
        if dies == "first leg":
            return step == first_trip - 1
        if dies.startswith("second leg") and state["legs"] == 1:
            return step == second["start_step"] + (2 if "before" in dies else 4)
        return False

    ctx = Doomed(tmp_path / "step")
    ctx.dies = when
    with pytest.raises(Killed):
        trl_kto.run(request_of(), ctx)
    again = FakeContext(tmp_path / "step")
    resumed = trl_kto.run(request_of(newest_valid(again.checkpoints)), again)
    assert story(again) == story(expected)
    mine = [(s, v) for n, v, s in again.metrics if n == "loss"]
    assert mine == losses[len(losses) - len(mine) :]
    assert len(mine) > 0
    if dies != "first leg":
        assert len(mine) <= len(losses) - after_first, "nothing of the first leg was trained again"
    for name, value in trained(expected).items():
        assert torch.equal(trained(again)[name], value), name
    assert resumed.metrics["train_loss"] == outcome.metrics["train_loss"]


def test_stopped_and_resumed_in_a_later_leg_it_ends_the_same(
    whole: tuple[Outcome, FakeContext], request_of: Callable[..., StepRequest], tmp_path: Path
) -> None:
    import torch

    _, expected = whole
    ctx = Doomed(tmp_path / "step")
    restarts: list[int] = []

    def note_restarts(name: str, step: int | None) -> bool:
        if name == "guard.restarted":
            restarts.append(len(ctx.progressed))
        return False

    ctx.dies = note_restarts
    # One report when the leg begins, then one a step: this asks for a stop after its first.
    ctx.stop_requested = lambda: bool(restarts) and len(ctx.progressed) >= restarts[0] + 2  # type: ignore[method-assign]
    with pytest.raises(Stopped):
        trl_kto.run(request_of(), ctx)
    again = FakeContext(tmp_path / "step")
    point = newest_valid(again.checkpoints)
    assert point is not None
    assert (point.parent.name, point.name) == ("leg-1", "checkpoint-1")
    trl_kto.run(request_of(point), again)
    assert "guard.resumed" in again.codes()
    for name, value in trained(expected).items():
        assert torch.equal(trained(again)[name], value), name


def test_giving_up_keeps_the_best_and_does_not_call_it_good(
    request_of: Callable[..., StepRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the seventh step on every loss is broken, whatever the guard does."""
    import torch

    from swiftshell.engines.kto_trainer import WeightedKTOTrainer

    hopeless = {"max_restarts": 1, "min_chosen_logratio": -50.0, "max_kl": 50.0}
    ctx = FakeContext(tmp_path / "step")
    inside = WeightedKTOTrainer.compute_loss

    def broken_at_the_end(*args: Any, **kwargs: Any) -> Any:
        return inside(*args, **kwargs) * (float("nan") if ctx.progressed[-1][0] >= 6 else 1.0)

    monkeypatch.setattr(WeightedKTOTrainer, "compute_loss", broken_at_the_end)
    outcome = trl_kto.run(request_of(guard=hopeless), ctx)
    told = story(ctx)
    assert [leg["trip"]["step"] for leg in told["legs"]] == [7, 7]
    assert [leg["back_to"] for leg in told["legs"]] == [4, 4]
    assert told["gave_up"] == {"step": 4, "total": 12, "code": "guard.not_finite"}
    assert [p.code for p in outcome.gate] == ["guard.gave_up"]
    assert outcome.gate[0].values["restarts"] == 1
    assert outcome.metrics["global_step"] == 4
    assert all(torch.isfinite(v).all() for v in trained(ctx).values())
    kept = guard_legs.whole(ctx.checkpoints / "best")
    assert kept

    # A process that dies after giving up, before its outcome, only has to put the best weights in again.
    again = FakeContext(tmp_path / "step")
    first = trained(ctx)
    second = trl_kto.run(request_of(newest_valid(again.checkpoints), guard=hopeless), again)
    assert [p.code for p in second.gate] == ["guard.gave_up"]
    assert again.series("loss") == []
    for name, value in first.items():
        assert torch.equal(trained(again)[name], value), name


def test_drifting_from_the_start_leaves_the_policy_as_it_was(
    request_of: Callable[..., StepRequest], sft: Ran, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    hopeless = {"max_restarts": 1, "learning_rate_factor": 1.0, "beta_factor": 1.0}
    ctx = FakeContext(tmp_path / "step")
    outcome = trl_kto.run(request_of(guard=hopeless), ctx)
    assert [p.code for p in outcome.gate] == ["guard.gave_up_at_start"]
    before = load_file(sft.artifacts["adapter"] / "adapter_model.safetensors")
    assert all(torch.equal(trained(ctx)[name], value) for name, value in before.items())


def test_a_loss_that_is_never_finite_is_a_failure(
    request_of: Callable[..., StepRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swiftshell.engines.kto_trainer import WeightedKTOTrainer

    inside = WeightedKTOTrainer.compute_loss
    monkeypatch.setattr(WeightedKTOTrainer, "compute_loss", lambda *a, **k: inside(*a, **k) * float("nan"))
    ctx = FakeContext(tmp_path / "step")
    with pytest.raises(SwiftshellError) as caught:
        trl_kto.run(request_of(guard={"max_restarts": 1}), ctx)
    assert caught.value.problems[0].code == "train.diverged"
    assert caught.value.exit_code == 3
    assert ctx.codes().count("guard.not_finite") == 2


def test_a_loss_that_is_not_finite_once_is_survived(
    request_of: Callable[..., StepRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are gone after such a step: every later number would be NaN."""
    import torch

    from swiftshell.engines.kto_trainer import WeightedKTOTrainer

    inside, calls = WeightedKTOTrainer.compute_loss, []

    def once(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        loss = inside(*args, **kwargs)
        return loss * float("nan") if len(calls) == 9 else loss

    monkeypatch.setattr(WeightedKTOTrainer, "compute_loss", once)
    ctx = FakeContext(tmp_path / "step")
    quiet = {"min_chosen_logratio": -50.0, "max_kl": 50.0}
    outcome = trl_kto.run(request_of(guard=quiet, learning_rate=1e-4), ctx)
    assert [leg["trip"] and leg["trip"]["code"] for leg in story(ctx)["legs"]] == ["guard.not_finite", None]
    assert outcome.gate == []
    assert all(torch.isfinite(v).all() for v in trained(ctx).values())


def test_switched_off_it_changes_nothing(request_of: Callable[..., StepRequest], tmp_path: Path) -> None:
    """And switched on without a trip, it changes no number either."""
    import torch

    off, on = FakeContext(tmp_path / "off"), FakeContext(tmp_path / "on")
    trl_kto.run(request_of(guard={"enabled": False}), off)
    trl_kto.run(request_of(guard={"min_chosen_logratio": -50.0, "max_kl": 50.0}), on)
    assert not (off.checkpoints / "leg-0").exists()
    assert off.series("loss") == on.series("loss")
    for name, value in trained(off).items():
        assert torch.equal(trained(on)[name], value), name


def test_the_probe_measures_and_disturbs_nothing(
    request_of: Callable[..., StepRequest], tmp_path: Path
) -> None:
    wide = {"min_chosen_logratio": -50.0, "max_kl": 50.0}
    plain, probed = FakeContext(tmp_path / "plain"), FakeContext(tmp_path / "probed")
    trl_kto.run(request_of(max_steps=6, guard=wide), plain)
    trl_kto.run(request_of(max_steps=6, guard={**wide, "probe_prompts": 4, "probe_steps": 3}), probed)
    assert plain.series("loss") == probed.series("loss")
    measured = [(s, v) for n, v, s in probed.metrics if n == "kl/probe"]
    assert [s for s, _ in measured] == [3, 6]
    assert measured[-1][1] > 0, "on the policy's own answers the KL is not negative but for noise"


def test_full_fine_tuning_goes_back_to_its_checkpoints(
    tiny: Path, colours: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from safetensors.torch import load_file

    from swiftshell.engines.kto_trainer import WeightedKTOTrainer

    inside = WeightedKTOTrainer.compute_loss

    def broken_in_the_first_leg(self: Any, *args: Any, **kwargs: Any) -> Any:
        broken = self.model.training and self.state.global_step == 6 and "leg-" not in self.args.output_dir
        return inside(self, *args, **kwargs) * (float("nan") if broken else 1.0)

    monkeypatch.setattr(WeightedKTOTrainer, "compute_loss", broken_in_the_first_leg)
    inputs = {
        "policy": model_ref("policy", tiny),
        "reference": model_ref("reference", tiny),
        "train_data": data_ref(colours["kto"]),
    }
    wide = {**TIGHT, "min_chosen_logratio": -50.0, "max_kl": 50.0}
    params = {
        **PARAMS,
        "tuning": "full",
        "learning_rate": 1e-3,
        "save_steps": 2,
        "max_steps": 10,
        "guard": wide,
    }
    ctx = FakeContext(tmp_path / "whole")
    outcome = trl_kto.run(make_request("kto", params, inputs), ctx)
    first, second = story(ctx)["legs"]
    assert (first["trip"]["code"], first["trip"]["step"]) == ("guard.not_finite", 7)
    assert first["back_to"] == second["start_step"] == 4, (
        "checkpoint 6 was never judged: the next step failed"
    )
    assert outcome.metrics["global_step"] == 10
    assert outcome.gate == []
    doomed = Doomed(tmp_path / "killed")
    doomed.dies = lambda name, step: name == "guard.restarted"
    with pytest.raises(Killed):
        trl_kto.run(make_request("kto", params, inputs), doomed)
    again = FakeContext(tmp_path / "killed")
    trl_kto.run(make_request("kto", params, inputs, resume_from=newest_valid(again.checkpoints)), again)
    assert story(again) == story(ctx)
    assert [s for n, _, s in again.metrics if n == "loss"] == list(range(5, 11))
    ours, theirs = (load_file(c.out / "model" / "model.safetensors") for c in (ctx, again))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(torch.isfinite(value).all() for value in ours.values())
