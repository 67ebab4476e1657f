"""Plans on the terminal: inputs and why, what differs from the defaults and who said so, time and disk."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from swiftshell.render.plan import print_plan
from swiftshell.stages import registry
from tests.render.conftest import Json, Show


def entry(slot: str, name: str, code: str = "plan.why_recipe", **values: Any) -> Json:
    return {
        "slot": slot,
        "name": name,
        "kind": "model",
        "path": None,
        "why": {"code": code, "values": values},
    }


def plan_step(number: int, name: str, stage: str, inputs: dict[str, list[Json]], **facts: Any) -> Json:
    params = registry.get(stage).params().model_dump(mode="json") if stage != "merge" else {}
    return {
        "number": number, "id": name, "stage": stage, "params": params | facts.pop("params", {}), "param_sources": {},
        "inputs": inputs, "output_dir": None, "restored_from": None, "network": False, "needs": {"disk_gib": 0.5},
        "estimate_s": 60.0, "rows": {}, **facts,
    }  # fmt: skip


@pytest.fixture
def plan() -> Json:
    why = {"code": "plan.why_newest_sft", "lineage": "starter", "run": "r7"}
    steps = [
        plan_step(1, "base", "download", {"model": [entry("model", "starter")]}, restored_from="/w/old"),
        plan_step(
            2, "kto", "kto",
            {"policy": [entry("policy", "sft.adapter", **why)],
             "reference": [entry("reference", "sft.adapter", "plan.why_reference_sft")],
             "train_data": [entry("train_data", "thumbs.jsonl")]},
            params={"learning_rate": 5e-4, "max_length": 256, "beta": 0.1},
            param_sources={"learning_rate": "flag", "max_length": "defaults:24", "beta": "recipe:30"},
            rows={"train_data": 1200}, output_dir="/out/kto",
        ),
        plan_step(3, "score", "evaluate", {
            "models": [entry("models", n, "plan.why_step", step=n.split(".")[0]) for n in ("sft.adapter", "kto.adapter")]},
            estimate_s=None, needs={"disk_gib": None}, network=True),
    ]  # fmt: skip
    return {"run": "2026-11-25-x-abcd", "name": "mine", "command": "swiftshell run kto", "steps": steps}


def test_full_plan(show: Show, plan: Json) -> None:
    text = " ".join(show(print_plan, plan).split())
    for part in (
        "Plan: mine",
        "base download (reused)",
        "policy sft.adapter the newest SFT output of starter (r7)",
        "reference sft.adapter the SFT model is the fixed reference",
        "train_data thumbs.jsonl (1200 rows)",
        "flag learning_rate 0.0005",
        "defaults max_length 256",
        "also into /out/kto",
        "models sft.adapter, kto.adapter",
        "steps: 3, time: at least 1:00, disk: at least 512 MiB, network: yes",
        "swiftshell run kto",
    ):
        assert part in text, part
    assert "beta" not in text  # it equals the default


def test_brief_plan_is_one_line_a_step(show: Show, plan: Json) -> None:
    lines = show(print_plan, plan, brief=True).splitlines()
    assert len(lines) == 5
    assert lines[2].split()[:4] == ["2", "kto", "kto", "sft.adapter,"]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("brief", [True, False])
def test_fits(show: Show, plan: Json, width: int, lang: str, brief: bool) -> None:
    text = show(print_plan, plan, width=width, lang=lang, brief=brief)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    if lang == "zh" and not brief:
        assert "SFT模型" in "".join(text.split())


def test_a_plan_of_a_stage_that_is_gone_still_shows(show: Show, plan: Json) -> None:
    plan["steps"][1]["stage"] = "distill"
    assert "beta 0.1" in show(print_plan, plan)


def test_everything_reused(show: Show, plan: Json) -> None:
    plan["steps"] = plan["steps"][:1]
    assert "steps: 1, time: 0.0 s" in show(print_plan, plan)
