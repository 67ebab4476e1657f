"""Review without a terminal: what is asked first, what is kept, what it tells, and how it corrects the data."""

from __future__ import annotations

import json
import multiprocessing
import random
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.review.apply import apply_reviews
from swiftshell.data.review.items import content_hash, items, load_labelled
from swiftshell.data.review.log import ReviewLog, Said, log_path, now
from swiftshell.data.review.numbers import Share, agreement, is_time_to_stop, kappa, noise, report
from swiftshell.data.review.queue import queue, random_order
from swiftshell.data.review.sitting import Sitting
from swiftshell.errors import SwiftshellError
from swiftshell.i18n import set_language
from swiftshell.render.board import cells
from swiftshell.render.review import View, as_text, frame, harmless

WORDS = (
    "abate bring cloth drift elbow frame grain haste inlet joint knack ledge mango noble orbit piano quilt"
)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def plain_rows(count: int) -> list[dict[str, Any]]:
    draw, words = random.Random(7), WORDS.split()
    return [
        {
            "prompt": f"{i}: {' '.join(draw.sample(words, 6))}?",
            "completion": " ".join(draw.sample(words, 9)),
            "label": i % 2 == 0,
        }
        for i in range(count)
    ]


def sitting_on(path: Path, by: str = "anna", **options: Any) -> Sitting:
    return Sitting(items(load_labelled(path)), ReviewLog(log_path(path)), by, **options)


# ------------------------------------------------------------------------------------------------- the audit file


def test_verdicts_survive_a_torn_last_line_and_are_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(6))
    sitting = sitting_on(path, order="file")
    sitting.judge("desirable")
    sitting.judge("undesirable")
    log = log_path(path)
    whole = log.read_bytes()
    log.write_bytes(whole + b'{"v":1,"kind":"verdict","hash":"ab')
    again = sitting_on(path, order="file")
    assert again.log.unreadable == [3]
    assert again.left == 4
    again.judge("skip")
    assert log.read_bytes().startswith(whole)
    last = ReviewLog(log)
    assert [s.verdict for s in last.of("anna").values()] == ["desirable", "undesirable", "skip"]
    assert last.unreadable == [3]


def _judge_many(path: str, by: str) -> None:
    sitting = sitting_on(Path(path), by, order="file")
    while sitting.here:
        sitting.judge("desirable" if by == "anna" else "undesirable")


def test_several_reviewers_write_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(40))
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=_judge_many, args=(str(path), by)) for by in ("anna", "ben")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    log = ReviewLog(log_path(path))
    assert log.unreadable == []
    assert {by: len(said) for by, said in log.said.items()} == {"anna": 40, "ben": 40}


def test_a_verdict_belongs_to_the_answer_not_to_its_row(tmp_path: Path) -> None:
    rows = plain_rows(5)
    path = write(tmp_path / "t.jsonl", rows)
    sitting = sitting_on(path, order="file")
    judged = sitting.here
    assert judged is not None
    sitting.judge("undesirable")
    write(path, [*rows[::-1], {**rows[1], "completion": "something else"}])
    later = sitting_on(path, order="file")
    assert judged.item.hash not in {s.item.hash for s in queue(later.found, "file", later.log.of("anna"))}
    assert later.left == 5


def test_undo_brings_back_the_last_one_even_of_an_earlier_sitting(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(4))
    first = sitting_on(path, order="file")
    shown = first.here
    first.judge("desirable")
    later = sitting_on(path, order="file")
    assert later.undo()
    assert later.here == shown
    later.judge("undesirable")
    assert not sitting_on(path, by="ben", order="file").undo()
    assert [s.verdict for s in ReviewLog(log_path(path)).of("anna").values()] == ["undesirable"]


def test_a_log_that_cannot_be_written_is_an_error_with_a_sentence(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(3))
    log_path(path).mkdir()
    with pytest.raises(SwiftshellError) as caught:
        sitting_on(path)
    assert caught.value.problems[0].code == "review.log_unusable"


# ------------------------------------------------------------------------------------------------- the order


def with_audit(rows: list[dict[str, Any]], p: dict[int, float]) -> list[dict[str, Any]]:
    return [
        {**r, "audit_p_wrong": p.get(i, 0.01), "audit_reason": "audit.reason.crossfit", "audit_sure": "high"}
        for i, r in enumerate(rows)
    ]


def found_items(path: Path) -> list[Any]:
    from swiftshell.data.review.items import audit_of

    rows = load_labelled(path)
    return items(rows, audit_of(rows))


def test_the_most_doubtful_come_first_and_a_tenth_comes_by_chance(tmp_path: Path) -> None:
    doubtful = {4: 0.9, 10: 0.8, 20: 0.7, 31: 0.85}
    path = write(tmp_path / "t.jsonl", with_audit(plain_rows(60), doubtful))
    order = queue(found_items(path), "informative")
    assert [s.item.rows[0] - 1 for s in order[:4]] == [4, 10, 20, 31], (
        "three called good, then one called bad"
    )
    sample = [s.item for s in order if s.sample]
    assert len(order) == 60
    assert len(sample) == 6
    assert len({s.item.hash for s in order}) == 60
    shown_before = {s.item.hash for s in order[:9]}
    assert sample[0] == next(i for i in random_order(found_items(path)) if i.hash not in shown_before)


def test_weight_and_contradiction_count(tmp_path: Path) -> None:
    rows = with_audit(plain_rows(30), {0: 0.5, 2: 0.5, 4: 0.4})
    rows[2]["weight"] = 5.0
    for i, row in enumerate(rows):
        row.setdefault("weight", 1.0)
        row["completion"] = f"{row['completion']} {i}"
    path = write(
        tmp_path / "t.jsonl",
        [*rows, {**rows[4], "label": False, "audit_p_wrong": 0.4}, {**rows[4], "audit_p_wrong": 0.4}],
    )
    order = queue(found_items(path), "informative")
    assert [s.item.rows[0] for s in order[:3]] == [3, 5, 1]
    assert order[1].item.conflict
    assert order[1].item.rows == (5, 31, 32)
    assert order[1].item.label is True


def test_without_an_audit_contradictions_and_scores_speak(tmp_path: Path) -> None:
    rows = plain_rows(80)
    for i, row in enumerate(rows):
        row["score_rouge"] = 0.9 if row["label"] else 0.1
        row["score_noise"] = (i * 37 % 80) / 80
    rows[8]["score_rouge"] = 0.05
    path = write(tmp_path / "t.jsonl", rows)
    first = queue(found_items(path), "informative")[0].item
    assert first.rows == (9,)
    assert first.doubt is not None
    assert first.doubt.reason == "audit.reason.scores"
    assert set(first.scores) == {"rouge", "noise"}, "all are shown; the one that says nothing of labels is no evidence"


def test_near_copies_come_once_and_the_others_last(tmp_path: Path) -> None:
    text = "The museum in the old town opens at nine in the morning and closes at five in the afternoon every day"
    rows = plain_rows(20)
    copies = [
        {"prompt": "When does the museum in the old town open?", "completion": f"{text}{end}", "label": True}
        for end in (".", "!", " .", "...")
    ]
    path = write(tmp_path / "t.jsonl", with_audit([*copies, *rows], {0: 0.9, 1: 0.9, 2: 0.9, 3: 0.9}))
    order = [s.item.rows[0] for s in queue(found_items(path), "informative") if not s.sample]
    assert len([r for r in order[:10] if r <= 4]) == 1
    assert set(order) | {s.item.rows[0] for s in queue(found_items(path), "informative") if s.sample} == set(
        range(1, 25)
    )


def test_the_work_can_be_divided(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(40))
    anna = sitting_on(path, budget=20)
    while anna.here:
        anna.judge("desirable")
    assert anna.judged == 20
    ben = sitting_on(path, by="ben", divide=True)
    left = {s.item.hash for s in ben._left}
    theirs = set(anna.log.of("anna"))
    sample = {s.item.hash for s in queue(ben.found, "informative") if s.sample}
    assert left & theirs == sample & theirs
    assert len(left) == 20 + len(sample & theirs)


# ------------------------------------------------------------------------------------------------- the numbers


def test_cohens_kappa_of_the_textbook() -> None:
    """20 yes-yes, 15 no-no, 5 yes-no, 10 no-yes: po 0.7, pe 0.5, κ 0.4."""
    pairs = [(True, True)] * 20 + [(False, False)] * 15 + [(True, False)] * 5 + [(False, True)] * 10
    assert kappa(pairs) == pytest.approx(0.4)
    assert kappa([(True, True)] * 5) is None
    assert kappa([(True, False), (False, True)]) == pytest.approx(-1.0)


@pytest.mark.parametrize(
    ("hits", "total", "low", "high"), [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (8, 10, 0.4902, 0.9433)]
)
def test_wilsons_interval(hits: int, total: int, low: float, high: float) -> None:
    assert Share(hits, total).interval == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_the_noise_is_estimated_from_the_random_answers_alone(tmp_path: Path) -> None:
    """A reviewer sees the doubtful ones first; counting those would call the data far noisier than they are."""
    truth = random.Random(3)
    rows = plain_rows(400)
    wrong = {i for i in range(400) if truth.random() < 0.2}
    path = write(tmp_path / "t.jsonl", with_audit(rows, {i: 0.9 for i in wrong if truth.random() < 0.9}))
    sitting = Sitting(found_items(path), ReviewLog(log_path(path)), "anna", budget=200)
    while (shown := sitting.here) is not None:
        is_wrong = shown.item.rows[0] - 1 in wrong
        sitting.judge("desirable" if bool(shown.item.label) != is_wrong else "undesirable")
    said = [s for s in sitting.log.of("anna").values() if s.label is not None]
    assert sum(s.is_error for s in said) / len(said) > 0.35
    estimate = noise(sitting.found, sitting.log)["all"]
    assert estimate.total >= 20
    low, high = estimate.interval
    assert low <= len(wrong) / 400 <= high
    sides = noise(sitting.found, sitting.log)
    assert sides["desirable"].total + sides["undesirable"].total == estimate.total


def test_a_random_order_is_all_sample(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(30))
    sitting = sitting_on(path, order="random", budget=12)
    while (shown := sitting.here) is not None:
        sitting.judge("desirable" if shown.item.label else "undesirable")
    estimate = noise(sitting.found, sitting.log)["all"]
    assert (estimate.hits, estimate.total) == (0, 12)


def test_when_to_stop() -> None:
    assert not is_time_to_stop(Share(0, 49))
    assert is_time_to_stop(Share(9, 50))
    assert not is_time_to_stop(Share(10, 50))


def test_the_report_names_rows_in_dispute(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(6))
    for by, verdict in (("anna", "desirable"), ("ben", "undesirable")):
        sitting = sitting_on(path, by, order="file")
        sitting.judge("desirable")
        sitting.judge("undesirable")
        sitting.judge(verdict)  # type: ignore[arg-type]
    found = sitting_on(path).found
    told = report(found, ReviewLog(log_path(path)))
    assert told["agreement"][0]["disagree_rows"] == [3]
    assert (told["agreement"][0]["same"], told["agreement"][0]["both"]) == (2, 3)
    assert told["unsettled_rows"] == [3]
    assert told["wrong_rows"] == []
    assert agreement(ReviewLog(log_path(path)))[0].kappa == pytest.approx(0.4)


# ------------------------------------------------------------------------------------------------- correcting


def test_applying_changes_what_was_said_and_nothing_else(tmp_path: Path) -> None:
    rows = [{**r, "source": f"s{i}", "id": f"id{i}"} for i, r in enumerate(plain_rows(6))]
    rows.append({**rows[0]})  # a copy follows the same verdict
    path = write(tmp_path / "t.jsonl", rows)
    before = path.read_bytes()
    log = ReviewLog(log_path(path))
    loaded = load_labelled(path)

    def say(row: int, verdict: Any, by: str = "anna", answer: str = "") -> None:
        log.judge(Said(content_hash(loaded[row].data), verdict, by, now(), row + 1, None, False, answer))

    say(0, "undesirable")
    say(1, "desirable")
    say(2, "desirable")
    say(3, "skip")
    say(4, "edit", answer="The right answer.")
    say(5, "desirable", "anna")
    say(5, "undesirable", "ben")
    applied = apply_reviews(loaded, log, tmp_path / "out.jsonl", source=path)
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [r["label"] for r in out] == [False, True, True, False, False, True, False, False]
    assert out[5]["completion"][-1]["content"] == "The right answer."
    assert out[4]["completion"][-1]["content"] == rows[4]["completion"]
    assert [r["source"] for r in out] == ["s0", "s1", "s2", "s3", "s4", "s4", "s5", "s0"]
    assert applied.counts == {
        "to_undesirable": 3,
        "to_desirable": 1,
        "confirmed": 1,
        "corrected": 1,
        "tie_kept": 1,
    }
    assert path.read_bytes() == before
    assert [r.data["label"] for r in load_labelled(tmp_path / "out.jsonl")] == [r["label"] for r in out]


@pytest.mark.parametrize(("ties", "count"), [("keep", 4), ("drop", 3), ("soft", 4)])
def test_what_a_divided_opinion_becomes_is_said_by_the_person(tmp_path: Path, ties: Any, count: int) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(4))
    log, loaded = ReviewLog(log_path(path)), load_labelled(path)
    for by, verdict in (("anna", "desirable"), ("ben", "undesirable")):
        log.judge(Said(content_hash(loaded[0].data), verdict, by, now()))  # type: ignore[arg-type]
    apply_reviews(loaded, log, tmp_path / "out.jsonl", source=path, ties=ties)
    out = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(out) == count
    assert (out[0].get("probability") == 0.5) is (ties == "soft")


def test_the_original_and_other_files_are_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", plain_rows(4))
    (tmp_path / "there.jsonl").write_text("x", encoding="utf-8")
    log, loaded = ReviewLog(log_path(path)), load_labelled(path)
    for out, code in ((path, "review.out_is_original"), (tmp_path / "there.jsonl", "review.out_exists")):
        with pytest.raises(SwiftshellError) as caught:
            apply_reviews(loaded, log, out, source=path)
        assert caught.value.problems[0].code == code
    assert (tmp_path / "there.jsonl").read_text(encoding="utf-8") == "x"


# ------------------------------------------------------------------------------------------------- the screen


@pytest.mark.parametrize(("width", "height"), [(79, 24), (39, 12), (199, 60)])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_a_frame_fits_whatever_it_shows(tmp_path: Path, width: int, height: int, lang: str) -> None:
    rows = [
        {"prompt": "问题" * 400, "completion": "很长的回答，" * 500, "label": True, "score_rouge": 0.5},
        {"prompt": "x", "completion": "word " * 2000, "label": False, "score_rouge": 0.1},
        {"prompt": "one line " * 3, "completion": "https://" + "a" * 500, "label": True, "score_rouge": 0.2},
    ]
    path = write(tmp_path / "t.jsonl", rows)
    sitting = sitting_on(path, order="file")
    set_language(lang)
    try:
        while sitting.here is not None:
            for view in (
                View(),
                View(scroll=3),
                View(scroll=10**6),
                View(help=True, scroll=0),
                View(said="said"),
            ):
                lines = frame(sitting, view, width, height, "t.jsonl")
                assert len(lines) == height
                assert max(cells(text) for _, text in lines) <= width
            sitting.judge("desirable")
    finally:
        set_language("auto")


def test_the_answer_is_in_sight_under_a_long_prompt(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.jsonl",
        [
            {"prompt": "word " * 2000, "completion": "The answer itself.", "label": True},
            {"prompt": "x", "completion": "y", "label": False},
        ],
    )
    text = as_text(frame(sitting_on(path, order="file"), View(), 79, 24, "t.jsonl"))
    assert "The answer itself." in text
    assert "word word" in text


def test_harmless_shows_what_it_takes_out() -> None:
    assert harmless("a\x1b[2Jb\u202ec\td\r\ne") == "a�[2Jb�c    d\ne"
    assert harmless("می\u200cخواهم 👩\u200d🔧") == "می\u200cخواهم 👩\u200d🔧"
