"""A form is what a command line could say: same inputs, same settings, same plan."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.plans import plan_stage, plan_target
from swiftshell.errors import SwiftshellError
from swiftshell.menu import forms
from swiftshell.menu.forms import Form
from swiftshell.menu.session import Session
from swiftshell.plan import board as boards
from swiftshell.plan.board import Board
from swiftshell.plan.quick import STARTER_FOLDER, Options
from swiftshell.run.workspace import open_workspace
from swiftshell.stages import registry
from tests.plan.support import identity, made


@pytest.fixture
def board(workspace: Path) -> Board:
    """A workspace where every stage has run once."""
    made(workspace, "download", kind="model")
    sft = made(workspace, "sft")
    made(workspace, "kto", reference=identity(sft), reference_path=sft)
    made(workspace, "dpo", reference=identity(sft), reference_path=sft)
    made(workspace, "merge", kind="model")
    return boards.read(workspace / "runs")


def by_command(workspace: Path, command: str) -> Any:
    """Plan what a printed command line says, by the command line's own parser."""
    from swiftshell.cli import run

    parser = argparse.ArgumentParser()
    run.add_arguments(parser)
    words = shlex.split(command)
    assert words[:2] == ["swiftshell", "run"]
    args = parser.parse_args(words[2:])
    assert args.yes
    return plan_target(open_workspace(workspace), args.target, run._options(args), sets=args.sets, fresh=args.fresh)


def comparable(plan: Any) -> dict[str, Any]:
    """Return a plan without its run's random name."""
    data = json.loads(json.dumps(plan.as_json()).replace(plan.run, "RUN"))
    data.pop("command")
    return dict(data)


CHANGES: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "download": ({"model": "starter"}, {}),
    "sft": ({"data": str(STARTER_FOLDER / "data" / "sft.jsonl"), "seed": 7}, {"learning_rate": "1e-3", "lora.r": "8"}),
    "kto": ({"continue_": True, "columns": {}}, {"beta": "0.2", "quantization": "nf4"}),
    "dpo": ({"policy": "sft.adapter"}, {"loss_type": "ipo"}),
    "merge": ({"model": "kto.adapter", "output_dir": "out put"}, {"dtype": "float32"}),
    "infer": ({"data": "starter"}, {"max_new_tokens": "12"}),
    "quantize": ({}, {"quantization": "int8"}),
    "evaluate": ({"model": "sft.adapter"}, {"metrics": "[perplexity, exact_match]"}),
}


def test_every_stage_of_the_pipeline_is_covered() -> None:
    assert set(CHANGES) == set(registry.PIPELINE)
    assert set(forms.INPUTS) >= set(registry.PIPELINE)


@pytest.mark.parametrize("stage", registry.PIPELINE)
@pytest.mark.parametrize("changed", [False, True])
def test_the_plan_of_a_form_is_the_plan_of_its_command_line(board: Board, workspace: Path, stage: str, changed: bool) -> None:
    """Untouched and with inputs and settings changed; the command shown is the one that gives it."""
    options, sets = CHANGES[stage] if changed else ({}, {})
    form = Form(stage, Options(**options), dict(sets), fresh=changed)
    plan = plan_stage(open_workspace(workspace), stage, form.options, sets=form.settings(), fresh=form.fresh)
    twin = by_command(workspace, plan.command)
    assert comparable(plan) == comparable(twin)
    assert plan.command == twin.command


@pytest.mark.parametrize("stage", [*registry.PIPELINE, "serve"])
def test_inputs_are_slots_of_the_stage(stage: str) -> None:
    slots = {slot.name for slot in registry.get(stage).inputs}
    assert set(forms.INPUTS[stage].values()) <= slots
    required = {slot.name for slot in registry.get(stage).inputs if slot.required}
    assert required <= set(forms.INPUTS[stage].values())


@pytest.mark.parametrize("stage", registry.PIPELINE)
def test_short_settings_are_settings_of_the_stage(stage: str) -> None:
    assert set(forms.SHORT.get(stage, ())) <= set(forms.schema(stage))


@pytest.mark.parametrize("stage", registry.PIPELINE)
def test_a_value_shown_is_a_value_accepted(board: Board, stage: str) -> None:
    """What the form shows can be typed back as it stands."""
    for name, value in forms.values(Form(stage), board).items():
        assert forms.wrong(stage, name, forms.as_text(value)) == "", (name, value)


def test_the_starters_settings_are_in_force_on_its_lineage(board: Board) -> None:
    own = json.loads((STARTER_FOLDER / "settings.json").read_text(encoding="utf-8"))["kto"]
    values = forms.values(Form("kto"), board)
    assert values["learning_rate"] == own["learning_rate"]
    assert values["lora.r"] == own["lora"]["r"]
    assert forms.values(Form("kto", sets={"learning_rate": "1e-6"}), board)["learning_rate"] == "1e-6"


def test_what_fills_an_input_and_why(board: Board, language: Callable[[str], None]) -> None:
    found = forms.chosen(Form("kto"), board)
    assert found["policy"].name == "sft.adapter"
    assert "newest SFT" in found["policy"].why
    assert found["reference"].name == "sft.adapter"
    assert found["data"].name == "starter kto"
    again = forms.chosen(Form("kto", Options(continue_=True)), board)
    assert (again["policy"].name, again["reference"].name) == ("kto.adapter", "sft.adapter")


def test_what_is_missing_is_asked_for_where_it_is_missing(workspace: Path) -> None:
    made(workspace, "download", kind="model", lineage="qwen")
    board = boards.read(workspace / "runs")
    found = forms.chosen(Form("sft"), board)
    assert found["data"].problem is not None
    assert found["data"].problem.code == "plan.data_missing"
    assert found["policy"].problem is None
    assert forms.chosen(Form("kto"), board)["policy"].problem is not None


def test_candidates_fit_the_input(board: Board, workspace: Path) -> None:
    assert {e.kind for e in forms.candidates("merge", "model", board, "starter")} == {"adapter"}
    assert {e.kind for e in forms.candidates("quantize", "model", board, "starter")} == {"model"}
    made(workspace, "sft", lineage="other")
    newer = boards.read(workspace / "runs")
    assert forms.candidates("kto", "policy", newer, "starter")[0].lineage == "starter"


def test_choices_are_offered_where_they_can_be_counted() -> None:
    schema = forms.schema("kto")
    assert forms.choices(schema["loss_type"]) == ["kto", "apo_zero_unpaired"]
    assert forms.choices(schema["gradient_checkpointing"]) == ["true", "false", "auto"]
    assert forms.choices(schema["desirable_weight"]) == []
    assert forms.choices(schema["beta"]) == []


def test_a_wrong_value_is_named_with_what_is_right(language: Callable[[str], None]) -> None:
    assert "9" in forms.wrong("kto", "beta", "9")
    assert "5" in forms.wrong("kto", "beta", "9")
    assert forms.wrong("kto", "lora.r", "x")
    assert forms.wrong("kto", "beta", "0.3") == ""


def test_the_lineage_is_named_only_where_it_is_not_the_one_taken_anyway(board: Board, workspace: Path) -> None:
    made(workspace, "download", kind="model", lineage="qwen")
    session = Session.open(str(workspace))
    newer = boards.read(workspace / "runs")
    assert session.lineage_flag(newer) is None
    session.lineage = "starter"
    assert session.lineage_flag(newer) == "starter"
    session.lineage = "qwen"
    assert session.lineage_flag(newer) is None


def test_data_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.csv", "notes.txt", ".hidden.jsonl"):
        (tmp_path / name).write_text("x")
    assert set(forms.data_files(tmp_path)) == {"a.jsonl", "b.csv"}
    assert forms.data_files(tmp_path / "absent") == []


def test_a_form_that_cannot_be_planned_says_so(workspace: Path) -> None:
    with pytest.raises(SwiftshellError):
        Form("kto").quick(boards.read(workspace / "runs"))
