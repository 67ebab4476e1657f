"""Probabilities and weights of KTO rows: found, checked with their rows, counted, and folded without loss."""

from __future__ import annotations

import math
from typing import Any

import pytest

from swiftshell.data.balance import TARGET_RATIO, WEIGHT_CAP, balance, fold
from swiftshell.data.load import check_rows, load_rows
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.i18n import LANGUAGES, sentence, set_language
from tests.data.conftest import Write


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    """Return rows with these columns beside prompt and completion."""
    count = len(next(iter(columns.values())))
    return [
        {"prompt": f"q{n}", "completion": f"a{n}", **{name: values[n] for name, values in columns.items()}}
        for n in range(count)
    ]


def codes(write: Write, content: list[dict[str, Any]], **options: Any) -> list[tuple[str, int | None]]:
    report = check_rows(write(content), "kto", **options)
    assert not report.ok
    with pytest.raises(SwiftshellError):
        load_rows(write(content), "kto", **options)
    return [(p.code, p.row) for p in report.errors]


def loaded(write: Write, content: list[dict[str, Any]], **options: Any) -> list[tuple[Any, Any, Any]]:
    found = load_rows(write(content), "kto", **options)
    return [(r.data["label"], r.data.get("probability"), r.data.get("weight")) for r in found]


def said_in(language: str, problem: Problem) -> str:
    set_language(language)
    try:
        return sentence(problem)
    finally:
        set_language("auto")


@pytest.mark.parametrize("name", ["probability", "p_desirable", "prob", "soft_label"])
def test_a_column_of_probabilities_is_found(write: Write, name: str) -> None:
    assert loaded(write, rows(**{name: [0.9, 0.5, "0.2", 0]})) == [
        (True, 0.9, None),
        (True, 0.5, None),
        (False, 0.2, None),
        (False, 0.0, None),
    ]


@pytest.mark.parametrize("name", ["weight", "sample_weight", "w"])
def test_a_column_of_weights_is_found(write: Write, name: str) -> None:
    assert loaded(write, rows(label=[True, False], **{name: [2, "0.5"]})) == [
        (True, None, 2.0),
        (False, None, 0.5),
    ]


def test_any_column_can_be_mapped(write: Write) -> None:
    content = rows(judge=[0.8, 0.1], confidence=[3, 1])
    columns = {"probability": "judge", "weight": "confidence"}
    assert loaded(write, content, columns=columns) == [(True, 0.8, 3.0), (False, 0.1, 1.0)]
    assert loaded(write, content, columns={"probability_field": "judge", "weight_field": "confidence"}) == [
        (True, 0.8, 3.0),
        (False, 0.1, 1.0),
    ]


def test_the_names_of_other_tools_map_columns(write: Write) -> None:
    content = [{"prompt": "q", "response": r, "ok": ok} for r, ok in (("a", True), ("b", False))]
    found = load_rows(write(content), "kto", columns={"label_field": "ok", "text_field": "response"})
    assert [(r.data["completion"][0]["content"], r.data["label"]) for r in found] == [
        ("a", True),
        ("b", False),
    ]


def test_the_text_field_of_stories_is_the_text(write: Write) -> None:
    found = load_rows(write([{"body": "once upon"}]), "sft", columns={"text_field": "body"})
    assert [r.data for r in found] == [{"text": "once upon"}]


def test_plain_thumbs_carry_neither(write: Write) -> None:
    assert loaded(write, rows(label=[True, False])) == [(True, None, None), (False, None, None)]


def test_a_float_label_is_a_probability_only_if_said(write: Write) -> None:
    content = rows(label=[0.7, 0.2, 1.0])
    refused = check_rows(write(content), "kto").errors
    assert [(p.code, p.row) for p in refused] == [("data.label_score", 1), ("data.label_score", 2)]
    for language in LANGUAGES:
        said = said_in(language, refused[0])
        assert "threshold" in said
        assert "probability: true" in said
    found = loaded(write, content, label_rule={"probability": True})
    assert found == [(True, 0.7, None), (False, 0.2, None), (True, 1.0, None)]
    mapped = [{**r, "quality": r.pop("label")} for r in rows(label=[0.7, 0.2])]
    assert loaded(write, mapped, columns={"label": "quality"}, label_rule={"probability": True}) == [
        (True, 0.7, None),
        (False, 0.2, None),
    ]


def test_probability_outweighs_the_label_beside_it(write: Write) -> None:
    content = rows(label=[True, False, True, None], probability=[0.2, 0.1, None, 0.9])
    report = check_rows(write(content), "kto")
    assert report.ok
    warned = [(p.code, p.row) for p in report.problems]
    assert warned == [("data.label_against_probability", 1)]
    assert report.classes == {"desirable": 2, "undesirable": 2}
    assert loaded(write, content) == [
        (False, 0.2, None),
        (False, 0.1, None),
        (True, None, None),
        (True, 0.9, None),
    ]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (1.2, "data.probability_percent"),
        (85, "data.probability_percent"),
        (-0.1, "data.probability_range"),
        (1e9, "data.probability_range"),
        ("often", "data.probability_not_number"),
        (math.nan, "data.probability_not_number"),
        (math.inf, "data.probability_not_number"),
        ([0.5], "data.probability_not_number"),
        (None, "data.probability_missing"),
    ],
)
def test_what_is_no_probability_is_refused_with_its_row(write: Write, value: Any, code: str) -> None:
    assert codes(write, rows(probability=[0.9, value, 0.1])) == [(code, 2)]


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (-1, "data.weight_negative"),
        ("heavy", "data.weight_not_number"),
        (math.nan, "data.weight_not_number"),
        (math.inf, "data.weight_not_number"),
        ({}, "data.weight_not_number"),
    ],
)
def test_what_is_no_weight_is_refused_with_its_row(write: Write, value: Any, code: str) -> None:
    assert codes(write, rows(label=[True, False, True], weight=[1, 1, value])) == [(code, 3)]


def test_a_row_without_a_weight_counts_as_one(write: Write) -> None:
    content = rows(label=[True, False], weight=[None, 2])
    assert [p.code for p in check_rows(write(content), "kto").problems] == ["data.weight_missing"]
    assert loaded(write, content) == [(True, None, 1.0), (False, None, 2.0)]


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"label": [True, False], "weight": [0, 0]}, "data.weights_all_zero"),
        ({"label": [True, False], "weight": [0, 1]}, "data.class_weightless"),
        ({"probability": [0.5, 0.5]}, "data.probability_all_same"),
        ({"probability": [0.8, 0.8, 0.8]}, "data.probability_all_same"),
        ({"probability": [1, 1]}, "data.one_class_desirable"),
        ({"probability": [0, 0.0]}, "data.one_class_undesirable"),
    ],
)
def test_rows_with_nothing_to_tell_apart_are_refused(
    write: Write, columns: dict[str, list[Any]], code: str
) -> None:
    assert codes(write, rows(**columns)) == [(code, None)]
    problem = check_rows(write(rows(**columns)), "kto").errors[0]
    for language in LANGUAGES:
        assert "{" not in said_in(language, problem)


def test_one_class_names_the_alternatives(write: Write) -> None:
    good = said_in("en", check_rows(write(rows(label=[True, True])), "kto").errors[0])
    assert "sft" in good
    assert "dpo" in good
    assert "label false" in good


def test_the_report_counts_what_will_be_weighed(write: Write) -> None:
    content = rows(label=[True, False, None, None], probability=[None, None, 0.75, 0.25], weight=[1, 1, 4, 2])
    found = check_rows(write(content), "kto").thumbs
    # mean weight 2: desirable (1 + 3 + 0.5) / 2, undesirable (1 + 1 + 1.5) / 2
    assert (found["desirable"], found["undesirable"]) == (2.25, 1.75)
    assert (found["soft"], found["weight_min"], found["weight_max"], found["weightless"]) == (2, 1.0, 4.0, 0)
    assert found["undesirable_weight"] == pytest.approx(2.25 / (TARGET_RATIO * 1.75), abs=1e-4)
    assert (found["desirable_weight"], found["capped"]) == (1.0, False)


def test_equal_weights_change_no_count(write: Write) -> None:
    plain = check_rows(write(rows(label=[True, False, False])), "kto").thumbs
    equal = check_rows(write(rows(label=[True, False, False], weight=[0.3] * 3)), "kto").thumbs
    assert (equal["desirable"], equal["undesirable"]) == (plain["desirable"], plain["undesirable"]) == (1, 2)


def test_the_same_answer_with_another_probability_contradicts_or_repeats(write: Write) -> None:
    twice = [{"prompt": "q", "completion": "a", "probability": p} for p in (0.9, 0.8, 0.1)]
    found = check_rows(write(twice), "kto").problems
    assert [(p.code, p.row) for p in found] == [("data.duplicate", 2), ("data.contradiction", 3)]


def test_held_out_rows_are_labelled_by_their_probability(write: Write) -> None:
    found = load_rows(write(rows(probability=[0.9, 0.1])), "heldout")
    assert [r.data["label"] for r in found] == [True, False]


def test_a_pair_passes_its_weight_to_both_answers(write: Write) -> None:
    found = load_rows(write([{"prompt": "q", "chosen": "a", "rejected": "b", "weight": 3}]), "kto")
    assert [(r.data["label"], r.data["weight"]) for r in found] == [(True, 3.0), (False, 3.0)]


@pytest.mark.parametrize("p", [0.0, 0.01, 0.3, 0.5, 0.62, 0.99, 1.0])
@pytest.mark.parametrize("counts", [(100, 100), (10, 300), (300, 10)])
def test_folding_keeps_the_expected_gradient(p: float, counts: tuple[int, int]) -> None:
    """The factor before d(1 - sigmoid(z)) is p * lambda_D - (1 - p) * lambda_U, whatever stands for it."""
    both = balance(*counts)
    label, weight = fold(p, both)
    factor = weight * (both.desirable_weight if label else -both.undesirable_weight)
    assert factor == pytest.approx(p * both.desirable_weight - (1 - p) * both.undesirable_weight, abs=1e-12)
    assert weight >= 0


def test_certain_rows_weigh_exactly_one() -> None:
    both = balance(7, 31)
    assert fold(1.0, both) == (True, 1.0)
    assert fold(0.0, both) == (False, 1.0)


def test_the_cap_is_told() -> None:
    assert balance(10, 1000).capped
    assert balance(10, 1000).desirable_weight == WEIGHT_CAP
    assert not balance(100, 120).capped
    assert (
        balance(10, 1000, 2.0, 1.0) == balance(10, 1000, 2.0, 1.0)
    )
    assert (
        not balance(10, 1000, 2.0, 1.0).capped
    )
    assert balance(60, 40).ratio == pytest.approx(TARGET_RATIO, rel=1e-3)
