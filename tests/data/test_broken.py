"""Every broken file is told of in the right words, at the right place, with one thing to do, before any model loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from swiftshell.data.load import check_rows
from swiftshell.errors import Problem
from swiftshell.i18n import hint_of, sentence, set_language, what
from tests.data.broken.cases import CASES, Case, thumb


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_broken_file(case: Case, tmp_path: Path) -> None:
    path = case.make(tmp_path)
    report = check_rows(path, case.purpose)
    found = [p for p in report.problems if p.code == case.code]
    assert found, f"{case.code} is not among {[p.code for p in report.problems]}"
    problem = found[0]
    assert problem.severity == case.severity
    if case.row is not None:
        assert problem.row == case.row
    if case.line is not None:
        assert problem.line == case.line
    assert problem.file
    told = [sentences(problem, language) for language in ("zh", "en")]
    assert case.says in told[1]
    assert told[0] != told[1]
    errors = {p.code for p in report.errors} - {"data.and_more"}
    if case.severity == "error":
        assert case.code == next(p.code for p in report.errors), "what is wrong comes first"
        assert not report.ok
    else:
        assert errors == set(), "a warning lets training go on"


def sentences(problem: Problem, language: str) -> str:
    """Return the problem as it is told; assert that it is a whole sentence with its place and one thing to do."""
    set_language(language)
    try:
        text = sentence(problem)
        hint = hint_of(problem)
        assert hint
        assert hint in text
        assert what(problem) not in ("", problem.code)
    finally:
        set_language("en")
    assert Path(problem.file or "").name in text
    return text


def test_there_are_many_of_them() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 60
    assert len({case.code for case in CASES}) >= 50


def test_what_is_only_unusual_is_read(tmp_path: Path) -> None:
    """Marks, line ends, blank lines and compression are no mistakes."""
    import gzip

    import zstandard

    lines = "".join(json.dumps(thumb(n), ensure_ascii=False) + "\r\n" for n in range(4)).encode()
    for name, content in {
        "mark.jsonl": b"\xef\xbb\xbf" + lines,
        "blank.jsonl": b"\n\n" + lines + b"\n \n",
        "end.jsonl": lines.rstrip(),
        "rows": lines,
        "rows.txt": lines,
        "packed.jsonl": gzip.compress(lines),
        "packed.zst": zstandard.compress(lines),
        "wrapped.json": b'{"about": "x", "data": ' + json.dumps([thumb(n) for n in range(4)]).encode() + b"}",
        "semicolons.csv": b"\xef\xbb\xbfprompt;completion;label\r\na;b, c;1\r\nd;e;0\r\nf;g;1\r\nh;i;0\r\n",
        "tabs.txt.gz": gzip.compress(b""),
        "bars.psv": b"prompt|completion|label\na|b|1\nd|e|0\nf|g|1\nh|i|0\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        report = check_rows(tmp_path / name, "kto")
        if name == "tabs.txt.gz":
            assert [p.code for p in report.errors] == ["data.empty"]
            continue
        assert report.errors == [], name
        assert (report.rows, report.usable) == (4, 4), name


@pytest.mark.slow
def test_a_hundred_megabytes_in_one_line(tmp_path: Path) -> None:
    """A row of 100 MB is a row; a line of 100 MB that breaks off is told of with its row, in bounded memory."""
    big = json.dumps({"prompt": "q", "completion": "x" * 100_000_000, "label": True})
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(thumb(1)) + "\n" + big + "\n" + big[:-20] + "\n", encoding="utf-8")
    code = (
        "import sys; from swiftshell.data.load import check_rows\n"
        "r = check_rows(__import__('pathlib').Path(sys.argv[1]), 'kto')\n"
        "peak = int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]) // 1024\n"
        "p = r.errors[0]; print(r.rows, p.code, p.row, p.line, peak)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=300, check=True
    )
    rows, told, row, line, peak_mib = done.stdout.split()
    assert (rows, told, row, line) == ("3", "data.bad_json", "3", "3")
    assert int(peak_mib) < 1500


def test_no_engine_is_loaded_to_say_so(tmp_path: Path) -> None:
    path = next(c for c in CASES if c.name == "a label nobody knows").make(tmp_path)
    code = (
        "import sys; from swiftshell.cli.main import main\n"
        "code = main(['data', 'check', sys.argv[1]])\n"
        "heavy = {'torch', 'transformers', 'trl', 'datasets', 'peft'} & set(sys.modules)\n"
        "sys.exit(code if not heavy else 99)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, cwd=tmp_path
    )
    assert done.returncode == 2
    assert "rows.jsonl:7" in done.stderr
    assert "hint:" in done.stderr
