"""Problems on the terminal: what, where, one thing to do; many of a kind are counted, not repeated."""

from __future__ import annotations

import pytest

from swiftshell.errors import Problem
from swiftshell.render.problems import lines, print_problems
from tests.render.conftest import Show


def missing(row: int, **options: object) -> Problem:
    return Problem("data.label_missing", {"column": "label"}, file="x.jsonl", line=row, row=row, **options)  # type: ignore[arg-type]


def test_shape(show: Show) -> None:
    assert show(print_problems, [missing(7)]) == (
        "error[data.label_missing]: no label in 'label'\n"
        "  --> x.jsonl:7 (row 7)\n"
        "hint: label the row, or leave it out\n"
    )
    assert show(print_problems, [missing(7)], lang="zh") == (
        "错误[data.label_missing]: “label”中没有标签\n"
        "  --> x.jsonl:7 (第 7 行)\n"
        "建议: 请补上标签，或删除这一行\n"
    )


def test_equal_hints_are_said_once(show: Show) -> None:
    text = show(print_problems, [missing(1), missing(2)])
    assert text.count("hint:") == 1
    assert text.index("row 2") < text.index("hint:")


@pytest.mark.parametrize(("count", "shown", "more"), [(10, 10, 0), (11, 11, 0), (12, 10, 2), (500, 10, 490)])
def test_many_of_a_kind_collapse(count: int, shown: int, more: int) -> None:
    text = "\n".join(lines([missing(n) for n in range(1, count + 1)]))
    assert text.count("error[") == shown
    assert (f"{more} more of data.label_missing" in text) == bool(more)


def test_warnings_collapse_sooner() -> None:
    many = [Problem("data.duplicate", {"first": 1}, row=n, severity="warning") for n in range(9)]
    text = "\n".join(lines(many))
    assert (text.count("warning["), "6 more of data.duplicate" in text) == (3, True)


def test_counts_of_unlisted_ones_are_added() -> None:
    rest = Problem("data.and_more", {"code": "data.label_missing", "more": 480, "total": 500}, file="x.jsonl")
    text = "\n".join(lines([*(missing(n) for n in range(20)), rest]))
    assert "490 more of data.label_missing" in text
    assert "error[data.and_more]" not in text


def test_errors_come_last() -> None:
    text = "\n".join(lines([missing(1), Problem("data.duplicate", {"first": 1}, severity="warning"),
                            Problem("data.pairs_for_sft", severity="note")]))  # fmt: skip
    assert text.index("note[") < text.index("warning[") < text.index("error[")


def test_colours_only_on_a_terminal_that_wants_them(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert "\x1b[" in show(print_problems, [missing(1)], terminal=True)
    assert "\x1b[" not in show(print_problems, [missing(1)])
    for name, value in (("NO_COLOR", "1"), ("SWIFTSHELL_PLAIN", "1"), ("TERM", "dumb")):
        with monkeypatch.context() as inside:
            inside.setenv(name, value)
            assert "\x1b[" not in show(print_problems, [missing(1)], terminal=True)
