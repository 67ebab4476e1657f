"""The menu's look at data: what is found, rows as a model reads them, columns put right and kept for a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swiftshell.menu import prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.screens import data
from swiftshell.menu.session import Session
from swiftshell.plan.quick import STARTER_FOLDER


class Person:
    """Answer one question after the other; remember what was offered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: Any) -> None:
        self.answers, self.offered = list(answers), list[tuple[str, dict[Any, Row[Any]]]]()
        monkeypatch.setattr(prompts, "choose", self.choose)
        monkeypatch.setattr(prompts, "pause", lambda title, row="": None)

    def choose(self, title: str, rows: Any, **_: Any) -> Any:
        self.offered.append((title, {row.value: row for row in rows if isinstance(row, Row)}))
        answer = self.answers.pop(0)
        assert answer is None or answer in self.offered[-1][1], (title, answer)
        return answer


def test_what_is_found_is_pointed_out_and_shown(workspace: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str], language: Callable[[str], None]) -> None:
    person = Person(monkeypatch, "dpo", "rows", None)
    data._use(Session.open(str(workspace)), STARTER_FOLDER / "data" / "dpo.jsonl")
    assert [value for value, row in person.offered[0][1].items() if row.detail] == ["dpo"]
    out = capsys.readouterr().out
    assert "taken for dpo, format preference" in out
    assert "as starter reads it" in out
    assert "<|im_start|>user" in out
    assert "⟦" in out
    assert "swiftshell data show" in out


def test_columns_are_put_right_and_kept_for_a_run(workspace: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str], language: Callable[[str], None]) -> None:
    path = workspace / "said.jsonl"
    rows = [{"ask": f"q{i}", "reply": {"best": f"a{i}", "all": []}, "ok": i % 2} for i in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    session = Session.open(str(workspace))
    person = Person(monkeypatch, "kto", "columns", "prompt", "ask", "completion", "reply", "label", "ok", "\0done",
                    "columns", "\0forget", None, None, None)
    data._use(session, path)
    assert person.answers == []
    assert person.offered[-3][1]["prompt"].detail == "-", "what was said is forgotten"
    assert person.offered[0][0].endswith("for which stage?")
    first = person.offered[2][1]
    assert first["\0done"].disabled.startswith("no prompts with answers")
    assert first["prompt"].detail == "-"
    assert person.offered[3][1]["ask"].detail == "q0"
    assert person.offered[4][1]["prompt"].detail == "ask *"
    assert "swiftshell run kto --data" in capsys.readouterr().out
    assert session.forms["kto"].options.columns == {"prompt": "ask", "completion": "reply", "label": "ok"}


def test_the_right_columns_make_a_good_file(workspace: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str], language: Callable[[str], None]) -> None:
    path = workspace / "said.jsonl"
    rows = [{"ask": f"q{i}", "said": f"a{i}", "ok": i % 2} for i in range(10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    session = Session.open(str(workspace))
    person = Person(monkeypatch, "kto", "columns", "prompt", "ask", "completion", "said", "label", "ok", "\0done", "rows", None)
    data._use(session, path)
    assert person.answers == []
    form = session.forms["kto"]
    assert (form.options.data, form.options.columns) == (str(path), {"prompt": "ask", "completion": "said", "label": "ok"})
    out = capsys.readouterr().out
    assert "10 rows for kto, no problems" in out
    assert "--column prompt=ask --column completion=said --column label=ok" in out
    assert "taken for kto" in out


def test_addresses_and_patterns_may_be_typed(workspace: Path, language: Callable[[str], None]) -> None:
    (workspace / "a.jsonl").write_text("{}\n", encoding="utf-8")
    assert data._not_there(str(workspace / "*.jsonl")) == ""
    assert "*.csv" in data._not_there(str(workspace / "*.csv"))
    assert "swiftshell data check hf://org/rows" in data._not_there("hf://org/rows")
