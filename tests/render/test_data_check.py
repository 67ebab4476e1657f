"""What a check of data looks like: histograms with their limit, problems as they are found, the page."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from swiftshell.data.load import check_rows
from swiftshell.errors import Problem
from swiftshell.render import found
from swiftshell.render.console import open_console
from swiftshell.render.data_page import page
from swiftshell.render.found import Found
from swiftshell.render.histogram import Histogram, print_histogram, svg_histogram

STARTER = Path(__file__).parents[2] / "swiftshell" / "starter"
TOKENS = Histogram([0, 64, 128, 192], [5, 20, 0, 1], 128, "max_length 128", above=True)


def printed(histogram: Histogram, unicode: bool = False) -> list[str]:
    stream = io.StringIO()
    print_histogram(open_console(stream), histogram, unicode)
    return stream.getvalue().splitlines()


def test_a_histogram_shows_where_the_limit_lies() -> None:
    lines = [line.split() for line in printed(TOKENS)]
    assert [line[0] for line in lines] == ["1-64", "65-128", "------", "129-192", "193-"]
    assert lines[1] == ["65-128", "#" * 24, "20"]
    assert lines[0] == ["1-64", "#" * 6, "5"]
    assert printed(Histogram([0, 1], [0, 0])) == []


def test_bins_of_one_value_are_named_by_it() -> None:
    assert [line.split()[0] for line in printed(Histogram([1, 2, 3.5], [1, 1, 1]))] == ["1", "2-2.5", "3.5-"]


def test_the_picture_has_a_bar_for_every_bin_and_a_line_at_the_limit() -> None:
    drawn = ElementTree.fromstring(svg_histogram("lengths <here>", TOKENS))
    bars = drawn.findall(".//rect")
    assert [bar.get("class") for bar in bars] == ["c1", "c1", "c4", "c4"]
    assert float(bars[1].get("height") or 0) == 4 * float(bars[0].get("height") or 0)
    (line,) = drawn.findall(".//line[@class='mark']")
    assert abs(float(line.get("x1") or 0) - (float(bars[2].get("x") or 0) - 1)) < 0.2


@pytest.fixture
def report(tmp_path: Path) -> Any:
    rows = [{"prompt": f"question {n}?", "completion": "<b>yes</b>" if n else " ", "label": n % 2} for n in range(30)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return check_rows(path, "kto", tokenizer=STARTER / "model", max_length=16, deep=True)


def test_the_page_says_everything_and_fetches_nothing(report: Any) -> None:
    text = page(report.as_json(), report.problems, good=False)
    ElementTree.fromstring(re.sub(r"<!doctype html>|<meta[^>]*>", "", text))
    assert "<script" not in text
    assert not re.search(r"""(?:src|href)=|url\(""", text)
    for part in ("data.empty_answer", "rows.jsonl:1", "max_length 16", "<svg", "deep.repeated_answer"):
        assert part in text


def test_problems_of_a_long_check_are_printed_as_they_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(found.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    shown = Found(stream)
    problems = [Problem("data.empty_answer", {}, "rows.jsonl", n, None, n, "completion") for n in range(1, 16)]
    shown.add(problems[0])
    assert stream.getvalue() == ""
    now[0] = 0.5
    shown.progress(1, 10)
    assert "rows.jsonl:1 " in stream.getvalue()
    for problem in problems[1:]:
        shown.add(problem)
    more = Problem("data.and_more", {"more": 5, "code": "data.empty_answer", "total": 20})
    assert shown.end([*problems, more]) == []
    assert "rows.jsonl:10 " in stream.getvalue()
    assert "rows.jsonl:11 " not in stream.getvalue()
    assert stream.getvalue().splitlines()[-1].strip() == "10 more of data.empty_answer"


def test_problems_of_a_short_check_are_left_to_be_printed_in_order() -> None:
    shown = Found(io.StringIO())
    problem = Problem("data.empty_answer", {}, "rows.jsonl", 1, None, 1, "completion")
    shown.add(problem)
    assert shown.end([problem]) == [problem]


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-m", "swiftshell", "data", "check", *words]
    return subprocess.run(program, cwd=folder, capture_output=True, text=True, encoding="utf-8", timeout=120)


def test_the_command(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n}", "completion": "a" if n > 1 else "", "label": n % 2} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    refused = command(tmp_path, "rows.jsonl", "--for", "kto", "--html", "out/page.html")
    assert refused.returncode == 2
    assert "rows.jsonl:1" in refused.stderr
    assert "<svg" in (tmp_path / "out" / "page.html").read_text(encoding="utf-8")
    allowed = command(tmp_path, "rows.jsonl", "--for", "kto", "--drop-budget", "2", "--model", "starter", "--json")
    found = json.loads(allowed.stdout)
    assert (allowed.returncode, found["data"]["ok"], found["data"]["bad_rows"]) == (0, True, 2)
    assert found["data"]["tokens"]["max_length"] == 1024
    unwritable = command(tmp_path, "rows.jsonl", "--html", "/proc/page.html")
    assert unwritable.returncode == 2
    assert "Traceback" not in unwritable.stderr
    assert "/proc/page.html" in unwritable.stderr
