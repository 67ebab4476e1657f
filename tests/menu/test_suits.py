"""A stage's form says which stage suits its data: the file it names, the starter's rows, or how to choose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from swiftshell.menu import forms, prompts
from swiftshell.menu.forms import Form
from swiftshell.menu.screens import stage
from swiftshell.plan import board as boards
from swiftshell.plan.board import Board
from swiftshell.plan.quick import STARTER_FOLDER, Options
from tests.plan.support import made


@pytest.fixture
def board(workspace: Path) -> Board:
    made(workspace, "download", kind="model")
    made(workspace, "sft")
    return boards.read(workspace / "runs")


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    titles: list[str] = []
    monkeypatch.setattr(prompts, "pause", lambda title, row="": titles.append(title))
    return titles


@pytest.mark.parametrize(("name", "offered"), [("sft", True), ("kto", True), ("dpo", True), ("merge", False)])
def test_it_is_offered_where_something_is_learned(board: Board, name: str, offered: bool) -> None:
    listed = [row.value for row in stage.rows(Form(name), board) if hasattr(row, "value")]
    assert (stage.SUITS in listed) is offered


def test_the_data_of_the_form_is_looked_at(
    board: Board, tmp_path: Path, paused: list[str], capsys: pytest.CaptureFixture[str], language: Callable[[str], None]
) -> None:
    path = tmp_path / "said.jsonl"
    rows = [{"ask": f"q{i}", "said": f"a{i}", "ok": i % 2} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {"prompt": "ask", "completion": "said", "label": "ok"}
    form = Form("dpo", Options(data=str(path), columns=columns))
    assert forms.data_path(form, board) == path
    stage.suits(form, board)
    out = " ".join(capsys.readouterr().out.split())
    assert "each answer has a label of its own, and 40 of 40 have no partner" in out
    assert paused == ["Which stage suits this data?"]
    language("zh")
    stage.suits(form, board)
    assert "每条回答都有自己的标签" in capsys.readouterr().out


def test_a_file_that_no_stage_reads_is_told(
    board: Board, tmp_path: Path, paused: list[str], capsys: pytest.CaptureFixture[str], language: Callable[[str], None]
) -> None:
    path = tmp_path / "odd.jsonl"
    path.write_text('{"a": 1}\n')
    stage.suits(Form("kto", Options(data=str(path))), board)
    assert "data.no_answer_column" in capsys.readouterr().err
    assert len(paused) == 1


def test_without_data_it_says_how_to_choose(
    workspace: Path, paused: list[str], capsys: pytest.CaptureFixture[str], language: Callable[[str], None]
) -> None:
    nothing = boards.read(workspace / "runs")
    assert forms.data_path(Form("kto"), nothing) is None
    stage.suits(Form("kto"), nothing)
    assert "when each answer has one thumb" in " ".join(capsys.readouterr().out.split())


def test_the_starters_rows_are_found(board: Board) -> None:
    assert forms.data_path(Form("kto", Options(policy="starter", data="starter")), board) == STARTER_FOLDER / "data/kto.jsonl"
