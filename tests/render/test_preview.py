"""Rows on the terminal: colour where there is colour, marks where there is none, long texts cut, nothing that steers."""

from __future__ import annotations

import io

import pytest

from swiftshell.data.preview import Piece, Preview, Text
from swiftshell.i18n import set_language
from swiftshell.render.preview import print_previews, visible


class Screen(io.StringIO):
    """A stream of a kind: a terminal or a pipe, with an encoding."""

    def __init__(self, *, terminal: bool, encoding: str) -> None:
        super().__init__()
        self._terminal, self._encoding = terminal, encoding

    def isatty(self) -> bool:
        return self._terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


def shown(monkeypatch: pytest.MonkeyPatch, *, terminal: bool = False, encoding: str = "utf-8", whole: bool = False) -> str:
    for name in ("NO_COLOR", "SWIFTSHELL_PLAIN", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    prompt = Piece("question " * 200, False)
    texts = [Text("chosen", (prompt, Piece("good", True)), 210, 2), Text("rejected", (prompt, Piece("bad", True)), 209, 1)]
    screen = Screen(terminal=terminal, encoding=encoding)
    set_language("en")
    print_previews([Preview(3, "rows.jsonl", 5, tuple(texts), {"weight": 0.5})], model="m", whole=whole, stream=screen)
    return screen.getvalue()


def test_what_is_learned_has_a_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch, terminal=True)
    assert "\x1b[32mgood\x1b[0m" in text
    assert "\x1b[2mquestion" in text
    assert "⟦" not in text


@pytest.mark.parametrize(("encoding", "marked"), [("utf-8", "⟦good⟧"), ("ascii", "[[good]]")])
def test_without_colour_it_stands_between_marks(monkeypatch: pytest.MonkeyPatch, encoding: str, marked: str) -> None:
    text = shown(monkeypatch, encoding=encoding)
    assert marked in text
    assert "\x1b" not in text
    assert encoding == "utf-8" or "── " not in text


def test_a_prompt_is_shown_once_and_not_at_length(monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(monkeypatch)
    assert text.count("the same prompt") == 1
    assert "(1200 characters left out)" in text
    assert "row 3 · rows.jsonl:5 · weight 0.5" in text
    assert "rejected: 209 tokens, 1 of them learned from" in text
    assert shown(monkeypatch, whole=True).count("question ") == 200


def test_control_characters_are_written_out() -> None:
    assert visible("a\x1b]0;x\x07\tb\n\x7f\x9b") == "a\\x1b]0;x\\x07\tb\n\\x7f\\x9b"
