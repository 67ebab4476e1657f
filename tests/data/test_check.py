"""Checks: all problems at once, each with file, line, row, column, value and one thing to do, in both languages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.load import check_rows, load_rows, load_with_report, overlap
from swiftshell.errors import SwiftshellError
from swiftshell.i18n import LANGUAGES, catalogue, sentence, set_language
from tests.data.conftest import Write, assistant, system, user

Json = dict[str, Any]
GOOD = {"messages": [user("q"), assistant("a")]}
KTO = [{"prompt": "q", "completion": "a", "label": True}, {"prompt": "q", "completion": "b", "label": False}]
DPO = {"prompt": "q", "chosen": "a", "rejected": "b"}

# A row, what it is for, the code, the column blamed, and a part of the sentence.
BROKEN: list[tuple[Json, str, str, str | None, str]] = [
    ({"messages": "text"}, "sft", "data.no_answer", "messages", "ends with a turn of user"),
    ({"messages": 7}, "sft", "data.not_text", "messages", "found number: 7"),
    ({"messages": []}, "sft", "data.empty_turns", "messages", "has no turns"),
    ({"messages": None}, "sft", "data.field_missing", "messages", "absent or null"),
    ({"x": 1}, "sft", "data.field_missing", "messages", "this row has x"),
    ({"messages": [user("q")]}, "sft", "data.no_answer", "messages", "ends with a turn of user"),
    ({"messages": [user("q"), assistant("  ")]}, "sft", "data.empty_answer", "messages", "is empty"),
    ({"messages": ["q", "a"]}, "sft", "data.bad_turn", "messages", "turn 1"),
    ({"messages": [user("q"), {"content": "a"}]}, "sft", "data.turn_without_role", "messages", "turn 2"),
    (
        {"messages": [user("q"), {"role": "assistant"}]},
        "sft",
        "data.turn_without_content",
        "messages",
        "turn 2",
    ),
    ({"messages": [user("q"), assistant(None)]}, "sft", "data.turn_without_content", "messages", "turn 2"),  # type: ignore[arg-type]
    ({"messages": [user("q"), assistant(5)]}, "sft", "data.turn_not_text", "messages", "number: 5"),  # type: ignore[arg-type]
    ({"messages": [{"role": "robot", "content": "x"}]}, "sft", "data.unknown_role", "messages", "'robot'"),
    ({"messages": [{"role": 1, "content": "x"}]}, "sft", "data.unknown_role", "messages", "'1'"),
    (
        {"messages": [{"from": "function_call", "value": "f(x)"}]},
        "sft",
        "data.bad_function_call",
        "messages",
        "f(x)",
    ),
    ({"messages": [user("\ud83d"), assistant("a")]}, "sft", "data.bad_character", None, "half a character"),
    (
        {"messages": [assistant("a")], "label": True},
        "kto",
        "data.no_question",
        "messages",
        "without a question",
    ),
]


@pytest.mark.parametrize(("row", "purpose", "code", "column", "part"), BROKEN)
def test_broken_row_is_located(
    write: Write, row: Json, purpose: str, code: str, column: str | None, part: str
) -> None:
    good = [GOOD] if purpose == "sft" else [{**GOOD, "label": True}, {**GOOD, "label": False}]
    lines = [json.dumps(r, ensure_ascii=True) for r in (*good, row, *good)]
    path = write("\n".join(lines) + "\n")
    report = check_rows(path, purpose)
    assert [(p.code, p.field_name) for p in report.errors] == [(code, column)]
    problem = report.errors[0]
    assert (problem.file, problem.line, problem.row) == (str(path), len(good) + 1, len(good) + 1)
    assert part in sentence(problem)
    assert (report.rows, report.bad_rows, report.usable) == (2 * len(good) + 1, 1, 2 * len(good))
    with pytest.raises(SwiftshellError):
        load_rows(path, purpose)


@pytest.mark.parametrize(
    ("row", "code", "column"),
    [
        ({"prompt": "", "completion": "a", "label": True}, "data.empty_prompt", "prompt"),
        ({"prompt": "q", "completion": "", "label": True}, "data.empty_answer", "completion"),
        ({"prompt": 3, "completion": "a", "label": True}, "data.not_text", "prompt"),
        ({"prompt": "q", "completion": 42, "label": True}, "data.not_text", "completion"),
        ({"prompt": "q", "completion": [user("a")], "label": True}, "data.answer_role", "completion"),
        ({"prompt": "q", "label": True}, "data.field_missing", "completion"),
        ({"completion": "a", "label": True}, "data.field_missing", "prompt"),
    ],
)
def test_broken_thumbs(write: Write, row: Json, code: str, column: str) -> None:
    report = check_rows(write([*KTO, row]), "kto")
    assert [(p.code, p.field_name, p.row) for p in report.errors] == [(code, column, 3)]


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"prompt": "q", "chosen": "", "rejected": "b"}, "data.empty_answer"),
        ({"prompt": "q", "chosen": "a", "rejected": " "}, "data.empty_answer"),
        ({"prompt": "q", "chosen": "a"}, "data.field_missing"),
        ({"prompt": "q", "chosen": "a", "rejected": [user("b")]}, "data.answer_role"),
    ],
)
def test_broken_pairs(write: Write, row: Json, code: str) -> None:
    assert [(p.code, p.row) for p in check_rows(write([DPO, row]), "dpo").errors] == [(code, 2)]


def test_pairs_without_a_common_question(write: Write) -> None:
    row = {"chosen": [user("q1"), assistant("a")], "rejected": [user("q2"), assistant("b")]}
    assert [p.code for p in check_rows(write([row]), "dpo").errors] == ["data.no_common_prompt"]
    row = {"chosen": "just an answer", "rejected": "another"}
    assert [p.code for p in check_rows(write([row]), "dpo").errors] == ["data.no_common_prompt"]


@pytest.mark.parametrize("history", ["text", 3, [["q"]], [["q", 1]], ["q", "a"]])
def test_broken_history(write: Write, history: Any) -> None:
    rows = [
        {"instruction": "q", "output": "a", "history": [["x", "y"]]},
        {"instruction": "q", "output": "a", "history": history},
    ]
    assert [(p.code, p.field_name, p.row) for p in check_rows(write(rows), "sft").errors] == [
        ("data.bad_history", "history", 2)
    ]


def test_rules_are_checked_before_anything_runs(write: Write) -> None:
    rows = [
        {"prompt": "q", "rules": {"contains": ["x"]}},
        {"prompt": "q", "rules": {"contain": ["x"]}},
        {"prompt": "q", "rules": "x"},
    ]
    report = check_rows(write(rows), "heldout")
    assert [(p.code, p.row) for p in report.errors] == [("data.bad_rules", 2), ("data.bad_rules", 3)]
    assert "contains" in sentence(report.errors[0])


@pytest.mark.parametrize(
    ("rows", "purpose", "code", "part"),
    [
        ([{"messages": [user("q"), assistant("a")]}], "dpo", "data.no_pair", "messages"),
        ([{"prompt": "q", "completion": "a"}], "dpo", "data.no_pair", "prompt, completion"),
        ([{"prompt": "q", "completion": "a"}], "kto", "data.no_label_column", "prompt, completion"),
        ([{"frage": "q", "antwort": "a"}], "sft", "data.no_answer_column", "frage, antwort"),
        ([{"a": 1}], "heldout", "data.no_prompt_column", "are a"),
    ],
)
def test_columns_that_do_not_serve(
    write: Write, rows: list[Json], purpose: str, code: str, part: str
) -> None:
    report = check_rows(write(rows), purpose)
    assert [p.code for p in report.problems] == [code]
    assert part in sentence(report.problems[0])
    assert report.rows == len(rows)


def test_wrong_mapping_names_the_nearest(write: Write) -> None:
    path = write([{"prompt": "q", "response": "a", "is_preferred": True}])
    report = check_rows(
        path, "kto", columns={"completion": "respones", "labels": "is_preferred", "prompt": "zzz"}
    )
    assert {p.code for p in report.problems} == {
        "data.column_absent_near",
        "data.unknown_part_near",
        "data.column_absent",
    }
    text = "\n".join(sentence(p) for p in report.problems)
    assert "did you mean 'response'?" in text
    assert "did you mean 'label'?" in text
    assert [p.code for p in check_rows(path, "kto", format="alpacca").problems] == [
        "data.unknown_format_near"
    ]
    assert [p.code for p in check_rows(path, "kto", format="zzz").problems] == ["data.unknown_format"]


def test_all_problems_come_at_once(write: Write) -> None:
    lines = [json.dumps(KTO[0]), "{oops", json.dumps({"prompt": "", "completion": "a", "label": 1}), "[]",
             json.dumps({"prompt": "q", "completion": "a", "label": "maybe"}), json.dumps(KTO[1])]  # fmt: skip
    report = check_rows(write("\n".join(lines)), "kto")
    assert {(p.code, p.row) for p in report.errors} == {
        ("data.bad_json", 2), ("data.empty_prompt", 3), ("data.row_not_object", 4), ("data.label_unknown", 5)
    }  # fmt: skip
    assert (report.rows, report.bad_rows, report.usable) == (6, 4, 2)
    assert report.classes == {"desirable": 1, "undesirable": 1}


def test_drop_budget(write: Write) -> None:
    path = write(
        "\n".join(
            [*map(json.dumps, KTO), "{oops", json.dumps({"prompt": "q", "completion": "", "label": True})]
        )
    )
    rows, report = load_with_report(path, "kto", drop_budget=2)
    assert [row.number for row in rows] == [1, 2]
    assert report.bad_rows == 2
    with pytest.raises(SwiftshellError):
        load_rows(path, "kto", drop_budget=1)
    with pytest.raises(SwiftshellError):  # a budget is for rows, not for a file without labels
        load_rows(write([{"prompt": "q", "completion": "a"}], "x.jsonl"), "kto", drop_budget=10)


def test_odd_things_are_warnings(write: Write) -> None:
    rows = [*KTO, KTO[0], {**KTO[1], "label": True}]
    report = check_rows(write(rows), "kto")
    assert report.ok
    assert [(p.code, p.row, p.values["first"]) for p in report.problems] == [
        ("data.duplicate", 3, 1),
        ("data.contradiction", 4, 2),
    ]
    report = check_rows(write([DPO, {**DPO, "rejected": "a"}]), "dpo")
    assert [(p.code, p.row, p.severity) for p in report.problems] == [("data.same_pair", 2, "warning")]
    turns = [user("q"), user("again"), assistant("a")]
    assert check_rows(write([{"messages": turns}]), "sft").counts == {"data.same_speaker": 1}
    turns = [user("q"), system("s"), assistant("a")]
    assert check_rows(write([{"messages": turns}]), "sft").counts == {"data.late_system": 1}
    report = check_rows(write([{**GOOD, "label": "a joke"}]), "sft")
    assert report.ok
    assert report.counts == {"data.label_unused": 1}


def test_contradictions_are_found_however_labels_are_written(write: Write) -> None:
    rows = [{**KTO[0], "label": "yes"}, {**KTO[0], "label": 0}, {**KTO[0], "label": "好"}]
    assert check_rows(write(rows), "kto").counts == {"data.contradiction": 1, "data.duplicate": 1}


def test_report_counts_and_lengths(write: Write) -> None:
    rows = [{"prompt": "q" * n, "completion": "a" * 40, "label": n % 2 == 0} for n in (1, 31, 32, 100_000)]
    report = check_rows(write(rows), "kto")
    assert report.classes == {"desirable": 2, "undesirable": 2}
    lengths = report.characters["prompt"]
    assert (lengths["counts"][0], lengths["counts"][1], lengths["counts"][-1], lengths["max"]) == (
        2,
        1,
        1,
        100_000,
    )
    assert sum(report.characters["answer"]["counts"]) == 4
    data = json.loads(json.dumps(report.as_json()))
    assert (data["v"], data["ok"], data["rows"], data["columns"]["label"]) == (1, True, 4, "label")


def test_limit_counts_source_rows(write: Write) -> None:
    path = write([{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(10)])
    assert len(load_rows(path, "dpo", limit=3)) == 3
    assert len(load_rows(path, "kto", limit=3)) == 6


def test_overlap_of_training_and_held_out_prompts(write: Write) -> None:
    train = load_rows(write([{"messages": [system("s"), user("What  is\nit?"), assistant("a")]}]), "sft")
    held_out = load_rows(write([{"prompt": "Other"}, {"prompt": "What is it?"}], "h.jsonl"), "heldout")
    assert [(p.code, p.row, p.values["train_row"]) for p in overlap(train, held_out)] == [("data.leak", 2, 1)]


def test_unknown_purpose_is_a_programming_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="purpose must be one of"):
        check_rows(tmp_path, "training")


def test_every_problem_has_a_sentence_and_a_hint_in_both_languages() -> None:
    en, zh = catalogue("en"), catalogue("zh")
    codes = {key for key in en if key.startswith("data.")}
    assert codes == {key for key in zh if key.startswith("data.")}
    assert len(codes) > 100
    for key in codes:
        assert key.endswith(".hint") or f"{key}.hint" in codes
        assert any("\u4e00" <= char <= "\u9fff" for char in zh[key]), key


@pytest.mark.parametrize("lang", LANGUAGES)
def test_sentences_are_complete(write: Write, lang: str) -> None:
    """No placeholder is left unfilled, whatever went wrong."""
    set_language(lang)
    try:
        for row, purpose, *_ in BROKEN:
            good = [GOOD] if purpose == "sft" else [{**GOOD, "label": True}, {**GOOD, "label": False}]
            path = write("\n".join(json.dumps(r) for r in (*good, row)))
            for problem in check_rows(path, purpose).problems:
                text = sentence(problem)
                for value in problem.values:
                    assert "{" + value + "}" not in text
    finally:
        set_language("auto")
