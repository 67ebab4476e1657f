"""Large files: the same report however it is counted, little memory, problems early, memory of unchanged files."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swiftshell.data import compact, scan
from swiftshell.data.check import Check
from swiftshell.data.compact import Earliest, Numbers, Places, repeated
from swiftshell.data.load import check_rows, load_with_report, refuses
from swiftshell.data.report import DataReport

from .conftest import Write, assistant, system, user


@pytest.fixture(autouse=True)
def own_memory(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def converted(path: Path, purpose: Any, **options: Any) -> dict[str, Any]:
    """Return the report of the pass that converts every row."""
    check = Check(path, purpose, **options)
    for _ in check.rows():
        pass
    check.finish()
    return check.report.as_json()


# ------------------------------------------------------------------------------ a glance and a conversion agree

TEXTS = [
    "a",
    "What is it?",
    "答案是四。",
    "",
    "  ",
    "[{not turns",
    "a\u0000b",
    "x" * 300,
    '[{"role": "user", "content": "q"}]',
]
text = st.sampled_from(TEXTS)
odd = st.sampled_from(
    [None, 0, 1, 1.0, 0.5, -1, True, False, "yes", "no", "", [], {}, "5", float("nan"), [1], {"a": 1}]
)
role = st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt", "USER", "nobody"])
plain_turn = st.builds(lambda r, c: {"role": r, "content": c}, role, text)
shared_turn = st.builds(lambda r, c: {"from": r, "value": c}, role, text)
odd_turn = st.one_of(
    st.builds(lambda r, c: {"role": r, "content": c}, role, odd),
    st.builds(lambda r, c: {"role": r, "content": c, "name": "x"}, role, text),
    st.builds(lambda r, c: {"role": r, "content": [{"type": "text", "text": c}]}, role, text),
    odd,
)
good_talk = st.builds(
    lambda pairs, start, end: [*start, *(t for q, a in pairs for t in (user(q), assistant(a))), *end],
    st.lists(st.tuples(text, text), min_size=1, max_size=2),
    st.sampled_from([[], [system("s")], [system("")]]),
    st.sampled_from([[], [user("more")], [assistant("twice")]]),
)
talk = st.one_of(
    good_talk, good_talk, st.lists(st.one_of(plain_turn, shared_turn, odd_turn), max_size=4), odd, text
)
side = st.one_of(text, text, st.builds(lambda a: [assistant(a)], text), talk)
label = st.one_of(st.booleans(), st.booleans(), odd)
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft talk": ("sft", {"messages": talk, "id": odd}),
    "sft sharegpt": (
        "sft",
        {"conversations": st.one_of(st.lists(shared_turn, max_size=3), talk), "system": st.one_of(text, odd)},
    ),
    "sft alpaca": (
        "sft",
        {"instruction": st.one_of(text, odd), "input": st.one_of(text, odd), "output": side},
    ),
    "sft tools": (
        "sft",
        {"messages": good_talk, "tools": st.sampled_from([None, "", [], "[]", [{"name": "f"}]])},
    ),
    "sft text": ("sft", {"text": st.one_of(text, odd)}),
    "sft chosen": ("sft", {"prompt": side, "chosen": side, "rejected": side}),
    "kto talk": ("kto", {"messages": talk, "label": label}),
    "kto completion": (
        "kto",
        {"prompt": side, "completion": side, "label": label, "weight": st.one_of(st.just(1), odd)},
    ),
    "kto probability": ("kto", {"prompt": text, "completion": text, "label": label, "probability": odd}),
    "kto history": (
        "kto",
        {
            "query": text,
            "response": text,
            "history": st.sampled_from([None, [], [["q", "a"]]]),
            "kto_tag": label,
        },
    ),
    "kto pair": (
        "kto",
        {"prompt": side, "chosen": side, "rejected": side, "weight": st.one_of(st.just(2.0), odd)},
    ),
    "dpo": ("dpo", {"prompt": side, "chosen": side, "rejected": side}),
    "dpo whole": ("dpo", {"chosen": talk, "rejected": talk}),
    "heldout": ("heldout", {"prompt": side, "completion": st.one_of(side, odd), "label": label}),
}


@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_glance_and_a_conversion_agree(name: str, data: st.DataObject, tmp_path: Path) -> None:
    """Whatever the rows are like, looking at them counts what converting them counts, problem for problem."""
    purpose, columns = LAYOUTS[name]
    rows = data.draw(st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=8))
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert check_rows(path, purpose).as_json() == converted(path, purpose)


# ------------------------------------------------------------------------------ pieces, processes and readers agree


def mixed_lines(rows: int, seed: int = 1) -> Iterator[bytes]:
    """Yield JSON lines of which one in ten is wrong in one of the ways that people know."""
    rng = random.Random(seed)
    wrong = (
        b"", b"   ", b"{not json", b"[1]", b'{"messages": [], "label": true}', '{"messages": "ü"}'.encode("latin1"), b"null",
        b'{"messages": [{"role": "user", "content": "q"}], "label": true}',
        b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}], "label": true}',
        b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": NaN}',
        b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": 7}',
        b'{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "label": 1, "label": 0}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}, {"role": "assistant", "content": "a"}], "label": 1}',
        b"\xef\xbb\xbf{}", b"\xff\xfe{}",
    )  # fmt: skip
    for number in range(rows):
        if rng.random() < 0.1:
            yield rng.choice(wrong)
            continue
        turns = [user(f"question {rng.randrange(rows)}"), assistant("answer " * rng.randint(1, 9))]
        yield json.dumps({"id": number, "messages": turns, "label": rng.random() < 0.5}).encode()


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_PIECE_BYTES", 700)
    monkeypatch.setattr(scan, "_FIRST_PIECE_BYTES", 100)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_however_it_is_counted_the_report_is_the_same(write: Write, ending: bytes) -> None:
    lines = list(mixed_lines(1200))
    path = write(ending.join(lines))
    packed = write(gzip.compress(ending.join(lines)), "rows.jsonl.gz")
    one, two = check_rows(path, "kto", processes=1).as_json(), check_rows(path, "kto", processes=2).as_json()
    assert one == two == converted(path, "kto")
    assert (
        json.loads(json.dumps(check_rows(packed, "kto").as_json()).replace("rows.jsonl.gz", "rows.jsonl"))
        == one
    )
    assert {
        "data.bad_json",
        "data.encoding",
        "data.label_score",
        "scan.key_twice",
        "data.bad_character",
    } <= one["counts"].keys()
    assert one["rows"] == sum(bool(line.strip()) for line in lines) - one["counts"]["data.encoding"]


@pytest.mark.usefixtures("pieces")
def test_rows_and_lines_count_on_from_piece_to_piece_and_start_again_in_the_next_file(write: Write) -> None:
    good = json.dumps({"prompt": "q" * 40, "completion": "a", "label": True})
    bad = json.dumps({"prompt": "q", "completion": " ", "label": False})
    write("\n\n".join([good] * 30 + [bad]), "data/a.jsonl")
    path = write("\n".join([good] * 20 + [bad]), "data/b.jsonl").parent
    found = [
        (Path(p.file or "").name, p.row, p.line) for p in check_rows(path, "kto", processes=2).errors if p.row
    ]
    assert found == [("a.jsonl", 31, 61), ("b.jsonl", 21, 21)]


@pytest.mark.usefixtures("pieces")
def test_a_line_longer_than_many_pieces_is_one_row(write: Write) -> None:
    rows = [
        {"prompt": "q", "completion": "a" * 9000, "label": True},
        {"prompt": "q", "completion": "b", "label": 0},
    ]
    report = check_rows(write([*rows, rows[0]]), "kto", processes=2)
    assert (report.rows, report.counts["data.duplicate"]) == (3, 1)


@pytest.mark.usefixtures("pieces")
def test_a_process_that_is_killed_costs_time_only(write: Write) -> None:
    path = write(b"\n".join(mixed_lines(300)))
    wanted = check_rows(path, "kto", processes=1).as_json()
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if done > total // 3 and not killed:
            children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
            killed.extend(int(child) for child in children)
            for child in killed:
                os.kill(child, signal.SIGKILL)

    assert check_rows(path, "kto", processes=2, progress=kill).as_json() == wanted
    assert len(killed) >= 2


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_file_that_goes_away_meanwhile_is_said(write: Write, processes: int) -> None:
    path = write(b"\n".join(mixed_lines(300)))
    report = check_rows(path, "kto", processes=processes, progress=lambda done, total: path.unlink(missing_ok=True))
    assert report.counts["data.unreadable"] > 0
    assert not report.ok


@pytest.mark.usefixtures("pieces")
def test_the_first_problem_is_told_while_the_rest_is_read(write: Write) -> None:
    lines = [
        b'{"prompt": "q", "completion": "", "label": true}',
        *(b'{"prompt": "q", "completion": "a", "label": true}',) * 99,
    ]
    told: list[Any] = []
    check_rows(
        write(b"\n".join(lines)),
        "kto",
        on_problem=lambda p: told.append(p.code),
        progress=lambda done, total: told.append(done / total),
    )
    shares = [item for item in told if isinstance(item, float)]
    assert told[0] == "data.empty_answer"
    assert told[1] < 0.1
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


# ------------------------------------------------------------------------------ memory of unchanged files


def test_an_unchanged_file_answers_from_memory(
    write: Write, monkeypatch: pytest.MonkeyPatch, own_memory: Path
) -> None:
    monkeypatch.setattr("swiftshell.data.load._WORTH_REMEMBERING_BYTES", 1)
    path = write([{"prompt": "q", "completion": "a", "label": n % 2} for n in range(30)])
    first = check_rows(path, "kto")
    with monkeypatch.context() as patched:
        patched.setattr(Check, "look", lambda *args: pytest.fail("read again"))
        again = check_rows(path, "kto")
        assert again.remembered
        assert not first.remembered
        assert {**again.as_json(), "remembered": False} == first.as_json()
        with pytest.raises(pytest.fail.Exception):
            check_rows(path, "kto", limit=10)
        with pytest.raises(pytest.fail.Exception):
            check_rows(path, "kto", fresh=True)
    facts = path.stat()
    path.write_text(path.read_text().replace('"a"', '"b"'), encoding="utf-8")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # the same size and time, other rows
    assert not check_rows(path, "kto").remembered


def test_a_broken_or_unwritable_memory_is_only_slower(
    write: Write, monkeypatch: pytest.MonkeyPatch, own_memory: Path
) -> None:
    monkeypatch.setattr("swiftshell.data.load._WORTH_REMEMBERING_BYTES", 1)
    path = write([{"prompt": "q", "completion": "a", "label": n % 2} for n in range(3)])
    check_rows(path, "kto")
    for record in own_memory.rglob("*.json"):
        record.write_text("{", encoding="utf-8")
    assert not check_rows(path, "kto").remembered
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert not check_rows(path, "kto").remembered


def test_small_files_leave_no_trace(write: Write, own_memory: Path) -> None:
    check_rows(write([{"prompt": "q", "completion": "a", "label": True}]), "kto")
    assert list(own_memory.rglob("*")) == []


# ------------------------------------------------------------------------------ what a report says


def test_a_key_that_stands_twice_is_refused_with_its_place(write: Write) -> None:
    path = write(
        '{"prompt": "q", "completion": "a", "label": true}\n{"prompt": "q", "completion": "a", "label": true, "label": false}\n'
    )
    (problem,) = [p for p in check_rows(path, "kto").errors if p.code == "scan.key_twice"]
    assert (problem.row, problem.line, problem.values["name"]) == (2, 2, "label")


def test_a_key_in_a_text_is_not_a_key_that_stands_twice(write: Write) -> None:
    row = {
        "prompt": 'what is "label": true in "prompt"?',
        "completion": '{"label": 1, "label": 2}',
        "label": True,
    }
    assert "scan.key_twice" not in check_rows(write([row, {**row, "label": False}]), "kto").counts


@pytest.mark.parametrize(
    ("labels", "told"), [([1] * 10 + [0] * 10, True), ([1, 0] * 10, False), ([1] * 9 + [0] * 9, False)]
)
def test_rows_sorted_by_label_are_noted(write: Write, labels: list[int], told: bool) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a", "label": label} for n, label in enumerate(labels)]
    assert ("scan.sorted_by_label" in check_rows(write(rows), "kto").counts) is told


def test_scores_are_shown_with_their_threshold(write: Write) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a", "score": n % 5 + 1} for n in range(50)]
    report = check_rows(write(rows), "kto", label_rule={"threshold": 4})
    assert report.scores == {"edges": [1, 2, 3, 4, 5], "counts": [10] * 5, "threshold": 4.0}
    rows = [{"prompt": f"q{n}", "completion": "a", "score": n / 10} for n in range(100)]
    report = check_rows(write(rows), "kto", label_rule={"threshold": 4})
    assert (len(report.scores["counts"]), sum(report.scores["counts"]), report.scores["edges"][0]) == (
        20,
        100,
        0,
    )


def test_scores_of_more_values_than_are_told_apart_are_read_all_the_same(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swiftshell.data.stretch.LabelValues._MOST", 16)
    rows = [{"prompt": f"q{n}", "completion": "a", "score": n / 7} for n in range(300)]
    path = write(rows)
    report = check_rows(path, "kto", label_rule={"threshold": 20})
    assert report.classes == {"desirable": 160, "undesirable": 140}
    assert [r.data["label"] for r in load_with_report(path, "kto", label_rule={"threshold": 20})[0]] == [
        n / 7 >= 20 for n in range(300)
    ]


def test_a_drop_budget_decides_between_refusing_and_going_on(write: Write) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a" if n > 2 else "", "label": n % 2} for n in range(20)]
    report = check_rows(write(rows), "kto")
    assert (report.bad_rows, refuses(report), refuses(report, 2), refuses(report, 3)) == (
        3,
        True,
        True,
        False,
    )


# ------------------------------------------------------------------------------ little memory


@given(st.lists(st.integers(0, 40), max_size=200), st.integers(1, 9), st.integers(8, 400))
@settings(max_examples=60, deadline=None)
def test_repeated_keys_are_found_in_parts_and_on_disk(keys: list[int], per_pass: int, held: int) -> None:
    column = Numbers("Q", held)
    for start in range(0, len(keys), 7):
        column.extend(array("Q", keys[start : start + 7]))
    before, compact._KEYS_PER_PASS = compact._KEYS_PER_PASS, per_pass
    try:
        found = sorted(repeated(column))
    finally:
        compact._KEYS_PER_PASS = before
    assert found == [(at, keys.index(key)) for at, key in enumerate(keys) if key in keys[:at]]
    assert [column[at] for at in range(len(keys))] == keys


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.booleans()), max_size=60), st.integers(0, 60)
)
@settings(deadline=None)
def test_places_are_remembered_in_runs(steps: list[tuple[int, int, bool]], cut: int) -> None:
    whole, first, second, wanted = Places(), Places(), Places(), []
    number = line = 0
    origin = (0, 0)
    for at, (on, made, blank) in enumerate(steps):
        number, line = number + on, line + on + blank
        whole.add("f", number, line, made)
        if at < cut:
            first.add("f", number, line, made)
            origin = (number, line)
        else:
            second.add("f", number - origin[0], line - origin[1], made)
        wanted += [("f", number, line)] * made
    first.join(second, *origin)
    assert [tuple(whole[n]) for n in range(len(wanted))] == wanted
    assert [tuple(first[n]) for n in range(len(wanted))] == wanted


def test_the_earliest_are_kept_whatever_the_order() -> None:
    kept, order = Earliest(3), list(range(1000))
    random.Random(3).shuffle(order)
    for at in order:
        kept.add(at, -at)
    assert (kept.number, kept.first()) == (1000, [(0, 0), (1, -1), (2, -2)])


def test_pairs_are_the_same_when_prompts_are_looked_at_in_parts(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(12)
    rows = [{"prompt": f"q{rng.randrange(60)}", "completion": f"a{rng.randrange(40)}", "label": n % 3 == 0} for n in range(400)]
    path = write(rows)
    whole, report = load_with_report(path, "dpo")
    monkeypatch.setattr("swiftshell.data.pairs._ROWS_PER_PART", 30)
    parts, again = load_with_report(path, "dpo")
    assert [r.data for r in parts] == [r.data for r in whole]
    assert again.pairing == report.pairing == check_rows(path, "dpo").pairing


@pytest.mark.slow
def test_memory_stays_flat(tmp_path: Path) -> None:
    """Five times the rows take no more than some bytes a row."""
    peaks = []
    for rows in (20_000, 100_000):
        path = tmp_path / f"{rows}.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(rows):
                turns = [user(f"question {number} " * 12), assistant(f"answer {number} " * 20)]
                file.write(json.dumps({"messages": turns, "label": number % 2}) + "\n")
        program = (
            "import sys; from pathlib import Path; from swiftshell.data.load import check_rows; "
            "report = check_rows(Path(sys.argv[1]), 'kto', processes=1, fresh=True); "
            "assert report.rows == int(sys.argv[2]) and not report.counts, report.counts; "
            # getrusage would count what the parent had when it forked.
            "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program, str(path), str(rows)], capture_output=True, text=True, check=True
        )
        peaks.append(int(done.stdout) * 1024)
    assert peaks[1] - peaks[0] < 80_000 * 160, peaks
    assert peaks[1] < 120 << 20, peaks


def test_a_report_can_be_rebuilt_from_its_json(write: Write) -> None:
    report = check_rows(write(b"\n".join(mixed_lines(60))), "kto")
    assert DataReport.from_json(json.loads(json.dumps(report.as_json()))).as_json() == report.as_json()
