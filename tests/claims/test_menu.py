"""The menu offers what the flags offer, and only on a machine where that means something."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swiftshell.claims.area import Area
from swiftshell.menu import prompts
from swiftshell.menu.forms import Form
from swiftshell.menu.rows import Row
from swiftshell.menu.screens import gpus as screen
from swiftshell.menu.screens import stage
from swiftshell.menu.screens.home import has_gpus, home_rows
from swiftshell.menu.session import Session

from .bench import Machine


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    has_gpus.cache_clear()
    yield
    has_gpus.cache_clear()


def values(rows: list[Any]) -> list[str]:
    return [row.value for row in rows if isinstance(row, Row)]


def test_how_many_and_in_which_place_can_be_chosen(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    form = Form("kto")
    assert values(stage._run_rows(form))[-2:] == ["run:gpus", "run:priority"]
    monkeypatch.setattr(prompts, "ask_text", lambda *_args, **_more: "2")
    stage._gpu_option(form, "gpus")
    monkeypatch.setattr(prompts, "choose", lambda *_args, **_more: "low")
    stage._gpu_option(form, "priority")
    assert (form.gpus, form.priority) == (2, "low")
    monkeypatch.setattr(prompts, "ask_text", lambda *_args, **_more: "")
    stage._gpu_option(form, "gpus")
    monkeypatch.setattr(prompts, "choose", lambda *_args, **_more: None)
    stage._gpu_option(form, "priority")
    assert (form.gpus, form.priority) == (None, "low")


def test_a_machine_without_gpus_offers_neither(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(tmp_path / "none.json", count=0)
    monkeypatch.setenv("SWIFTSHELL_GPUS_FILE", str(tmp_path / "none.json"))
    assert "run:gpus" not in values(stage._run_rows(Form("kto")))


def test_the_first_screen_leads_to_the_gpus(
    workspace: Path, machine: Machine, area: Area, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from swiftshell.api.board import board_facts
    from swiftshell.run.workspace import open_workspace

    session = Session(str(workspace), open_workspace(workspace))
    assert "gpus" in values(home_rows(board_facts(session.workspace), session))
    machine.appear(1, os.getppid())
    monkeypatch.setattr(prompts, "pause", lambda *_args: None)
    screen.show(session)
    said = capsys.readouterr().out
    assert f"PID {os.getppid()}" in said
    assert "Nobody waits" in said
