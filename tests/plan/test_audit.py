"""What `run audit` chooses: the model KTO would start from, with settings that suit it; no model is no obstacle."""

from __future__ import annotations

import json
from pathlib import Path

from swiftshell.plan.quick import STARTER_FOLDER
from tests.plan.support import made
from tests.plan.test_quick import chosen, quick


def test_the_newest_sft_model_is_asked_with_the_starters_settings(workspace: Path) -> None:
    made(workspace, "sft")
    sft = made(workspace, "sft")
    found = quick(workspace, "audit")
    assert chosen(found, "policy") == str(sft)
    settings = json.loads((STARTER_FOLDER / "settings.json").read_text(encoding="utf-8"))["kto"]
    params = found.recipe["steps"][0]["params"]
    assert params["learning_rate"] == settings["learning_rate"]
    assert "num_train_epochs" not in params, "an audit's probes have their own"
    assert found.recipe["data"]["train"] == {"starter": "kto"}


def test_without_a_model_only_the_rows_are_asked(workspace: Path) -> None:
    rows = workspace / "rows.jsonl"
    rows.write_text("{}\n", encoding="utf-8")
    found = quick(workspace, "audit", data=str(rows))
    assert list(found.recipe["steps"][0]["inputs"]) == ["train_data"]
    assert found.recipe["steps"][0]["params"] == {}


def test_a_named_model_of_another_family_gets_the_stages_defaults(workspace: Path) -> None:
    folder = workspace / "mine"
    folder.mkdir()
    rows = workspace / "rows.jsonl"
    rows.write_text("{}\n", encoding="utf-8")
    found = quick(workspace, "audit", data=str(rows), policy=str(folder))
    assert chosen(found, "policy") == str(folder)
    assert found.recipe["steps"][0]["params"] == {}
