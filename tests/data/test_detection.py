"""What people have is known without help: files of many forms, real ones among them, and shapes of rows."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.columns import look
from swiftshell.data.load import check_rows, fingerprint, load_rows
from tests.data.conftest import Write, assistant, system, user

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


def shared() -> Path:
    """Return the folder of real files, or skip."""
    named = os.environ.get("SWIFTSHELL_SHARED_TESTDATA")
    for folder in (Path(named) if named else None, ROOT.parent / "shared", ROOT / "shared"):
        if folder is not None and (folder / "real" / "data").is_dir():
            return folder / "real"
    pytest.skip("no real files: neither ../shared nor shared/ nor $SWIFTSHELL_SHARED_TESTDATA has real/data")


REAL = [
    ("data/alpaca_en_demo.json", "sft", "alpaca", 999, 999),
    ("data/alpaca_zh_demo.json", "sft", "alpaca", 1000, 1000),
    ("data/arc_easy_test.json", "sft", "alpaca", 2376, 2376),
    ("data/dpo_en_demo.json", "dpo", "preference", 300, 300),
    ("data/dpo_zh_demo.json", "dpo", "preference", 300, 300),
    ("data/gsm8k_kto.jsonl", "kto", "prompt_completion", 5276, 5276),
    ("data/gsm8k_test.jsonl", "sft", "question_answer", 1319, 1319),
    ("data/identity.json", "sft", "alpaca", 91, 91),
    ("data/kto-mix-test.json", "kto", "alpaca", 1092, 1092),
    ("data/kto_en_demo.json", "kto", "messages", 300, 300),
    ("data/tinystories_2M_cased.txt", "sft", "text", 2317, 2317),
    ("images/annotations.jsonl", "sft", "captions", 10, 50),
    ("images/derived_dpo.json", "dpo", "preference", 50, 50),
    ("images/derived_kto.jsonl", "kto", "messages", 100, 100),
]


@pytest.mark.parametrize(("name", "purpose", "format_", "rows", "usable"), REAL)
def test_real_files(name: str, purpose: str, format_: str, rows: int, usable: int) -> None:
    path = shared() / name
    found = look(path)
    assert found.layout is not None
    assert (found.purpose, found.layout.format) == (purpose, format_)
    report = check_rows(path, found.purpose)
    assert report.errors == []
    assert (report.rows, report.usable, report.bad_rows) == (rows, usable, 0)


def test_no_real_file_is_left_out_of_the_list() -> None:
    folder = shared()
    there = {str(p.relative_to(folder)) for d in ("data", "images") for p in (folder / d).iterdir() if p.is_file()}
    assert there == {name for name, *_ in REAL}
