"""Interrupted and resumed equals uninterrupted: the same losses, the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swiftshell.run.checkpoints import newest_valid, wrong
from swiftshell.stages.base import Stopped
from tests.engines.conftest import FAST, Ran, Runner, data_ref, make_runner, model_ref

pytestmark = pytest.mark.engine

PARAMS = {**FAST, "max_steps": 7, "save_steps": 100, "gradient_accumulation_steps": 2}


def weights(ran: Ran) -> dict[str, Any]:
    from safetensors.torch import load_file

    (folder,) = ran.artifacts.values()
    return load_file(next(iter(folder.glob("*.safetensors"))))


def assert_same(whole: Ran, resumed: Ran, first_losses: list[float]) -> None:
    """The two runs took the same steps to the same place, to the last bit that a file can hold."""
    import torch

    losses = first_losses + resumed.ctx.series("loss")
    assert losses == pytest.approx(whole.ctx.series("loss"), abs=1e-6)
    assert resumed.outcome.metrics["train_loss"] == pytest.approx(
        whole.outcome.metrics["train_loss"], abs=1e-6
    )
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(resumed)[name], value, atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("case", "tuning"),
    [
        ("sft", "lora"),
        ("kto", "lora"),
        ("kto continued", "lora"),
        ("dpo", "lora"),
        ("sft", "full"),
        ("kto", "full"),
        ("dpo", "full"),
    ],
)
def test_resume(
    case: str,
    tuning: str,
    sft: Ran,
    tiny: Path,
    colours: dict[str, Path],
    run_step: Runner,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    stage = case.split()[0]
    params = {**PARAMS, "tuning": tuning, **({"learning_rate": 2e-3} if tuning == "full" else {})}
    if stage == "kto":  # steps this large are what the guard is there for; its own restarts are tested elsewhere
        params["guard"] = {"enabled": False}
    policy = model_ref("policy", tiny) if tuning == "full" or stage == "sft" else sft.ref("adapter", "policy")
    reference = (
        {}
        if stage == "sft"
        else {
            "reference": model_ref("reference", tiny) if tuning == "full" else sft.ref("adapter", "reference")
        }
    )
    if case == "kto continued":
        earlier = make_runner(tmp_path_factory.mktemp("earlier"))(
            "kto", FAST, {"policy": policy, **reference, "train_data": data_ref(colours["kto"])}
        )
        policy = earlier.ref("adapter", "policy")
    inputs = {"policy": policy, **reference, "train_data": data_ref(colours[stage])}
    whole = run_step(stage, params, inputs, name="whole")

    with pytest.raises(Stopped):
        run_step(stage, params, inputs, name="parts", stop_at=3)
    parts = whole.ctx.root.parent / "parts"
    checkpoint = newest_valid(parts / "checkpoints")
    assert checkpoint is not None
    assert checkpoint.name == "checkpoint-3"
    resumed = run_step(stage, params, inputs, name="parts", resume_from=checkpoint)
    assert len(resumed.ctx.series("loss")) == 4
    assert_same(whole, resumed, whole.ctx.series("loss")[:3])


def test_a_checkpoint_that_lost_a_file_is_not_resumed_from(
    tiny: Path, colours: dict[str, Path], run_step: Runner, tmp_path: Path
) -> None:
    run_step(
        "sft",
        {**FAST, "save_steps": 2},
        {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])},
        name="cut",
    )
    folder = tmp_path / "cut" / "checkpoints"
    newest = newest_valid(folder)
    assert newest is not None
    assert newest.name == "checkpoint-6"
    weights_file = newest / "adapter_model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-40])
    assert wrong(newest)
    older = newest_valid(folder)
    assert older is not None
    assert older.name == "checkpoint-4"
