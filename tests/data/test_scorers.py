"""Scorers: what they say of an answer, what they refuse without, a judge that misbehaves, and one probability of them all."""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.scoring import JudgeOptions, ScoreOptions, Scoring
from swiftshell.data.combine import by_labels, by_threshold
from swiftshell.data.histogram import histogram
from swiftshell.data.load import check_rows, load_rows
from swiftshell.data.scorers.catalog import NAMES
from swiftshell.data.scorers.logistic import auc_of, calibrate
from swiftshell.data.scorers.words import words
from swiftshell.errors import SwiftshellError
from swiftshell.render.scores import histogram_lines
from tests.cli.support import as_json, swiftshell
from tests.data.conftest import Write

Reply = Callable[[dict[str, Any]], tuple[int, Any]]


def scored(
    path: Path, *scorers: str, out: str = "scored.jsonl", **options: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    target = path.parent / out
    target.unlink(missing_ok=True)
    scoring = Scoring(path, target, ScoreOptions(scorers, **options), lambda names: None)
    found = scoring.run(None, lambda *_: None)
    return [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()], found


def answer(text: str, reference: str | None = None, **more: Any) -> dict[str, Any]:
    row = {"prompt": "q", "completion": text, **more}
    return row if reference is None else {**row, "reference": reference}


def test_words_are_counted_in_both_languages() -> None:
    assert words("The cat's 2 hats 你好吗 カナ!") == [
        "the",
        "cat",
        "s",
        "2",
        "hats",
        "你",
        "好",
        "吗",
        "カ",
        "ナ",
    ]


def test_scores_against_a_reference(write: Write) -> None:
    path = write(
        [
            answer("the cat sat", "the cat sat"),
            answer("a dog ran far", "the cat sat"),
            answer("the cat", "the cat sat"),
            answer("今天天气很好", "今天天气很好"),
            answer("今天天气不好", "今天天气很好"),
            answer("no reference"),
        ]
    )
    rows, found = scored(path, "rouge", "rouge1", "bleu", "chrf", "exact")
    for name in ("rouge", "rouge1", "bleu", "chrf"):
        same, other, part, same_zh, near_zh, none = (row[f"score_{name}"] for row in rows)
        assert (same, same_zh, none) == (pytest.approx(1.0), pytest.approx(1.0), None), name
        assert other < part < 1, name
        assert 0.2 < near_zh < 1, name
    assert rows[2]["score_rouge"] == pytest.approx(0.8)  # precision 1, recall 2/3
    assert [r["score_exact"] for r in rows] == [1, 0, 0, 1, 0, None]
    assert found["scores"]["rouge"]["without"] == 1


def test_numbers_are_compared_as_numbers(write: Write) -> None:
    path = write(
        [
            answer("So it is 1,200.", "#### 1200"),
            answer("12", "#### 13"),
            answer("none", "4"),
            answer("half: 1/2", "0.5"),
        ]
    )
    rows, _ = scored(path, "number")
    assert [r["score_number"] for r in rows] == [1, 0, 0, 1]


def test_length_repetition_and_rules(write: Write) -> None:
    rules = write("{min_chars: 5, excludes: [sorry]}", "rules.yaml")
    path = write(
        [
            answer("one two three four five six"),
            answer("na " * 40),
            answer("sorry"),
            answer("x", rules={"contains": ["y"]}),
        ]
    )
    rows, _ = scored(path, "length:min=3,max=20", "repetition", f"rules:file={rules}")
    assert [r["score_length"] for r in rows] == [1, 0.5, pytest.approx(1 / 3), pytest.approx(1 / 3)]
    assert [r["score_repetition"] > 0.9 for r in rows] == [True, False, True, True]
    assert [r["score_rules"] for r in rows] == [1, 1, 0.5, 0.5]
    own, _ = scored(path, "rules")
    assert [r["score_rules"] for r in own] == [None, None, None, 0]


def test_without_limits_a_length_is_held_against_the_others(write: Write) -> None:
    path = write([answer("word " * n) for n in [*range(50, 150), 5000]])
    rows, _ = scored(path, "length")
    assert rows[50]["score_length"] == 1
    assert rows[-1]["score_length"] < 0.1


def test_all_columns_stay_and_what_people_said_too(write: Write) -> None:
    path = write([answer("a", source={"x": [1]}, kto_tag="👍"), answer("b", source=None, kto_tag="👎")])
    rows, _ = scored(path, "length:min=1")
    assert rows[0]["source"] == {"x": [1]}
    assert [r.data["label"] for r in load_rows(path.parent / "scored.jsonl", "kto")] == [True, False]


def test_everything_that_is_missing_is_said_at_once_and_before_anything_runs(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SWIFTSHELL_JUDGE_KEY", raising=False)
    path = write([answer("a", colour="red")])

    def planned(_: list[str]) -> None:
        raise SwiftshellError(())

    with pytest.raises(SwiftshellError) as caught:
        Scoring(path, tmp_path / "o.jsonl", ScoreOptions(["rouge", "rules", "judge", "likelihood"]), planned)
    assert {p.code for p in caught.value.problems} == {
        "score.needs_reference",
        "score.needs_rules",
        "score.needs_endpoint",
        "score.needs_judge_model",
    }
    assert "colour" in str(caught.value)
    assert "--judge-url" in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("scorer", "code", "said"),
    [
        ("factscore", "score.no_factscore", "judge"),
        ("bertscore", "score.no_bertscore", "chrf"),
        ("meteor", "score.no_meteor", "chrf"),
        ("rogue", "score.unknown", "rouge"),
        ("length:least=3", "score.bad_option", "min"),
        ("length:min=few", "score.bad_option", "few"),
        ("rules:file=nowhere.yaml", "score.rules_unreadable", "nowhere.yaml"),
    ],
)
def test_what_is_not_to_be_had_says_what_to_use_instead(
    write: Write, tmp_path: Path, scorer: str, code: str, said: str
) -> None:
    path = write([answer("a")])
    with pytest.raises(SwiftshellError) as caught:
        Scoring(path, tmp_path / "o.jsonl", ScoreOptions([scorer]), lambda _: None)
    assert caught.value.problems[0].code == code
    assert said in str(caught.value)


def test_pairs_and_rows_without_answers_are_refused(write: Write, tmp_path: Path) -> None:
    for rows, code in (
        ([{"prompt": "q", "chosen": "a", "rejected": "b"}], "score.pairs"),
        ([{"prompt": "q", "thing": 1}], "score.no_answers"),
    ):
        with pytest.raises(SwiftshellError) as caught:
            Scoring(write(rows), tmp_path / "o.jsonl", ScoreOptions(["length"]), lambda _: None)
        assert caught.value.problems[0].code == code
    path = write([answer("a"), {"prompt": "q", "completion": 3}, answer("")])
    with pytest.raises(SwiftshellError) as caught:
        Scoring(path, tmp_path / "o.jsonl", ScoreOptions(["length"]), lambda _: None)
    assert [(p.row, p.line) for p in caught.value.problems] == [(2, 2), (3, 3)]


# --- one probability ---


def test_thresholds_give_one_half_where_they_lie() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, math.nan]
    found = by_threshold({"a": values}, {"a": 0.3})
    assert [p is not None and p >= 0.5 for p in found] == [False, False, True, True, True, False]
    assert (found[0], found[4], found[5]) == (pytest.approx(0.1), pytest.approx(0.9), None)
    assert found[:5] == sorted(p for p in found if p is not None)
    both = by_threshold({"a": values, "b": [0.0, 1, 1, 1, 0, math.nan]}, {"a": 0.3, "b": 0.5})
    assert both[4] is not None
    assert found[4] is not None
    assert both[4] < found[4]


def test_scores_are_calibrated_on_labels(write: Write) -> None:
    draw = random.Random(1)
    rows, truth = [], []
    for i in range(600):
        z = draw.gauss(0, 1.5)
        truth.append(draw.random() < 1 / (1 + math.exp(-z)))
        rows.append([z, draw.gauss(0, 1), None if i % 3 else 1.0])
    found = calibrate(rows, truth)
    assert found.auc > 0.75
    assert found.auc_low > 0.7
    assert found.log_loss < found.base_loss - 0.1
    weights = [w / s for w, s in zip(found.model.weights, found.model.deviations, strict=False)]
    assert weights[0] == pytest.approx(1.0, abs=0.25)  # what the labels were drawn by
    assert abs(weights[1]) < 0.25
    for p, share, number in found.bins:
        assert abs(p - share) < 3 * math.sqrt(0.25 / number) + 0.02
    assert auc_of([(0.5, True), (0.5, False)]) == 0.5


def test_labels_calibrate_and_unjudged_rows_get_the_probability(write: Write) -> None:
    draw = random.Random(2)
    rows: list[dict[str, Any]] = []
    for i in range(500):
        good = draw.random() < 0.5
        text = "right" if good == (draw.random() < 0.85) else "wrong"
        rows.append(answer(f"{text} {i}", f"right {i}", label=good if i < 300 else None))
    path = write(rows)
    out, found = scored(path, "rouge", "length", combine="labels")
    assert found["calibration"]["rows"] == 300
    assert found["calibration"]["auc"] > 0.75
    assert all(r["probability"] == float(r["label"]) for r in out[:300])
    right = [r["probability"] for r in out[300:] if r["completion"].startswith("right")]
    assert 0.75 < sum(right) / len(right) < 0.95
    report = check_rows(path.parent / "scored.jsonl", "kto")
    assert (report.ok, report.usable) == (True, 500)
    with pytest.raises(SwiftshellError) as caught:
        scored(write(rows[:150]), "rouge", combine="labels")
    assert "150" not in str(caught.value)
    assert caught.value.problems[0].code == "score.few_labels"


def test_scores_that_say_nothing_write_no_probability(write: Write) -> None:
    draw = random.Random(3)
    path = write([answer("word " * draw.randint(1, 60), label=draw.random() < 0.5) for _ in range(400)])
    out, found = scored(path, "length:min=30", "repetition", combine="labels")
    assert found["notes"] == ["score.not_telling"]
    assert "probability" not in out[0]
    assert "score_length" in out[0]
    numbers, calibration = by_labels({"a": [0.0] * 400}, [i % 2 == 0 for i in range(400)])
    assert calibration.auc == 0.5
    assert numbers[0] == pytest.approx(0.5)


def test_a_histogram_shows_where_a_threshold_cuts() -> None:
    found = histogram([1, 2, 2, 3, 4, 5, 5, 5, math.nan], 3.5)
    assert (found["counts"], found["below"], found["above"]) == ([1, 2, 1, 1, 3], 4, 4)
    lines = histogram_lines(found, unicode=False)
    assert [line.split()[0] for line in lines] == ["1", "2", "3", "3.5", "4", "5"]
    assert "----" in lines[3]
    assert sum(histogram([i / 7 for i in range(1000)])["counts"]) == 1000
    cut = histogram([i / 999 for i in range(1000)], 0.37)
    at = cut["edges"].index(0.37)
    assert (sum(cut["counts"][:at]), sum(cut["counts"][at:])) == (cut["below"], cut["above"]) == (370, 630)
    assert histogram_lines(histogram([]), unicode=True) == []


# --- the judge ---


class Court(ThreadingHTTPServer):
    """A judge on loopback; `reply` decides what it says."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.reply = reply
        self.heard: list[dict[str, Any]] = []
        self.keys: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Court

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.heard.append(body)
        self.server.keys.append(self.headers.get("Authorization"))
        status, said = self.server.reply(body)
        payload = (
            said
            if isinstance(said, bytes)
            else json.dumps({"choices": [{"message": {"content": said}}]}).encode()
        )
        self.send_response(status)
        if status in (301, 307):
            self.send_header("Location", "http://127.0.0.1:1/elsewhere")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: Any) -> None:
        return


@pytest.fixture
def court() -> Iterator[Callable[[Reply], Court]]:
    opened: list[Court] = []

    def open_(reply: Reply) -> Court:
        server = Court(reply)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        opened.append(server)
        return server

    yield open_
    for server in opened:
        server.shutdown()
        server.server_close()


def judging(server: Court, **more: Any) -> dict[str, Any]:
    return {"judge": JudgeOptions(server.url, "m", first_wait_s=0.01, **more)}


def fair(body: dict[str, Any]) -> tuple[int, str]:
    """Prefer the answer with "good" in it, wherever it stands; say what it thinks around the verdict."""
    text = body["messages"][1]["content"]
    if "[answer A" in text:
        first, second = text.split("[answer B")
        a, b = "good" in first.split("[answer A")[1], "good" in second
        verdict = "tie" if a == b else "A" if a else "B"
    else:
        good = "good" in text.split("[answer ")[1].split("[end")[0]
        verdict = "A" if good == ("A if the answer is acceptable" in text) else "B"
    return (
        200,
        f'<think>{{"verdict": "B"}}</think>Well.\n```json\n{{"reason": "so", "verdict": "{verdict}"}}\n```',
    )


def test_a_judge_is_asked_in_both_orders(write: Write, court: Callable[[Reply], Court]) -> None:
    server = court(fair)
    path = write(
        [answer("good"), answer("bad"), answer("good", "bad"), answer("bad", "good"), answer("bad", "bad 2")]
    )
    rows, found = scored(path, "judge", **judging(server))
    assert [r["score_judge"] for r in rows] == [1, 0, 1, 0, 0.5]
    assert (found["judge"]["asked"], found["judge"]["inconsistent"]) == (10, 0)
    assert all(b["temperature"] == 0 and b["model"] == "m" for b in server.heard)


def test_a_judge_that_likes_the_first_place_says_nothing(
    write: Write, court: Callable[[Reply], Court]
) -> None:
    server = court(lambda _: (200, '{"verdict": "A"}'))
    rows, found = scored(write([answer("x"), answer("x", "y")]), "judge", **judging(server))
    assert [r["score_judge"] for r in rows] == [0.5, 0.5]
    assert found["judge"]["inconsistent"] == 2


def test_replies_without_a_verdict_are_asked_again_and_then_counted(
    write: Write, court: Callable[[Reply], Court]
) -> None:
    server = court(
        lambda body: (
            200,
            "I cannot say." if "odd" in body["messages"][1]["content"] else '{"verdict": "tie"}',
        )
    )
    rows, found = scored(write([answer("odd"), answer("x")]), "judge", **judging(server))
    assert [r["score_judge"] for r in rows] == [None, 0.5]
    assert (found["judge"]["unreadable"], found["judge"]["asked"]) == (2, 6)


def test_a_busy_judge_is_asked_again(write: Write, court: Callable[[Reply], Court]) -> None:
    turns = iter([(503, b"busy"), (429, b"slow down"), (200, b"not json")])
    server = court(lambda body: next(turns, None) or fair(body))
    rows, _ = scored(write([answer("good")]), "judge", **judging(server, concurrency=1))
    assert rows[0]["score_judge"] == 1


def test_a_refusal_does_not_wait_for_those_who_wait(write: Write, court: Callable[[Reply], Court]) -> None:
    count = iter(range(1000))
    server = court(lambda _: (401, b"no") if next(count) == 5 else (503, b"busy"))
    began = time.monotonic()
    with pytest.raises(SwiftshellError, match="401"):
        scored(
            write([answer(f"x {i}") for i in range(8)]),
            "judge",
            judge=JudgeOptions(server.url, "m", first_wait_s=20.0),
        )
    assert time.monotonic() - began < 15


def test_what_was_judged_is_kept_when_the_judge_goes_away(
    write: Write, court: Callable[[Reply], Court]
) -> None:
    count = iter(range(1000))
    server = court(lambda body: fair(body) if next(count) < 7 else (400, b"quota key-123 used up"))
    path = write([answer(f"good {i}") for i in range(10)])
    with pytest.raises(SwiftshellError) as caught:
        scored(path, "judge", **judging(server, concurrency=1))
    assert caught.value.problems[0].code == "score.judge_refused"
    assert not (path.parent / "scored.jsonl").exists()
    log = path.parent / "scored.jsonl.judge.jsonl"
    assert len(log.read_text(encoding="utf-8").split()) >= 7
    with log.open("a") as file:
        file.write('{"id": "torn')  # as a kill leaves it
    second = court(fair)
    rows, found = scored(path, "judge", **judging(second))
    assert found["judge"]["asked"] == 13
    assert [r["score_judge"] for r in rows] == [1.0] * 10


def test_the_key_is_sent_to_the_judge_alone_and_never_said(
    write: Write, court: Callable[[Reply], Court], tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("sk-very-secret\n", encoding="utf-8")
    server = court(lambda _: (401, b"bad key sk-very-secret"))
    with pytest.raises(SwiftshellError) as caught:
        scored(write([answer("x")]), "judge", **judging(server, key_file=str(key)))
    assert set(server.keys) == {"Bearer sk-very-secret"}
    assert "401" in str(caught.value)
    assert "secret" not in str(caught.value) + repr(caught.value)
    moved = court(lambda _: (307, b""))
    with pytest.raises(SwiftshellError, match="307"):
        scored(write([answer("x")]), "judge", **judging(moved, key_file=str(key)))
    plain = JudgeOptions("http://judge.example/v1", "m", str(key))
    with pytest.raises(SwiftshellError) as caught:
        Scoring(
            write([answer("x")]), tmp_path / "o.jsonl", ScoreOptions(["judge"], judge=plain), lambda _: None
        )
    assert caught.value.problems[0].code == "score.key_in_clear"


def test_nothing_leaves_the_machine_unless_asked(tmp_path: Path, write: Write) -> None:
    write([answer("x")], "a.jsonl")
    done = swiftshell(
        "data",
        "score",
        "a.jsonl",
        "-s",
        "judge",
        "--judge-url",
        "https://judge.example/v1",
        "--judge-model",
        "m",
        "-o",
        "o.jsonl",
        cwd=tmp_path,
    )
    assert done.returncode == 2
    assert "judge.example" in done.stderr
    assert "--yes" in done.stderr


def test_the_command_in_both_languages(tmp_path: Path, write: Write, court: Callable[[Reply], Court]) -> None:
    write([answer("good answer", "good answer"), answer("bad", "good answer")], "a.jsonl")
    done = swiftshell(
        "data",
        "score",
        "a.jsonl",
        "-s",
        "rouge",
        "-s",
        "judge",
        "--judge-url",
        court(fair).url,
        "--judge-model",
        "m",
        "--combine",
        "thresholds",
        "--threshold",
        "rouge=0.5",
        "-o",
        "o.jsonl",
        "--json",
        cwd=tmp_path,
    )
    found = as_json(done)["data"]
    assert list(found["scores"]) == ["rouge", "judge"]
    assert found["combined"]["desirable"] == 1
    done = swiftshell("data", "score", "--lang", "zh", "a.jsonl", "-s", "chrf", "-o", "p.jsonl", cwd=tmp_path)
    assert "2 条回答" in done.stdout
    helped = swiftshell("data", "score", "--help", cwd=tmp_path).stdout
    assert all(name in helped for name in NAMES)
