"""Loading: real files as people share them, speed, fingerprints, and what must not be imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from swiftshell.data.load import check_rows, fingerprint, load_input, load_rows
from swiftshell.errors import SwiftshellError
from swiftshell.stages.base import InputRef
from tests.data.conftest import Write, assistant, user

REAL = [
    ("data/alpaca_en_demo.json", "sft", "alpaca", None),
    ("data/alpaca_zh_demo.json", "sft", "alpaca", 1000),
    ("data/identity.json", "sft", "alpaca", 91),
    ("data/gsm8k_test.jsonl", "sft", "question_answer", 1319),
    ("data/gsm8k_test.jsonl", "heldout", "question_answer", 1319),
    ("data/arc_easy_test.json", "heldout", "alpaca", 2376),
    ("data/tinystories_2M_cased.txt", "sft", "text", None),
    ("data/kto_en_demo.json", "kto", "messages", 300),
    ("data/kto-mix-test.json", "kto", "alpaca", 1092),
    ("data/gsm8k_kto.jsonl", "kto", "prompt_completion", 5276),
    ("data/dpo_en_demo.json", "dpo", "preference", 300),
    ("data/dpo_zh_demo.json", "dpo", "preference", 300),
    ("data/dpo_zh_demo.json", "kto", "preference", 600),
    ("images/derived_kto.jsonl", "kto", "messages", 100),
    ("images/derived_dpo.json", "dpo", "preference", 50),
]


@pytest.mark.parametrize(("name", "purpose", "format_", "count"), REAL)
def test_real_files_load_without_help(
    shared_testdata: Path, name: str, purpose: str, format_: str, count: int | None
) -> None:
    path = shared_testdata / "real" / name
    rows = load_rows(path, purpose)
    report = check_rows(path, purpose)
    assert report.format == format_
    assert len(rows) == report.usable == (count or len(rows))
    if path.suffix == ".json":
        source = json.loads(path.read_text(encoding="utf-8"))
        assert report.rows == len(source)
    if purpose == "kto":
        labels = Counter(row.data["label"] for row in rows)
        assert {"desirable": labels[True], "undesirable": labels[False]} == report.classes
    keys = {
        "sft": {"prompt", "completion"},
        "kto": {"prompt", "completion", "label"},
        "dpo": {"prompt", "chosen", "rejected"},
        "heldout": {"prompt", "reference"},
    }[purpose]
    if format_ == "text":
        keys = {"text"}
    assert all(set(row.data) - {"images"} == keys for row in rows)
    lines = path.read_text(encoding="utf-8").split("\n")
    middle = rows[len(rows) // 2]
    assert middle.line is not None
    assert lines[middle.line - 1].strip()


def test_real_thumbs_keep_their_labels(shared_testdata: Path) -> None:
    path = shared_testdata / "real" / "data" / "kto_en_demo.json"
    source = json.loads(path.read_text(encoding="utf-8"))
    rows = load_rows(path, "kto")
    assert [row.data["label"] for row in rows] == [row["label"] for row in source]
    assert [[*row.data["prompt"], *row.data["completion"]] for row in rows] == [
        [{"role": t["role"], "content": t["content"]} for t in row["messages"]] for row in source
    ]


def test_starter_rows_load() -> None:
    from swiftshell.starter import DATA_DIR

    for name, purpose in (("sft", "sft"), ("kto", "kto"), ("dpo", "dpo"), ("heldout", "heldout")):
        path = DATA_DIR / f"{name}.jsonl"
        source = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [row.data for row in load_rows(path, purpose)] == source


def test_five_thousand_rows_are_quick(write: Write) -> None:
    rows = [
        {"prompt": f"question {n} " * 20, "completion": f"answer {n} " * 20, "label": n % 2 == 0}
        for n in range(5000)
    ]
    path = write(rows)
    start = time.process_time()
    assert len(load_rows(path, "kto")) == 5000
    assert time.process_time() - start < 1.0  # 0.2 s alone; room for a busy machine


def test_nothing_heavy_is_imported(write: Write) -> None:
    path = write([{"prompt": "q", "completion": "a"}])
    code = (
        "import sys; from pathlib import Path; from swiftshell.data.load import load_rows; "
        f"load_rows(Path({str(path)!r}), 'sft'); "
        "heavy = ('torch', 'transformers', 'trl', 'datasets', 'pyarrow', 'numpy', 'rich'); "
        "print([m for m in heavy if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_input_of_a_step(write: Write) -> None:
    path = write([{"q": f"{n}", "a": "x", "good": n % 2} for n in range(10)])
    columns = {"prompt": "q", "completion": "a", "label": "good"}
    ref = InputRef(
        "train_data", path, "dataset", options={"columns": columns, "format": None, "split": None, "limit": 6}
    )
    assert len(load_input(ref, "kto")[0]) == 6
    assert len(load_input(ref, "kto", limit=4)[0]) == 4
    assert load_input(ref, "kto")[0][1].data == {
        "prompt": [user("1")],
        "completion": [assistant("x")],
        "label": True,
    }


def test_fingerprint_follows_the_content(write: Write, tmp_path: Path) -> None:
    path = write([{"a": 1}])
    first = fingerprint(path)
    assert first == fingerprint(write([{"a": 1}], "copy.jsonl"))
    assert first != fingerprint(write([{"a": 2}], "copy.jsonl"))
    folder = write([{"a": 1}], "set/x.jsonl").parent
    whole = fingerprint(folder)
    write([{"a": 2}], "set/y.jsonl")
    assert fingerprint(folder) != whole
    with pytest.raises(SwiftshellError):
        fingerprint(tmp_path / "nothing.jsonl")


def test_fingerprint_is_remembered_for_an_unchanged_file(write: Write, tmp_path: Path) -> None:
    path, cache = write([{"a": 1}]), tmp_path / "cache"
    first = fingerprint(path, cache)
    stat = path.stat()
    path.write_bytes(path.read_bytes().replace(b"1", b"2"))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert (
        fingerprint(path, cache) == first
    )  # same size and time: not read again, which shows that the cache is used
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert fingerprint(path, cache) != first
    for entry in cache.iterdir():
        entry.write_text("{torn")
    assert fingerprint(path, cache) == fingerprint(path)
    (tmp_path / "file").write_text("x")
    assert fingerprint(path, tmp_path / "file" / "cache") == fingerprint(
        path
    )  # a cache that cannot be written
