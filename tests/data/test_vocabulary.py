"""Vocabularies are compared by what a number stands for, from the files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.vocabulary import Difference, difference, difference_in_files

BPE = {"a": 0, "b": 1, "ab": 2}


def folder(path: Path, vocab: Any, added: dict[str, int] | None = None, **more: Any) -> Path:
    path.mkdir()
    content = {
        "model": {"vocab": vocab},
        "added_tokens": [{"id": n, "content": c} for c, n in (added or {}).items()],
    }
    (path / "tokenizer.json").write_text(json.dumps({**content, **more}), encoding="utf-8")
    return path


def test_the_same_numbers_in_files_that_differ(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", BPE, {"<end>": 3})
    other = folder(tmp_path / "other", dict(reversed(BPE.items())), {"<end>": 3}, truncation=None)
    assert difference_in_files(one, other) is None


def test_what_the_reference_has_beyond_does_no_harm(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", BPE)
    more = folder(tmp_path / "more", BPE, {"<tool>": 3})
    assert difference_in_files(one, more) is None
    assert difference_in_files(more, one) == Difference(1, 4, "<tool>", 3, None)
    assert Difference(1, 4, "<tool>", 3, None).values()["other"] == "-"


def test_tokens_with_other_numbers(tmp_path: Path) -> None:
    one, other = folder(tmp_path / "one", BPE), folder(tmp_path / "other", {"b": 0, "a": 1, "ab": 2})
    assert difference_in_files(one, other) == Difference(2, 3, "a", 0, 1)


def test_lists_are_numbered_by_their_order(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", [["a", -1.0], ["b", -2.0]])
    other = folder(tmp_path / "other", [["a", -3.0], ["c", -2.0]])
    assert difference_in_files(one, other) == Difference(1, 2, "b", 1, None)


@pytest.mark.parametrize("content", [None, "", "{", '{"model": {}}', '{"model": {"vocab": 3}}'])
def test_what_cannot_be_read_is_left_to_the_loader(tmp_path: Path, content: str | None) -> None:
    one, other = folder(tmp_path / "one", BPE), tmp_path / "other"
    other.mkdir()
    if content is not None:
        (other / "tokenizer.json").write_text(content, encoding="utf-8")
    assert difference_in_files(one, other) is None


def test_mappings_are_compared_as_tokenizers_give_them() -> None:
    assert difference(BPE, BPE) is None
    assert difference({"x": 7}, {"x": 8}) == Difference(1, 1, "x", 7, 8)
