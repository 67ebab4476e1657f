"""Labels: read by a rule that holds for the whole column, or refused with their rows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from swiftshell.data.labels import infer_rule, normalise, parse_rule
from swiftshell.data.load import check_rows, load_rows, load_with_report
from swiftshell.errors import Problem, SwiftshellError
from tests.data.conftest import Write


def thumbs(*labels: Any) -> list[dict[str, Any]]:
    return [{"prompt": f"q{n}", "completion": "a", "label": label} for n, label in enumerate(labels)]


def read(write: Write, *labels: Any, **options: Any) -> tuple[str | None, list[bool]]:
    rows, report = load_with_report(write(thumbs(*labels)), "kto", **options)
    return report.label_rule, [row.data["label"] for row in rows]


def refused(write: Write, *labels: Any, **options: Any) -> list[tuple[str, int | None]]:
    report = check_rows(write(thumbs(*labels)), "kto", **options)
    assert not report.ok
    with pytest.raises(SwiftshellError):
        load_rows(write(thumbs(*labels)), "kto", **options)
    return [(p.code, p.row) for p in report.errors]


@pytest.mark.parametrize(
    ("labels", "rule", "wanted"),
    [
        ((True, False), "boolean", [True, False]),
        ((1, 0, 1), "zero_one", [True, False, True]),
        ((1.0, 0.0), "zero_one", [True, False]),
        (("1", "0", "1.0"), "zero_one", [True, False, True]),
        ((1, -1), "plus_minus_one", [True, False]),
        (("1", "-1"), "plus_minus_one", [True, False]),
        ((1.0, -1.0), "plus_minus_one", [True, False]),
        (("True", "FALSE"), "words", [True, False]),
        (("yes", " No "), "words", [True, False]),
        (("good", "bad"), "words", [True, False]),
        (("👍", "👎"), "words", [True, False]),
        (("是", "否", "好", "坏"), "words", [True, False, True, False]),
        (("对", "错"), "words", [True, False]),
        ((True, 0, "yes", "bad"), "mixed", [True, False, True, False]),
    ],
)
def test_labels_are_read(write: Write, labels: tuple[Any, ...], rule: str, wanted: list[bool]) -> None:
    assert read(write, *labels) == (rule, wanted)


def test_one_and_minus_one_are_told_from_one_and_zero_by_the_whole_column(write: Write) -> None:
    """The trap that trains a data set as all desirable: `bool(-1)` is true."""
    many = [1] * 500 + [-1] * 3
    assert read(write, *many) == ("plus_minus_one", [True] * 500 + [False] * 3)


def test_zero_between_one_and_minus_one_is_neither(write: Write) -> None:
    assert refused(write, 1, 0, -1) == [("data.label_neither", 2)]


@pytest.mark.parametrize("score", [0.2, 0.5, 2, 5, "3.5", -0.5])
def test_scores_are_refused_without_a_threshold(write: Write, score: Any) -> None:
    assert refused(write, 1, score, 0) == [("data.label_score", 2)]


def test_float_labels_never_become_true_by_accident(write: Write) -> None:
    """TRL reads 0.2 as true."""
    assert len(refused(write, 0.2, 0.8, 0.1)) == 3


def test_scores_with_a_threshold(write: Write) -> None:
    assert read(write, 5, 3.5, 3.4, "1", label_rule={"threshold": 3.5}) == (
        "threshold",
        [True, True, False, False],
    )
    assert refused(write, 5, "good", 1, label_rule={"threshold": 3}) == [("data.label_not_score", 2)]
    assert refused(write, 5, True, 1, label_rule={"threshold": 3}) == [("data.label_not_score", 2)]


def test_score_column_is_found_when_a_threshold_is_given(write: Write) -> None:
    rows = [{"prompt": "q", "completion": c, "rating": n} for c, n in (("a", 4), ("b", 2))]
    assert [r.data["label"] for r in load_rows(write(rows), "kto", label_rule={"threshold": 3})] == [
        True,
        False,
    ]
    assert [p.code for p in check_rows(write(rows), "kto").problems] == ["data.no_label_column"]


def test_listed_values(write: Write) -> None:
    rule = {"desirable": ["A", 3], "undesirable": ["c", "B"]}
    assert read(write, "a", "3", "C", "b", label_rule=rule) == ("listed", [True, True, False, False])
    assert refused(write, "a", "c", "d", label_rule=rule) == [("data.label_not_listed", 3)]


@pytest.mark.parametrize("label", ["maybe", "neutral", "不确定", [1], {"value": True}, "2 stars"])
def test_anything_else_is_refused_with_its_row(write: Write, label: Any) -> None:
    assert refused(write, True, False, label) == [("data.label_unknown", 3)]


@pytest.mark.parametrize("missing", [None, "", "  "])
def test_missing_labels_are_refused_with_their_rows(write: Write, missing: Any) -> None:
    assert refused(write, True, missing, False, missing) == [
        ("data.label_missing", 2),
        ("data.label_missing", 4),
    ]


def test_row_without_the_label_column(write: Write) -> None:
    rows = [*thumbs(True, False), {"prompt": "q", "completion": "a"}]
    assert [(p.code, p.row) for p in check_rows(write(rows), "kto").errors] == [("data.label_missing", 3)]


def test_one_class_only_is_refused(write: Write) -> None:
    assert refused(write, 1, 1, 1) == [("data.one_class_desirable", None)]
    assert refused(write, -1, -1) == [("data.one_class_undesirable", None)]


def test_every_bad_label_is_counted_and_the_first_are_shown(write: Write) -> None:
    path = write(thumbs(*[0.3] * 500, True, False))
    report = check_rows(path, "kto")
    assert report.counts["data.label_score"] == 500
    assert [p.row for p in report.errors if p.code == "data.label_score"] == list(range(1, 21))
    more = report.errors[-1]
    assert (more.code, more.values["more"], more.values["total"]) == ("data.and_more", 480, 500)
    with pytest.raises(SwiftshellError) as caught:
        load_rows(path, "kto")
    assert caught.value.problems[-1].values["total"] == 500
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "rule",
    [
        {"threshold": "3"},
        {"threshold": True},
        {"threshold": math.nan},
        {"thresh": 3},
        {"desirable": ["a"]},
        {"desirable": ["a"], "undesirable": []},
        {"desirable": ["a", "b"], "undesirable": ["B "]},
        {"desirable": "a", "undesirable": "b"},
        {"threshold": 3, "desirable": ["a"], "undesirable": ["b"]},
    ],
)
def test_rules_that_make_no_sense(write: Write, rule: dict[str, Any]) -> None:
    with pytest.raises(SwiftshellError) as caught:
        parse_rule(rule)
    assert caught.value.problems[0].code == "data.bad_label_rule"
    assert [p.code for p in check_rows(write(thumbs(1, 0)), "kto", label_rule=rule).problems] == [
        "data.bad_label_rule"
    ]


def test_normalise() -> None:
    values = (True, 1, 1.0, "1", " 1.0 ", "Yes", "", None, math.nan, "1e400", math.inf, "👍️", 0.5, "-1")
    wanted = (True, 1, 1, 1, 1, "yes", None, None, None, "1e400", "inf", "👍", 0.5, -1)
    assert tuple(map(normalise, values)) == wanted


def test_a_rule_never_guesses() -> None:
    """Whatever a rule cannot read comes back as a problem, not as a label."""
    for rule in (infer_rule([True]), infer_rule([1, 0]), infer_rule([1, -1]), infer_rule(["yes"])):
        for odd in ("perhaps", 7, 0.1, None, [], {}, math.nan, "truefalse"):
            assert isinstance(rule.read(odd), Problem)
