"""Review in a real terminal: one key a verdict, long and wide texts, an editor, and a kill -9 in the middle."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from swiftshell.render.board import cells
from tests.terminal.terminal import Terminal

pytestmark = pytest.mark.terminal
Open = Callable[..., Terminal]


def write_rows(folder: Path, answers: list[str], name: str = "thumbs.jsonl") -> Path:
    path = folder / name
    rows = [{"prompt": f"Question {i}?", "completion": a, "label": i % 2 == 0} for i, a in enumerate(answers)]
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def verdicts(path: Path) -> list[dict[str, Any]]:
    log = path.with_name(path.name + ".review.jsonl")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]


def review(open_terminal: Open, *argv: str, **options: Any) -> Terminal:
    env: Mapping[str, str] = {"VISUAL": "", "EDITOR": "", **options.pop("env", {})}
    return open_terminal("data", "review", "thumbs.jsonl", *argv, env=env, **options)


def test_one_key_a_verdict(open_terminal: Open, workspace: Path) -> None:
    path = write_rows(workspace, [f"Answer {i}." for i in range(12)])
    terminal = review(open_terminal, "--by", "anna", "--order", "file")
    text = terminal.until("Answer 0.")
    assert "Question 0?" in text
    assert "anna" in text
    assert "12 left" in text
    assert "desirable" in text
    terminal.press("j").until("Answer 1.")
    terminal.press("k").until("Answer 2.")
    terminal.press("+").until("Answer 3.")
    terminal.press("-").until("Answer 4.")
    terminal.press(" ").until("Answer 5.")
    assert "5 judged, 7 left" in terminal.text
    terminal.press("u").until("Taken back")
    assert "Answer 4." in terminal.text
    terminal.press("k").until("Answer 5.")
    terminal.press("q")
    assert terminal.ended() == 0
    found = verdicts(path)
    assert [f.get("verdict", f["kind"]) for f in found] == [
        "desirable",
        "undesirable",
        "desirable",
        "undesirable",
        "skip",
        "undo",
        "undesirable",
    ]
    assert {f["by"] for f in found} == {"anna"}
    assert [f["row"] for f in found if f["kind"] == "verdict"] == [1, 2, 3, 4, 5, 5]


def test_a_kill_loses_nothing_and_the_next_sitting_goes_on(open_terminal: Open, workspace: Path) -> None:
    path = write_rows(workspace, [f"Answer {i}." for i in range(30)])
    terminal = review(open_terminal, "--order", "file")
    terminal.until("Answer 0.")
    for i in range(6):
        terminal.press("j" if i % 2 else "k").until(f"Answer {i + 1}.")
    os.kill(terminal.child.pid, signal.SIGKILL)
    terminal.child.wait()
    assert len(verdicts(path)) == 6
    log = path.with_name(path.name + ".review.jsonl")
    with log.open("ab") as file:  # what a crash of the machine may leave of a line
        file.write(b'{"v": 1, "kind": "verd')
    again = review(open_terminal, "--order", "file")
    again.until("Answer 6.")
    assert "24 left" in again.text
    again.press("j").until("Answer 7.")
    again.press("q")
    again.ended()
    lines = log.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 8
    assert json.loads(lines[-1])["row"] == 7


def test_five_hundred_an_hour_is_comfortable(open_terminal: Open, workspace: Path) -> None:
    """Keys typed as fast as a terminal takes them are all kept, in order."""
    path = write_rows(workspace, [f"Answer {i} of many." for i in range(120)])
    terminal = review(open_terminal, "--order", "file")
    terminal.until("Answer 0 ")
    start = time.monotonic()
    terminal.child.send("jk" * 50)
    terminal.until("100 judged")
    took_s = time.monotonic() - start
    assert took_s < 100 * 3600 / 500 / 10, "far from the seven seconds a verdict that 500 an hour allow"
    terminal.press("q")
    terminal.ended()
    assert [f["verdict"] for f in verdicts(path)] == ["desirable", "undesirable"] * 50


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 12), (120, 40)])
def test_long_and_wide_answers_scroll_and_fit(
    open_terminal: Open, workspace: Path, chinese: dict[str, str], columns: int, lines: int
) -> None:
    long = "。".join(f"第{i}句话说的是一件很普通的事情" for i in range(120)) + "。终于说完了"
    write_rows(workspace, [long, "短。"])
    terminal = review(open_terminal, "--order", "file", columns=columns, lines=lines, env=chinese)
    text = terminal.until("第0句").replace(" ", "")
    assert "👍" in text or "好" in text
    assert "下方还有" in text
    assert all(cells(line.replace(" ", "")) <= columns for line in terminal.lines)
    before = terminal.text
    terminal.press("\x1b[6~").until(lambda now: now != before)
    terminal.press("\x1b[F").until(lambda now: "终于说完了" in now.replace(" ", ""))
    terminal.press("j").until(lambda now: "短。" in now.replace(" ", ""))
    terminal.press("q")
    assert terminal.ended() == 0


def test_a_correction_in_an_editor_and_a_note(open_terminal: Open, workspace: Path) -> None:
    path = write_rows(workspace, [f"Answer {i}." for i in range(4)])
    editor = workspace / "editor.sh"
    editor.write_text("#!/bin/sh\nprintf 'A better answer.\\n' > \"$1\"\n", encoding="utf-8")
    editor.chmod(0o755)
    terminal = review(open_terminal, "--order", "file", env={"VISUAL": str(editor)})
    terminal.until("Answer 0.")
    terminal.press("e").until("Answer 1.")
    terminal.press("n").until("Enter keeps it")
    terminal.press("odd one", "Enter").until("Note: odd one")
    terminal.press("?").until("Any key goes back")
    terminal.press("j").until("Answer 1.")  # only leaves the help
    terminal.press("q")
    assert terminal.ended() == 0
    edit, note = verdicts(path)
    assert (edit["verdict"], edit["answer"]) == ("edit", "A better answer.")
    assert (note["kind"], note["note"], note["hash"]) == ("note", "odd one", note["hash"])


def test_a_correction_without_an_editor(open_terminal: Open, workspace: Path) -> None:
    path = write_rows(workspace, [f"Answer {i}." for i in range(3)])
    terminal = review(open_terminal, "--order", "file")
    terminal.until("Answer 0.")
    terminal.press("e").until("Ctrl-S")
    terminal.press("Esc").until("Nothing was changed")
    terminal.press("e").until("Ctrl-S")
    terminal.press(" Indeed.", "\x13").until("Answer 1.")
    terminal.press("q")
    terminal.ended()
    assert [f["answer"] for f in verdicts(path)] == ["Answer 0. Indeed."]


def test_two_reviewers_agreement_and_the_corrected_data(open_terminal: Open, workspace: Path) -> None:
    path = write_rows(workspace, [f"Answer {i}." for i in range(4)])
    original = path.read_bytes()
    for name, keys in (("anna", "jjkk"), ("ben", "jjkj")):
        terminal = review(open_terminal, "--order", "file", "--by", name)
        terminal.until("Answer 0.")
        terminal.press(*keys)
        assert terminal.ended() == 0, "the last verdict ends the sitting"
    said = open_terminal("data", "review", "thumbs.jsonl", "--report")
    text = said.until("Cohen's")
    assert "the same on 3 of 4" in text
    assert "they differ on rows 4" in text
    said.ended()
    apply = open_terminal("data", "apply", "thumbs.jsonl", "-o", "clean.jsonl")
    apply.until("rows read")
    assert apply.ended() == 0
    rows = [json.loads(line) for line in (workspace / "clean.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [r["label"] for r in rows] == [True, True, False, False]
    assert path.read_bytes() == original


def test_without_colour_and_on_a_dumb_terminal(open_terminal: Open, workspace: Path) -> None:
    path = write_rows(workspace, [f"Answer {i}." for i in range(3)])
    plain = review(open_terminal, "--order", "file", env={"TERM": "dumb"})
    plain.until("? help:")
    assert b"\x1b[" not in plain.raw
    plain.press("j", "Enter").until("Answer 1.")
    plain.press("k", "Enter").until("Answer 2.")
    plain.press("q", "Enter")
    assert plain.ended() == 0
    assert len(verdicts(path)) == 2


def test_what_a_file_holds_never_moves_the_cursor(open_terminal: Open, workspace: Path) -> None:
    write_rows(workspace, ["Before\x1b[2J\x1b]0;title\x07after\u202eesrever", "Next."])
    terminal = review(open_terminal, "--order", "file")
    text = terminal.until("Before")
    assert "Question 0?" in text
    assert b"\x1b]0;title" not in terminal.raw
    assert "\u202e".encode() not in terminal.raw
    terminal.press("q")
    terminal.ended()


def test_the_menu_leads_from_a_checked_file_to_its_labels(open_terminal: Open, workspace: Path) -> None:
    path = write_rows(workspace, [f"Answer {i}." for i in range(4)])
    terminal = open_terminal()
    terminal.until("↑↓")
    terminal.choose("Check data").until("thumbs.jsonl")
    terminal.choose("thumbs.jsonl").until("kto")
    terminal.choose("kto").until("Review labels")
    terminal.choose("Review labels").until("Find likely wrong labels")
    terminal.choose("What the verdicts tell")
    assert "nobody has reviewed it yet" in terminal.text
    terminal.press("Up", "Up", "Enter").until("Which answers first?")
    terminal.choose("from the top of the file").until("Reviewer")
    terminal.press("Ctrl-U", "anna", "Enter").until("Answer 0.")
    terminal.press("j").until("Answer 1.")
    terminal.press("q").until("Everything said is kept")
    assert [(f["by"], f["verdict"]) for f in verdicts(path)] == [("anna", "desirable")]
