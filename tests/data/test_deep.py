"""The deep look: near-duplicates, languages, personal data, boilerplate, leaks; and lengths in tokens."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data import language, near, scan
from swiftshell.data.boilerplate import boilerplate
from swiftshell.data.lengths import describe
from swiftshell.data.load import check_rows
from swiftshell.data.personal import is_bank_card, is_id_card, personal_data
from swiftshell.errors import SwiftshellError

from .conftest import Write, assistant, user

STARTER = Path(__file__).parents[2] / "swiftshell" / "starter"
WORDS = (STARTER / "data" / "sft.jsonl").read_text(encoding="utf-8").replace('"', " ").split()


@pytest.fixture(autouse=True)
def own_memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


def prose(rng: random.Random, words: int = 80) -> str:
    return " ".join(f"w{rng.randrange(5000)}" for _ in range(words))


def talk(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [user(question), assistant(answer)]}


# ------------------------------------------------------------------------------ personal data


def id_card(first17: str) -> str:
    """Return a resident's number with its check character, by the standard's own formula."""
    weights = [2 ** (17 - n) % 11 for n in range(17)]
    remainder = sum(int(c) * w for c, w in zip(first17, weights, strict=True)) % 11
    return first17 + "0123456789X"[(12 - remainder) % 11]


def bank_card(start: str) -> str:
    """Return a number with the digit that makes Luhn's sum a multiple of ten."""
    for last in "0123456789":
        total = 0
        for n, c in enumerate(reversed(start + last)):
            doubled = int(c) * (2 if n % 2 else 1)
            total += doubled // 10 + doubled % 10
        if total % 10 == 0:
            return start + last
    raise AssertionError(start)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Write to anna.smith+x@mail.firm.de, please.", "email"),
        ("我的手机号是13812345678，请打给我", "phone"),
        ("call +86 138 1234 5678 now", "phone"),
        ("reach me at +44 20 7946 0958.", "phone"),
        ("(415) 555-2671", "phone"),
        (f"身份证{id_card('11010519491231002')}，", "id_card"),
        (f"card {bank_card('622202020001234')} ok", "bank_card"),
        (f"card {' '.join(bank_card('453201511283036')[n : n + 4] for n in (0, 4, 8, 12))} ok", "bank_card"),
        ("ssh root@93.184.216.34 -p 22", "ip"),
        ("key AKIAIOSFODNN7EXAMPL2 here", "secret"),
        ("token = 'ghp_" + "a1B2" * 9 + "'", "secret"),
        ("HF_TOKEN=hf_" + "aB" * 17, "secret"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMII", "secret"),
    ],
)
def test_personal_data_is_found_and_shown_masked(text: str, kind: str) -> None:
    found = list(personal_data(text))
    assert [f.kind for f in found] == [kind]
    assert found[0].masked not in text
    assert "…" in found[0].masked


@pytest.mark.parametrize(
    "text",
    [
        "mail someone@example.com",
        "version 1.2.3.4 of 10.0.0.1, 192.168.1.1 and 127.0.0.1",
        "order 11010519491231002X9 and 110105194912310021",  # wrong check character
        "355909190063 - 746 = 355909189317",
        f"2 * {bank_card('411111111111111')} = 8",
        "4111 1111 1111 1112",  # Luhn does not fit
        "138123456789012",
        "pi is 3.14159265358979, e is 2.71828182845905",
        "2024-11-23 10:15:30, ISBN 978-3-16-148410-0",
        "a sk-ip and a hf_ and a ghp_ without more",
        "@user, look",
    ],
)
def test_what_only_looks_like_it_is_left_alone(text: str) -> None:
    assert list(personal_data(text)) == []


def test_check_digits_decide() -> None:
    rng = random.Random(5)
    for _ in range(200):
        card = bank_card(f"4{rng.randrange(10**13):013d}7")
        born = f"19{rng.randrange(10, 99)}0{rng.randint(1, 9)}1{rng.randrange(10)}"
        person = id_card(f"{rng.randint(1, 6)}{rng.randrange(10**5):05d}{born}{rng.randrange(10**3):03d}")
        assert is_bank_card(card)
        assert is_id_card(person)
        at = rng.randrange(6)
        assert not is_bank_card(card[:at] + str((int(card[at]) + 1) % 10) + card[at + 1 :])
        assert not is_id_card(person[:at] + str((int(person[at]) + 1) % 10) + person[at + 1 :])


# ------------------------------------------------------------------------------ boilerplate and languages


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("I cannot assist with this request.", "refusal"),
        ("Unfortunately, I am unable to open links.", "refusal"),
        ("很抱歉，我无法回答这个问题。", "refusal"),
        ("对不起，作为助手我不能提供。", "refusal"),
        ("As an AI language model, I have no feelings, but here is a list.", "self"),
        ("作为一个人工智能语言模型，我没有感情。", "self"),
        ("Sorry to hear that! Try turning it off and on.", None),
        ("The band is called I Can't Help Myself.", None),
        ("抱歉让你久等了，答案是四。", None),
        ("A language model is a program.", None),
    ],
)
def test_boilerplate_is_told_from_answers(answer: str, kind: str | None) -> None:
    found = boilerplate(answer)
    assert (found[0] if found else None) == kind


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Please explain to me how photosynthesis works in green plants.", "en"),
        ("请解释一下什么是光合作用，以及它为什么重要。", "zh"),
        ("Können Sie mir bitte erklären, wie das hier funktioniert?", "de"),
        ("Pouvez-vous m'expliquer comment cela fonctionne aujourd'hui ?", "fr"),
        ("これはどのように動作するのか教えてください。", "ja"),
        ("이것이 어떻게 작동하는지 설명해 주세요.", "ko"),
        ("Пожалуйста, объясните, как это работает.", "ru"),
        ("42 = 6 * 7", "?"),
        ("好", "?"),
    ],
)
def test_languages(text: str, code: str) -> None:
    assert language.language(text) == code


def test_a_mix_of_languages_is_counted(write: Write) -> None:
    rows = [talk("Say something.", "This is a longer sentence in English for you to read.")] * 6
    rows += [talk("说点什么。", "这是一句比较长的中文，给你读一读。")] * 3
    deep = check_rows(write(rows), "sft", deep=True).deep
    assert (deep["languages"], deep["language_rows"]) == ({"en": 6, "zh": 3}, 9)


# ------------------------------------------------------------------------------ near-duplicates and repeated answers


def test_near_duplicates_are_found_and_others_are_not(write: Write) -> None:
    rng = random.Random(11)
    texts = [prose(rng) for _ in range(60)]
    near_ones = []
    for text in texts[:20]:
        words = text.split()
        words[rng.randrange(len(words))] = "changed"
        near_ones.append(" ".join(words).upper() + "!")
    rows = [talk("Tell me.", text) for text in [*texts, *near_ones, *texts[:3]]]
    report = check_rows(write(rows), "sft", deep=True)
    found = {p.row: p.values["first"] for p in report.problems if p.code == "deep.near_duplicate"}
    assert found == {61 + n: 1 + n for n in range(20)}
    assert report.counts["data.duplicate"] == 3  # exact copies are no near-duplicates
    assert report.deep["near_duplicates"] == 20


def test_for_answers_that_were_judged_the_answers_are_compared(write: Write) -> None:
    rng = random.Random(2)
    long_question, answers = prose(rng, 400), [prose(rng) for _ in range(6)]
    rows = [{"prompt": long_question, "completion": a, "label": n % 2} for n, a in enumerate(answers)]
    assert check_rows(write(rows), "kto", deep=True).deep["near_duplicates"] == 0


@pytest.mark.parametrize(("share", "found"), [(0.95, True), (0.9, True), (0.5, False), (0.2, False)])
def test_alike_estimates_the_share_of_common_shingles(share: float, found: bool) -> None:
    rng = random.Random(int(share * 100))
    hits = 0
    for _ in range(20):
        common = [f"c{rng.random()}" for _ in range(round(400 * share))]
        own = [[f"{side}{rng.random()}" for _ in range(200 - len(common) // 2)] for side in "ab"]
        one, other = near.signatures([[*common, *own[0]], [*common, *own[1]]])
        assert abs(near.alike(one, other) - len(common) / 400) < 0.18
        same_band = bool(set(zip(range(16), near.bands(one))) & set(zip(range(16), near.bands(other))))  # noqa: B905
        hits += same_band and near.alike(one, other) >= near.ALIKE
    assert hits >= 19 if found else hits == 0


def test_an_answer_to_everything_is_told_with_its_number(write: Write) -> None:
    rng = random.Random(4)
    rows = [talk(prose(rng, 9), "I do not know.") for _ in range(7)] + [
        talk("q", prose(rng)) for _ in range(20)
    ]
    rng.shuffle(rows)
    report = check_rows(write(rows), "sft", deep=True)
    (problem,) = [p for p in report.problems if p.code == "deep.repeated_answer"]
    first = next(n for n, row in enumerate(rows, 1) if row["messages"][1]["content"] == "I do not know.")
    assert (problem.row, problem.values["times"]) == (first, 7)


def test_repeated_answers_are_found_among_many(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swiftshell.data.deep._COMMON_KEYS", 8)
    rows = [talk(f"q{n}", "the same" if n % 5 == 0 else f"answer {n}") for n in range(200)]
    assert check_rows(write(rows), "sft", deep=True).deep["repeated_answers"][0]["times"] == 40


# ------------------------------------------------------------------------------ leaks


def test_prompts_of_another_file_are_found_word_for_word_and_nearly(write: Write) -> None:
    rng = random.Random(8)
    questions = [prose(rng, 60) for _ in range(30)]
    nearly = questions[4].replace(" ", "  ", 3).rsplit(" ", 2)[0] + " other words?"
    held_out = write([{"prompt": questions[2]}, {"prompt": nearly}, {"prompt": "short one"}], "held.jsonl")
    train = write([talk(q, "an answer") for q in [*questions, "short one"]], "train.jsonl")
    plain = check_rows(train, "sft", against=held_out)
    assert [(p.code, p.row, p.values["other_row"]) for p in plain.problems if "leak" in p.code] == [
        ("deep.leak", 3, 1),
        ("deep.leak", 31, 3),
    ]
    assert set(plain.deep) == {"against"}
    deep = check_rows(train, "sft", against=held_out, deep=True)
    assert [(p.row, p.values["other_row"]) for p in deep.problems if p.code == "deep.leak_near"] == [(5, 2)]
    assert deep.deep["against"] == {"path": str(held_out), "rows": 3, "nearly": True}


def test_a_file_compared_with_that_cannot_be_read_is_refused(write: Write) -> None:
    with pytest.raises(SwiftshellError) as caught:
        check_rows(write([talk("q", "a")]), "sft", against=write("", "empty.jsonl"))
    assert [p.code for p in caught.value.problems] == ["data.empty"]


# ------------------------------------------------------------------------------ tokens


def test_lengths_in_tokens_are_those_of_the_chat_template_and_the_tokenizer(write: Write) -> None:
    from swiftshell.data.template import open_speaker

    rows = [talk("Once upon a time?", "a b c " * n) for n in (1, 5, 40)]
    report = check_rows(write(rows), "sft", tokenizer=STARTER / "model", max_length=40)
    speaker = open_speaker(STARTER / "model")
    wanted = [len(speaker.ids(speaker.render(row["messages"]))) for row in rows]
    assert report.tokens["max"] == max(wanted)
    assert report.tokens["mean"] == round(sum(wanted) / 3, 1)
    long = [n for n, tokens in enumerate(wanted, 1) if tokens > 40]
    assert long
    assert [p.row for p in report.problems if p.code == "scan.too_long"] == long
    assert report.tokens["over"] == len(long)
    assert report.ok


def test_a_text_of_exactly_max_length_is_whole() -> None:
    found = describe({64: 3, 65: 1, 8: 2}, "m", 64)
    assert (found["over"], found["edges"][8], found["counts"][7], found["counts"][8]) == (1, 64, 3, 1)
    assert sum(found["counts"]) == 6


def test_a_tokenizer_that_is_not_there_is_said_before_rows_are_read(write: Write, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(SwiftshellError) as caught:
        check_rows(write([talk("q", "a")]), "sft", tokenizer=tmp_path)
    assert [p.code for p in caught.value.problems] == ["scan.no_tokenizer_json"]


# ------------------------------------------------------------------------------ all together


def varied(rng: random.Random) -> Iterator[dict[str, Any]]:
    texts = [prose(rng) for _ in range(40)]
    for n in range(300):
        answer = rng.choice(
            [*texts, "I'm sorry, I cannot do that.", "写信到 a@firm.cn", f"{rng.choice(texts)} more"]
        )
        yield talk(f"question {n % 70} {prose(rng, 12) if n % 3 else ''}", answer)


def test_however_many_processes_look_the_report_is_the_same(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan, "_PIECE_BYTES", 9000)
    path = write(varied(random.Random(6)))
    held_out = write([{"prompt": "question 5"}, {"prompt": prose(random.Random(9), 30)}], "held.jsonl")
    options = {"deep": True, "against": held_out, "tokenizer": STARTER / "model", "max_length": 200}
    one, two = (check_rows(path, "sft", processes=n, fresh=True, **options).as_json() for n in (1, 2))
    assert one == two
    assert {"deep.refusal", "deep.email", "deep.near_duplicate", "deep.repeated_answer"} <= one[
        "counts"
    ].keys()


@pytest.mark.parametrize(("package", "cached"), [("rensa", near._library), ("py3langid", language._library)])
def test_a_library_that_is_absent_is_said_in_one_sentence(
    write: Write, monkeypatch: pytest.MonkeyPatch, package: str, cached: Callable[[], Any]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    cached.cache_clear()  # type: ignore[attr-defined]
    with pytest.raises(SwiftshellError) as caught:
        check_rows(
            write([talk("How are you today?", "Very well, thank you, and you, my dear friend?")]),
            "sft",
            deep=True,
        )
    cached.cache_clear()  # type: ignore[attr-defined]
    assert [(p.code, p.values["package"]) for p in caught.value.problems] == [("deep.needs_package", package)]


def test_what_a_process_of_its_own_lacks_is_said_too(
    write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("raise ImportError", "fake/rensa.py")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    rows = [talk("How are you today?", "Very well, thank you, and you, my dear friend?")]
    with pytest.raises(SwiftshellError) as caught:
        check_rows(write(rows), "sft", deep=True, processes=2)
    assert [p.code for p in caught.value.problems] == ["deep.needs_package"]
