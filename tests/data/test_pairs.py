"""Thumbs for DPO and SFT: pairs where a prompt has both kinds, the desirable answers alone, and every row accounted for."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.load import check_rows, load_rows, load_with_report
from swiftshell.errors import SwiftshellError
from swiftshell.i18n import LANGUAGES, sentence, set_language
from tests.data.conftest import Write, assistant, system, user

Json = dict[str, Any]


def thumb(prompt: str, answer: str, label: Any) -> Json:
    return {"prompt": prompt, "completion": answer, "label": label}


def texts(rows: list[Any]) -> list[tuple[str, str, str]]:
    return [tuple(row.data[part][-1]["content"] for part in ("prompt", "chosen", "rejected")) for row in rows]  # type: ignore[misc]


def test_a_prompt_with_both_kinds_makes_pairs(write: Write) -> None:
    rows = [
        thumb("p", "good", True),
        thumb("q", "alone", True),
        thumb("p", "bad", False),
        thumb("p", "worse", False),
    ]
    path = write(rows)
    pairs, report = load_with_report(path, "dpo")
    assert texts(pairs) in ([("p", "good", "bad")], [("p", "good", "worse")])
    assert (pairs[0].number, pairs[0].line) == (1, 1)
    assert pairs[0].extra["rejected_row"] in (3, 4)
    assert (report.rows, report.usable) == (4, 1)
    assert report.pairing == {
        "pairs": 1,
        "rows": 4,
        "paired": 2,
        "alone": 2,
        "prompts": 2,
        "both": 1,
        "judged_twice": 0,
        "copies": 0,
    }
    assert [(p.code, p.severity) for p in report.problems] == [("pairs.made", "note")]
    assert check_rows(path, "dpo").as_json() == report.as_json()


def test_few_partners_are_a_warning_with_numbers(write: Write) -> None:
    rows = [thumb("p", "good", 1), thumb("p", "bad", 0), *(thumb(f"q{i}", "x", i % 2) for i in range(8))]
    report = check_rows(write(rows), "dpo")
    (problem,) = report.problems
    assert (problem.code, problem.severity) == ("pairs.few", "warning")
    assert "only 2 of 10 labelled answers find a partner" in sentence(problem)
    assert "1 pairs, and 8 answers are not used" in sentence(problem)


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_partner_at_all_is_refused_with_advice(write: Write, lang: str) -> None:
    path = write([thumb("p", "good", True), thumb("q", "bad", False)])
    with pytest.raises(SwiftshellError) as refused:
        load_rows(path, "dpo")
    (problem,) = refused.value.problems
    assert (problem.code, problem.values["rows"]) == ("pairs.none", 2)
    set_language(lang)
    assert "kto" in sentence(problem) or "kto" in str(refused.value)
    set_language("en")


def test_an_answer_is_used_once_and_never_against_itself(write: Write) -> None:
    """Copies count once; an answer that people judged both ways belongs to no pair."""
    rows = [
        thumb("p", "a", True),
        thumb("p", "a", True),
        thumb("p", "b", False),
        thumb("p", "b", False),
        thumb("p", "c", True),
        thumb("p", "c", False),
    ]
    pairs, report = load_with_report(write(rows), "dpo")
    assert texts(pairs) == [("p", "a", "b")]
    assert (report.pairing["judged_twice"], report.pairing["copies"]) == (1, 3)
    assert report.counts == {"data.duplicate": 2, "data.contradiction": 1, "pairs.few": 1}


def test_the_same_pairs_every_time_whatever_the_order_of_other_prompts(write: Write) -> None:
    """Properties over random thumbs: as many pairs as the rarer side has, all from one prompt, each answer once."""
    draw = random.Random(5)
    for trial in range(30):
        rows = [
            thumb(f"p{draw.randrange(6)}", f"answer {i}", draw.random() < 0.4)
            for i in range(draw.randrange(4, 60))
        ]
        wanted = sum(
            min(sum(r["prompt"] == f"p{n}" and r["label"] is side for r in rows) for side in (True, False))
            for n in range(6)
        )
        path = write(rows, f"{trial}.jsonl")
        if not wanted:
            assert check_rows(path, "dpo").counts.get("pairs.none") == 1
            continue
        pairs = load_rows(path, "dpo")
        found = texts(pairs)
        assert len(found) == wanted
        used = [answer for _, chosen, rejected in found for answer in (chosen, rejected)]
        assert len(used) == len(set(used))
        label = {r["completion"]: (r["prompt"], r["label"]) for r in rows}
        assert all(label[c] == (p, True) and label[r] == (p, False) for p, c, r in found)
        assert [p.number for p in pairs] == sorted(p.number for p in pairs)
        grouped = sorted(rows, key=lambda r: r["prompt"])  # within a prompt the order stays
        assert sorted(texts(load_rows(write(grouped, f"{trial}-grouped.jsonl"), "dpo"))) == sorted(found)


def test_another_system_prompt_is_another_prompt(write: Write) -> None:
    rows = [
        {"messages": [system("short"), user("q"), assistant("a")], "label": True},
        {"messages": [system("long"), user("q"), assistant("b")], "label": False},
    ]
    assert check_rows(write(rows), "dpo").counts == {"pairs.none": 1}
    rows[1]["messages"][0] = system("short")
    assert texts(load_rows(write(rows), "dpo")) == [("q", "a", "b")]


def test_labels_are_read_as_for_kto(write: Write) -> None:
    """Words, scores with a threshold, probabilities; one that cannot be read is told with its row."""
    rows = [
        {"query": "q", "response": f"a{i}", "thumb": word} for i, word in enumerate(("yes", "no", "maybe"))
    ]
    report = check_rows(write(rows), "dpo")
    assert [(p.code, p.row) for p in report.errors] == [("data.label_unknown", 3)]
    scored = [
        {"prompt": "q", "completion": "a", "score": 4.5},
        {"prompt": "q", "completion": "b", "score": 1},
    ]
    assert texts(load_rows(write(scored), "dpo", label_rule={"threshold": 3})) == [("q", "a", "b")]
    soft = [
        {"prompt": "q", "completion": "a", "probability": 0.9},
        {"prompt": "q", "completion": "b", "probability": 0.2},
        {"prompt": "q", "completion": "c", "probability": 0.1, "weight": 0},
    ]
    assert texts(load_rows(write(soft), "dpo")) == [("q", "a", "b")]


def test_pairs_stay_pairs(write: Write) -> None:
    report = check_rows(write([{"prompt": "q", "chosen": "a", "rejected": "b", "label": True}]), "dpo")
    assert (report.pairing, report.problems) == ({}, [])


# ------------------------------------------------------------------------------------------------------ SFT


def test_sft_imitates_the_desirable_answers(write: Write) -> None:
    rows = [
        thumb("p", "good", "yes"),
        thumb("p", "bad", "no"),
        thumb("q", "unjudged", None),
        thumb("q", "fine", "yes"),
    ]
    kept, report = load_with_report(write(rows), "sft")
    assert [row.number for row in kept] == [1, 4]
    assert all("label" not in row.data for row in kept)
    (problem,) = report.problems
    assert (problem.code, problem.severity) == ("pairs.desirable_only", "note")
    assert problem.values == {"kept": 2, "total": 4, "out": 2, "unlabelled": 1, "column": "label"}
    assert (report.usable, report.classes) == (2, {"desirable": 2, "undesirable": 1})


def test_sft_of_thumbs_down_only_is_refused(write: Write) -> None:
    with pytest.raises(SwiftshellError) as refused:
        load_rows(write([thumb("p", "bad", False)]), "sft")
    assert [p.code for p in refused.value.problems] == ["pairs.nothing_to_imitate"]


def test_a_column_that_only_looks_like_labels_is_left_alone(write: Write) -> None:
    """A topic in a column called label; said to be the label, it is one, and its values must be readable."""
    rows = [thumb("p", "a", "physics"), thumb("q", "b", "yes")]
    kept, report = load_with_report(write(rows), "sft")
    assert (len(kept), report.counts, report.unused) == (2, {"data.label_unused": 1}, ["label"])
    assert (
        check_rows(write([{"prompt": "p", "completion": "a", "tag": "physics"}], "tag.jsonl"), "sft").counts
        == {}
    )
    report = check_rows(write(rows), "sft", columns={"label": "label"})
    assert [(p.code, p.row) for p in report.errors] == [("data.label_unknown", 1)]
    assert (
        len(load_rows(write(rows), "sft", label_rule={"desirable": ["physics"], "undesirable": ["yes"]})) == 1
    )


def test_conversations_with_a_label_are_chosen_too(write: Write) -> None:
    talk = [user("q"), assistant("a"), user("r"), assistant("b")]
    rows = [{"messages": talk, "label": True}, {"messages": talk[:2], "label": False}]
    kept = load_rows(write(rows), "sft")
    assert [row.data for row in kept] == [{"messages": talk}]


def test_the_real_thumbs(shared_testdata: Path) -> None:
    """kto-mix-test.json: how many of its rows find a partner was counted by hand with a few lines of Python."""
    import json

    path = shared_testdata / "real/data/kto-mix-test.json"
    rows = json.loads(path.read_text(encoding="utf-8"))
    by_prompt: dict[str, dict[bool, set[str]]] = {}
    for row in rows:
        sides = by_prompt.setdefault(row["instruction"], {True: set(), False: set()})
        sides[row["tag"]].add(row["output"])
    wanted = sum(min(len(s[True] - s[False]), len(s[False] - s[True])) for s in by_prompt.values())
    report = check_rows(path, "dpo")
    assert report.pairing.get("pairs", 0) == wanted
    assert check_rows(path, "sft").usable == sum(row["tag"] for row in rows)
