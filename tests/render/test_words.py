"""Numbers, times and states in few characters."""

from __future__ import annotations

import math
from datetime import datetime

import pytest

from swiftshell.i18n import LANGUAGES, catalogue, set_language
from swiftshell.render import words
from swiftshell.render.board import board_lines, cells, cut


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 s"), (0.44, "0.4 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1:00"), (185, "3:05"),
     (3599.7, "1:00:00"), (3723, "1:02:03"), (None, ""), (math.inf, ""), (math.nan, ""), (-1, "")],
)  # fmt: skip
def test_duration(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (512, "512 B"),
        (1400, "1.4 KiB"),
        (150 * 2**20, "150 MiB"),
        (3.2 * 2**30, "3.2 GiB"),
        (2**42, "4.0 TiB"),
    ],
)
def test_size(count: float, text: str) -> None:
    assert words.size(count) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(3, "3"), (12345, "12,345"), (0.43219, "0.4322"), (5e-4, "0.0005"), (5e-6, "5e-06"), (0.0, "0"),
     (123456.0, "123,456"), (94570.0, "94,570"), (2e12, "2.00e+12"),
     (None, ""), ("auto", "auto"), (True, "True"), (math.nan, "nan")],
)  # fmt: skip
def test_number(value: object, text: str) -> None:
    assert words.number(value) == text


def test_every_state_has_a_mark_and_a_word() -> None:
    states = {key.removeprefix("render.state.") for key in catalogue("en") if key.startswith("render.state.")}
    for state in states:
        assert words.mark(state, unicode=False).isascii()
        if state != "unknown":
            assert words.mark(state) != "?"
    assert {
        "succeeded",
        "failed",
        "cancelled",
        "lost",
        "skipped",
        "waiting",
        "running",
        "unsupervised",
    } <= states
    assert words.mark("some new state") == "?"


def test_state_of() -> None:
    assert words.state_of({"status": "over", "result": "failed"}) == "failed"
    assert words.state_of({"status": "running", "result": None}) == "running"
    assert words.state_of({"status": "over", "result": "succeeded", "restored_from": "/x"}) == "restored"
    assert words.state_of({}) == "unknown"


def test_moment() -> None:
    assert words.moment("2026-11-25T03:00:00+00:00") == datetime.fromisoformat("2026-11-25T03:00:00+00:00")
    assert words.moment(0).timestamp() == 0  # type: ignore[union-attr]
    assert words.moment("yesterday") is None
    assert words.moment(None) is None


def test_both_catalogues_are_complete() -> None:
    keys = [{k for k in catalogue(lang) if k.startswith("render.")} for lang in LANGUAGES]
    assert keys[0] == keys[1]


BOARD = [
    {"stage": "download", "newest": "starter", "possible": True},
    {"stage": "sft", "newest": "sft.adapter", "number": "合意率 63 %", "possible": True},
    {"stage": "kto", "possible": True, "next": True},
    {"stage": "dpo", "running": "training 40 %", "possible": True},
    {"stage": "merge", "possible": True},
    {"stage": "quantize", "possible": False, "why_not": "needs a merged model: run merge first"},
]


@pytest.mark.parametrize("width", [24, 40, 80])
@pytest.mark.parametrize("lang", LANGUAGES)
def test_board(width: int, lang: str) -> None:
    set_language(lang)
    try:
        lines = board_lines(BOARD, workspace="/somewhere/工作区", lineage="starter", width=width)
    finally:
        set_language("auto")
    assert len(lines) == len(BOARD) + 1
    assert all(cells(text) <= width for _, text in lines)
    text = [text for _, text in lines]
    assert text[2].startswith("✔  sft       sft.adapt")
    assert text[3].startswith("→  kto")
    assert text[4].startswith("▶  dpo")
    if width == 80:
        assert "needs a merged model" in text[6]


def test_board_in_ascii() -> None:
    lines = board_lines([BOARD[0], BOARD[2], BOARD[5]], workspace="/w", unicode=False)
    assert all(text.isascii() for _, text in lines)
    assert lines[2][1].startswith(">")


def test_cut_counts_cells() -> None:
    assert (cells("中文ab"), cut("中文ab", 6), cut("中文ab", 5), cut("中文ab", 4)) == (
        6,
        "中文ab",
        "中文…",
        "中…",
    )
