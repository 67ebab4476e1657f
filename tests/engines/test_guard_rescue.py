"""A learning rate that destroys the starter: without the guard it does, with it the model is better than before."""

from __future__ import annotations

import json

import pytest

from tests.engines.conftest import STARTER, Ran, data_ref, make_runner, model_ref

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def rescued(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Return the starter trained at a learning rate a hundred times too high, without and with the guard."""
    run = make_runner(tmp_path_factory.mktemp("rescue"))
    settings = json.loads((STARTER / "settings.json").read_text(encoding="utf-8"))["kto"]
    params = {
        **settings,
        "per_device_train_batch_size": 8,
        "max_steps": 40,
        "warmup_steps": 0,
        "learning_rate": 3e-2,
    }
    inputs = {
        "policy": model_ref("policy", STARTER / "model"),
        "reference": model_ref("reference", STARTER / "model"),
        "train_data": data_ref(STARTER / "data" / "kto.jsonl"),
        "eval_data": data_ref(STARTER / "data" / "heldout.jsonl", "eval_data", limit=96),
    }
    guards = {"unguarded": {"enabled": False}, "guarded": {"learning_rate_factor": 0.1}}
    return {
        name: run("kto", {**params, "guard": g}, inputs, name=name, seed=42) for name, g in guards.items()
    }


def test_a_collapse_is_rescued(rescued: dict[str, Ran]) -> None:
    ends = {name: ran.outcome.summary["heldout"]["end"] for name, ran in rescued.items()}
    assert ends["unguarded"]["preference_auc"] < 0.6, (
        "this learning rate must destroy the model, or nothing is shown"
    )
    assert ends["guarded"]["preference_auc"] > 0.8
    margins = {n: e["reward_chosen"] - e["reward_rejected"] for n, e in ends.items()}
    assert margins["guarded"] > 0 > margins["unguarded"]
    legs = rescued["guarded"].outcome.summary["guard"]["legs"]
    assert [leg["trip"]["code"] for leg in legs[:-1]] == ["guard.chosen_fell"] * (len(legs) - 1)
    assert legs[-1]["trip"] is None
    assert max(rescued["unguarded"].ctx.series("kl")[5:]) < 0.5, "what TRL logs shows nothing of it"
