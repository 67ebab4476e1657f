"""Text in terminal cells."""

from __future__ import annotations

import pytest

from swiftshell.menu.cells import cells, wrap

TEXTS = [
    "每步更新的幅度，KTO 最敏感的参数。5e-6 是论文在 8B 上给 LoRA 的值，全参数约 1e-6；rewards/chosen 持续下降说明过高。",
    "The size of a step: 5e-6 is what the paper gives for LoRA on 8B, and rewards/chosen falling says it is too high.",
    "/a/very/long/path/without/any/space/that/fits/into/no/line/of/a/narrow/terminal.jsonl",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [12, 23, 38, 78])
def test_no_line_is_wider_and_nothing_is_lost(text: str, width: int) -> None:
    lines = wrap(text, width)
    assert max(map(cells, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())


@pytest.mark.parametrize("text", TEXTS)
def test_at_most_so_many_lines(text: str) -> None:
    lines = wrap(text, 24, 2)
    assert len(lines) == 2
    assert lines[-1].endswith("…")
    assert max(map(cells, lines)) <= 24


def test_words_stay_whole_and_punctuation_does_not_begin_a_line() -> None:
    assert wrap("alpha beta gamma", 11) == ["alpha beta", "gamma"]
    assert all(line[0] not in "，。；" for line in wrap(TEXTS[0], 20))


def test_own_line_ends_are_kept() -> None:
    assert wrap("one\ntwo", 20) == ["one", "two"]
