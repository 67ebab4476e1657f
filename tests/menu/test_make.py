"""Making rows of other rows from the menu: the same as the commands, driven by keys."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from swiftshell.menu.screens import make
from swiftshell.menu.session import Session
from tests.menu.conftest import CTRL_U, DOWN, ENTER, UP


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.chdir(tmp_path)
    return Session.open(str(tmp_path))


def log(folder: Path) -> Path:
    rows = [
        {
            "query": "q",
            "response": f"answer {i}",
            "copied": i % 2 == 0,
            "regenerated": i % 3 == 1,
            "label": None,
        }
        for i in range(12)
    ]
    path = folder / "log.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_log_becomes_thumbs_by_the_rules_its_columns_suggest(
    session: Session, tmp_path: Path, press: Callable[..., None]
) -> None:
    press(ENTER * 5, DOWN * 3, ENTER)  # thumbs, both proposals as they are, the file as proposed, read, back
    make.show(session, log(tmp_path))
    rows = [
        json.loads(line) for line in (tmp_path / "log.kto.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert {row["completion"][0]["content"]: row["label"] for row in rows} == {
        "answer 0": True,
        "answer 1": False,
        "answer 2": True,
        "answer 4": False,
        "answer 6": True,
        "answer 7": False,
        "answer 8": True,
        "answer 10": False,
    }
    assert session.typed["rules_for"] == "copied : 0.3"


def test_a_rule_that_cannot_be_read_is_said_and_asked_again(
    session: Session, tmp_path: Path, press: Callable[..., None]
) -> None:
    press(
        ENTER,
        CTRL_U,
        "copied >",
        ENTER,
        CTRL_U,
        "copied == true : 1",
        ENTER,
        CTRL_U,
        ENTER,
        ENTER,
        ENTER,
        DOWN * 3,
        ENTER,
    )
    make.show(session, log(tmp_path))
    rows = [
        json.loads(line) for line in (tmp_path / "log.kto.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [row["weight"] for row in rows] == [1.0] * 6


def test_answers_are_scored_by_what_can_be_used_here(
    session: Session, tmp_path: Path, press: Callable[..., None]
) -> None:
    # The pointer starts at the first that can be used: length. Those above it need a reference.
    press(DOWN * 2, ENTER, ENTER, DOWN, ENTER, UP * 9, ENTER, ENTER, ENTER, ENTER, DOWN, ENTER)
    make.show(session, log(tmp_path))
    rows = [
        json.loads(line) for line in (tmp_path / "log.scored.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert len(rows) == 12
    assert {name for name in rows[0] if name.startswith("score_")} == {"score_length", "score_repetition"}
