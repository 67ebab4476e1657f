"""From feedback logs to KTO rows: the rule language, who and when, and what the rows say."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.feedback import make_dpo, make_kto, signals
from swiftshell.data.expression import parse
from swiftshell.data.load import check_rows, load_rows
from swiftshell.data.logs import LogOptions
from swiftshell.data.row import BadRow
from swiftshell.data.users import cap_of, moment, parse_moment
from swiftshell.errors import SwiftshellError
from tests.cli.support import as_json, swiftshell
from tests.data.conftest import Write


def shown(answer: str = "a", *, query: str = "q", **what: Any) -> dict[str, Any]:
    return {"query": query, "response": answer, **what}


def made(
    path: Path, rules: list[str] | None = None, against: list[str] | None = None, **options: Any
) -> list[dict[str, Any]]:
    out = path.parent / "made.jsonl"
    out.unlink(missing_ok=True)
    make_kto(path, out, LogOptions(signals(rules or [], against or []), **options))
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("text", "row", "wanted"),
    [
        ("dwell_s >= 20 or copied", {"dwell_s": 30}, True),
        ("dwell_s >= 20 or copied", {"dwell_s": "3", "copied": "true"}, True),
        ("dwell_s >= 20", {}, None),
        ("not dwell_s >= 20", {"dwell_s": None}, None),
        ("dwell_s >= 20 or copied", {"copied": True}, True),
        ("dwell_s >= 20 and copied", {"copied": False}, False),
        ("feedback.thumb == 'up'", {"feedback": {"thumb": "up"}}, True),
        ("5 <= len(answer) < 7", {"answer": "abcdef"}, True),
        ("lang in ['en', 'zh']", {"lang": "zh"}, True),
        ("'code' in tags", {"tags": ["code", "sql"]}, True),
        ("copied == true", {"copied": "yes"}, True),
        ("copied != false", {"copied": 0}, False),
        ("edited == null", {}, True),
        ("edited != null", {"edited": ""}, True),
        ("dwell_s / chars > 0.1", {"dwell_s": 20, "chars": 0}, None),
        ("赞 and not 踩", {"赞": 1, "踩": "否"}, True),
        ("score > -1", {"score": float("nan")}, None),
    ],
)
def test_rules_mean_what_they_say(text: str, row: dict[str, Any], wanted: bool | None) -> None:
    assert parse(text, flag="--rule").holds(row) is wanted


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('id')",
        "a[0]",
        "lambda: a",
        "a ** 9 ** 9",
        "a.b()",
        "f'{a}'",
        "a = 1",
        "[x for x in a]",
        "(a := 1)",
        "a if b else c",
        "a is b",
        "a << 2",
        "a b",
        "",
        "len(a, b)",
        "b'x' == a",
        "a; b",
        "1 == 1",
        "(" * 300 + "a" + ")" * 300,
    ],
)
def test_what_is_not_in_the_language_is_refused(text: str) -> None:
    with pytest.raises(SwiftshellError) as caught:
        parse(text, flag="--rule")
    assert caught.value.problems[0].code in ("logs.rule_unreadable", "logs.rule_no_column", "logs.rule_long")


def test_a_text_times_a_number_is_no_way_to_fill_the_memory() -> None:
    with pytest.raises(BadRow):
        parse("a * 999999999999 == 'x'", flag="--rule").holds({"a": "x"})


def test_rules_carry_their_weight_and_know_judgements_from_behaviour() -> None:
    thumb, copied, url, named = signals(
        ["thumb == 'up'", "copied : 0.5", "url == 'http://x:80'", "grade == 'A'"], [], ["grade"]
    )
    assert (thumb.weight, thumb.explicit) == (1.0, True)
    assert (copied.weight, copied.explicit) == (0.5, False)
    assert (url.weight, url.test.names) == (0.3, ("url",))
    assert named.explicit
    with pytest.raises(SwiftshellError, match="-1"):
        signals(["copied : -1"])


def test_the_command_of_the_manual(tmp_path: Path, write: Write) -> None:
    rows = [
        shown("a", dwell_s=30, copied=False, regenerated=False),
        shown("b", dwell_s=3, copied=True, regenerated=False),
        shown("c", dwell_s=4, copied=False, regenerated=True),
        shown("d", dwell_s=5, copied=False, regenerated=False),
        shown("e", dwell_s=40, copied=True, regenerated=True),
    ]
    write(rows, "log.jsonl")
    done = swiftshell(
        "data",
        "make-kto",
        "--from",
        "log.jsonl",
        "--rule",
        "dwell_s >= 20 or copied",
        "--not",
        "regenerated",
        "-o",
        "rows.jsonl",
        "--json",
        cwd=tmp_path,
    )
    found = as_json(done)["data"]
    assert (found["no_verdict"], found["written"], found["desirable"], found["undesirable"]) == (1, 4, 2, 2)
    assert [(r["fired"], r["alone"], r["counted"], r["overruled"]) for r in found["rules"]] == [
        (3, 2, 2, 1),
        (2, 1, 2, 0),
    ]
    loaded = load_rows(tmp_path / "rows.jsonl", "kto")
    assert [(r.data["completion"][0]["content"], r.data["label"]) for r in loaded] == [
        ("a", True),
        ("b", True),
        ("c", False),
        ("e", False),
    ]
    assert {(r.data["weight"], r.data["probability"]) for r in loaded} == {(0.3, 0.9), (0.3, 0.1)}
    assert check_rows(tmp_path / "rows.jsonl", "kto").ok
    again = swiftshell(
        "data", "make-kto", "--from", "log.jsonl", "--rule", "copied", "-o", "rows.jsonl", cwd=tmp_path
    )
    assert (again.returncode, "rows.jsonl" in again.stderr) == (2, True)


def test_a_thumb_outranks_what_the_same_person_did(write: Write) -> None:
    path = write([shown(thumb="down", copied=True), shown("b", thumb=None, copied=True)])
    first, second = made(path, ["thumb == 'up'", "copied"], ["thumb == 'down'"])
    assert (first["label"], first["weight"], first["explicit"]) == (False, 1.0, 1)
    assert (second["label"], second["weight"], second["explicit"]) == (True, 0.3, 0)


def test_behaviour_of_many_weakens_a_thumb_but_does_not_overturn_it(write: Write) -> None:
    path = write([shown(user="judge", thumb="down"), *(shown(user=f"u{i}", copied=True) for i in range(50))])
    (row,) = made(path, ["copied"], ["thumb == 'down'"])
    assert row["label"] is False
    assert 0.1 < row["probability"] < 0.5


def test_repeated_verdicts_are_added_up_as_log_odds(write: Write) -> None:
    path = write(
        [
            shown(user="a", thumb="up"),
            shown(user="b", thumb="up"),
            shown(user="c", thumb="down"),
            shown("x", user="a", thumb="up"),
            shown("x", user="b", thumb="down"),
        ]
    )
    (row,) = made(path, ["thumb == 'up'"], ["thumb == 'down'"])  # x is as good as bad, and left out
    assert row["probability"] == pytest.approx(0.9, abs=1e-3)  # two for, one against: as sure as one
    assert (row["verdicts"], row["users"]) == (3, 3)
    path = write([shown(user="a", thumb="up"), shown(user="b", thumb="up")])
    (row,) = made(path, ["thumb == 'up'"])
    assert math.log(row["probability"] / (1 - row["probability"])) == pytest.approx(2 * math.log(9), abs=0.01)


def test_the_newest_verdict_of_a_user_counts(write: Write) -> None:
    path = write(
        [
            shown(user="a", ts="2026-02-02", thumb="up"),
            shown(user="a", ts="2026-02-01", thumb="down"),
            shown("b", user="a", ts="2026-02-01", thumb="up"),
            shown("b", user="a", ts="2026-02-03T01:00:00Z", thumb="down"),
        ]
    )
    labels = [r["label"] for r in made(path, ["thumb == 'up'"], ["thumb == 'down'"])]
    assert labels == [True, False]


def test_one_user_cannot_dominate(write: Write) -> None:
    crowd = [shown(f"a{i}", user=f"u{i}", copied=True) for i in range(100)]
    path = write([*crowd, *(shown(f"z{i}", user="bot", copied=True) for i in range(1000))])
    rows = made(path, ["copied"], user_share=0.05)
    bot = sum(r["weight"] for r in rows if r["completion"][0]["content"].startswith("z"))
    assert bot / sum(r["weight"] for r in rows) == pytest.approx(0.05, abs=0.005)
    assert cap_of([1.0, 1.0], 0.05) == math.inf  # two people: nobody is cut
    assert cap_of([], 0.05) == math.inf


def test_a_window_in_time_is_taken_from_the_newest_entry(write: Write) -> None:
    path = write([shown(f"a{day}", time=f"2026-03-{day:02d}", copied=True) for day in range(1, 11)])
    assert [r["completion"][0]["content"] for r in made(path, ["copied"], since="2d")] == ["a8", "a9", "a10"]
    assert len(made(path, ["copied"], since="2026-03-02", until="2026-03-05")) == 3
    with pytest.raises(SwiftshellError, match="yesterday"):
        made(path, ["copied"], since="yesterday")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (1_700_000_000, 1.7e9),
        (1_700_000_000_000, 1.7e9),
        ("1700000000", 1.7e9),
        ("2023-11-14T22:13:20Z", 1.7e9),
        ("2023-11-14 22:13:20", 1.7e9),
        (None, None),
        ("", None),
    ],
)
def test_times_as_people_have_them(value: Any, wanted: float | None) -> None:
    assert moment(value, "ts") == wanted


def test_a_day_without_dashes_is_a_day() -> None:
    assert parse_moment("20231114") == parse_moment("2023-11-14")


def test_an_edit_is_desirable_and_the_original_the_less_so_the_more_was_changed(write: Write) -> None:
    long = " ".join(f"word{i}" for i in range(40))
    path = write(
        [
            shown(long, edited_answer=long.replace("word7", "term")),
            shown(
                "it is all quite wrong here", query="p", edited_answer="nothing of the old text remains now"
            ),
        ]
    )
    first, better, second, other = made(path)
    assert [r["label"] for r in (first, better, second, other)] == [False, True, False, True]
    assert (better["weight"], better["completion"][0]["content"]) == (1.0, long.replace("word7", "term"))
    assert first["weight"] == pytest.approx(0.1)
    assert second["weight"] > 0.9
    (liked, _) = made(
        write([shown(long, thumb="up", edited_answer=long.replace("word7", "term"))]), ["thumb == 'up'"]
    )
    assert liked["label"] is True


def test_dwell_is_freed_of_the_length_of_the_answer(write: Write) -> None:
    rows = [
        shown("x" * n, query=str(i), dwell_s=n / 20 * (1.5 if i % 2 else 0.7))
        for i, n in enumerate([100, 100, 400, 400, 1600, 1600, 6400, 6400] * 8)
    ]
    path = write([*rows, shown("bounce", query="b", dwell_s=1), shown("coffee", query="c", dwell_s=5000)])
    liked = [int(r["prompt"][0]["content"]) for r in made(path, ["dwell_z > 0"])]
    assert liked == [i for i in range(64) if i % 2]  # by reading time for its length, not by length
    assert all(int(r["prompt"][0]["content"]) % 8 >= 5 for r in made(path, ["dwell_s > 100"]))
    assert {r["prompt"][0]["content"] for r in made(path, ["dwell_s >= 0"])}.isdisjoint({"b", "c"})
    adjusted = [int(r["prompt"][0]["content"]) for r in made(path, ["dwell_adjusted_s > 40"])]
    assert adjusted == liked


def test_without_rules_the_columns_suggest_them(write: Write) -> None:
    path = write(
        [
            shown("a", thumb="up"),
            shown("b", thumb="down"),
            shown("c", rating=5),
            shown("d", rating=1),
            shown("e", rating=3),
            shown("f", copied=True),
            shown("g", regenerated=True),
        ]
    )
    assert {r["completion"][0]["content"]: (r["label"], r["weight"]) for r in made(path)} == {
        "a": (True, 1),
        "b": (False, 1),
        "c": (True, 1),
        "d": (False, 1),
        "f": (True, 0.3),
        "g": (False, 0.3),
    }
    (row,) = made(write([shown("a", feedback={"thumb": "up", "text": "nice"})]))
    assert row["signals"] == ["feedback.thumb 👍"]
    with pytest.raises(SwiftshellError) as caught:
        made(write([shown("a", colour="red")]))
    assert "colour" in str(caught.value)


def test_a_mapping_file(write: Write, tmp_path: Path) -> None:
    path = write(
        [{"q": "hello", "r": "a", "ev": {"kind": "copy"}}, {"q": "hello", "r": "b", "ev": {"kind": "again"}}]
    )
    rules = write(
        "columns: {prompt: q, completion: r}\nrules:\n  - {if: \"ev.kind == 'copy'\", weight: 0.4}\n"
        "  - {if: \"ev.kind == 'again'\", label: undesirable, explicit: true, name: asked again}\n",
        "rules.yaml",
    )
    found = make_kto(path, tmp_path / "out.jsonl", rules=rules)
    assert [(r["rule"], r["rule_weight"], r["explicit"]) for r in found["rules"]] == [
        ("ev.kind == 'copy'", 0.4, False),
        ("asked again", 1.0, True),
    ]
    for text, said in (
        ("rules: []", "rules:"),
        ("rules: [{if: copied, lable: x}]", "label"),
        ("rules: [{if: 3}]", "rules[1]"),
        ("rule: [", "rules"),
    ):
        with pytest.raises(SwiftshellError) as caught:
            make_kto(path, tmp_path / "no.jsonl", rules=write(text, "bad.yaml"))
        assert said in str(caught.value), text


def test_a_column_that_no_row_has_is_named_before_anything_is_written(write: Write, tmp_path: Path) -> None:
    path = write([shown(copied=True)])
    with pytest.raises(SwiftshellError, match="copied") as caught:
        make_kto(path, tmp_path / "out.jsonl", LogOptions(signals(["coppied"])))
    assert caught.value.problems[0].code == "logs.rule_column_near"
    assert not (tmp_path / "out.jsonl").exists()


def test_rows_that_cannot_be_used_are_named_and_only_dropped_when_allowed(write: Write) -> None:
    path = write(
        [
            shown("a", copied=True),
            {"query": "q", "copied": True},
            shown("c", copied="perhaps"),
            shown("d", copied=True),
        ]
    )
    with pytest.raises(SwiftshellError) as caught:
        made(path, ["copied"])
    assert {(p.code, p.row, p.line) for p in caught.value.problems} == {
        ("data.field_missing", 2, 2),
        ("logs.not_yes_or_no", 3, 3),
    }
    assert len(made(path, ["copied"], drop_budget=2)) == 2


def test_conversations_keep_their_system_prompt_tools_and_earlier_rounds(write: Write) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "Nothing."},
    ]
    (row,) = made(write([{"messages": turns, "tools": [{"name": "f"}], "copied": 1}]), ["copied"])
    assert row["prompt"] + row["completion"] == turns
    assert json.loads(row["tools"]) == [{"name": "f"}]


def test_rarely_shown_answers_weigh_more_up_to_a_limit(write: Write) -> None:
    path = write(
        [shown("a", copied=1, propensity=0.5), shown("b", copied=1, propensity=0.01), shown("c", copied=1)]
    )
    assert [r["weight"] for r in made(path, ["copied"])] == [0.6, 1.5, 0.3]
    with pytest.raises(SwiftshellError, match="above 0"):
        made(write([shown("a", copied=1, propensity=0.0)]), ["copied"])


def test_pairs_become_rows_and_rows_pairs_again(write: Write, tmp_path: Path) -> None:
    pairs = write(
        [{"prompt": f"q{i}", "chosen": f"good {i}", "rejected": f"bad {i}", "source": "x"} for i in range(4)]
    )
    kto, dpo = tmp_path / "kto.jsonl", tmp_path / "dpo.jsonl"
    assert make_kto(pairs, kto)["desirable"] == 4
    found = make_dpo(kto, dpo)
    assert (found["pairs"], found["alone"]) == (4, 0)
    back = [
        (
            r.data["prompt"][0]["content"],
            r.data["chosen"][0]["content"],
            r.data["rejected"][0]["content"],
            r.extra["source"],
        )
        for r in load_rows(dpo, "dpo")
    ]
    assert back == [(f"q{i}", f"good {i}", f"bad {i}", "x") for i in range(4)]
    with pytest.raises(SwiftshellError, match="--for dpo"):
        make_dpo(pairs, tmp_path / "no.jsonl")


def test_csv_logs_and_everything_in_chinese(tmp_path: Path, write: Write) -> None:
    write("query,response,copied,regenerated\n你好,您好,true,false\n天气,晴,0,1\n再见,再见,,\n", "log.csv")
    done = swiftshell(
        "data",
        "make-kto",
        "--lang",
        "zh",
        "--from",
        "log.csv",
        "--rule",
        "copied",
        "--not",
        "regenerated",
        "-o",
        "o.jsonl",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert "1 行没有结论" in done.stdout
    assert [
        json.loads(x)["label"] for x in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()
    ] == [True, False]


def test_a_column_that_comes_late_is_found(write: Write) -> None:
    plain = [shown(f"answer number {i}", query=str(i), copied=True) for i in range(300)]
    rows = made(
        write([*plain, shown("all of this was wrong", query="x", edited_answer="now it is quite right")])
    )
    assert [r["label"] for r in rows[-2:]] == [False, True]


def test_a_log_of_events_is_put_together(write: Write, tmp_path: Path) -> None:
    lines = [
        {"request_id": 1, "event": "copied"},
        {"request_id": 1, "query": "q", "response": "first", "user_id": "u"},
        {"request_id": 2, "query": "q", "response": "second", "event": None},
        {"request_id": 2, "event": "thumb", "value": "down", "ts": "2026-01-01"},
        {"request_id": 2, "event": "dwell_s", "value": 12.5},
        {"request_id": 3, "query": "q", "response": "third"},
        {"request_id": 9, "event": "copied"},
    ]
    write(lines, "log.jsonl")
    words = (
        "--rule",
        "copied",
        "--not",
        "thumb == 'down'",
        "--not",
        "dwell_s < 1",
        "--join",
        "request_id",
        "-o",
        "o.jsonl",
    )
    done = swiftshell("data", "make-kto", "--from", "log.jsonl", *words, "--json", cwd=tmp_path)
    answer = as_json(done)
    assert (answer["data"]["rows"], answer["data"]["no_verdict"]) == (3, 1)
    rows = [json.loads(x) for x in (tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(r["completion"][0]["content"], r["label"], r["weight"]) for r in rows] == [
        ("first", True, 0.3),
        ("second", False, 1.0),
    ]
    assert rows[0]["source_row"] == 2
    assert [p["code"] for p in answer["problems"]] == ["logs.events_lost"]
    for column, code in (("request", "logs.join_absent"), ("prompt", "logs.no_events")):
        path = write([shown(copied=True, prompt="x")] if code == "logs.no_events" else lines, "other.jsonl")
        with pytest.raises(SwiftshellError) as caught:
            made(path, ["copied"], join=column)
        assert caught.value.problems[0].code == code
        assert "{" not in str(caught.value)
