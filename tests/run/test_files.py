"""Small records: atomic to write, tolerant to read; events that survive a torn line."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import swiftshell
from swiftshell.i18n import catalogue
from swiftshell.run.crash import RUNNER_POINTS
from swiftshell.run.events import EventWriter, read_events
from swiftshell.run.files import read_json_or_none, read_record, write_json
from swiftshell.run.paths import RunPaths
from swiftshell.runner.records import Records, StopRequests

WRITE = """
import sys; from pathlib import Path; from swiftshell.run.files import write_json
n = 0
while True:
    n += 1
    write_json(Path(sys.argv[1]), {"n": n, "fill": "x" * 20000, "again": n})
    if n == 1: print("go", flush=True)
"""


def test_killed_while_writing_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITE, str(path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(20):
            data = json.loads(path.read_text())
            assert data["n"] == data["again"]
        process.send_signal(signal.SIGKILL)
        process.wait()
        data = read_record(path)
        assert data is not None
        assert data["n"] == data["again"]


def test_a_record_is_an_object_or_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    assert read_record(path) is None
    for content in (b"", b"[]", b"{", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=str(path)):
            read_record(path)
    assert read_json_or_none(path) is None
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=str(path)):
        read_record(path)


def test_unwritable_values_do_not_touch_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_json(path, {"a": 1})
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError):
        write_json(path, circle)
    assert read_record(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["record.json"]


def test_a_torn_line_costs_nothing_but_itself(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    first = EventWriter(path)
    first.write("attempt", number=1)
    first.close()
    with path.open("a") as file:
        file.write('{"t": 1, "kind": "metr')
    events, offset = read_events(path)
    assert [e["kind"] for e in events] == ["attempt"]
    second = EventWriter(path)
    second.write("attempt", number=2)
    second.close()
    events, offset = read_events(path, offset)
    assert [e.get("number") for e in events] == [2]
    assert read_events(path, offset) == ([], offset)
    assert path.read_text().count("\n\n") == 0
    EventWriter(path).close()
    assert [e.get("number") for e in read_events(path)[0]] == [1, 2]


def test_progress_is_thinned_and_its_end_is_not(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    writer = EventWriter(path)
    for done in range(1, 1001):
        writer.progress(done, 1000, "rows")
    writer.close()
    told = [e["done"] for e in read_events(path)[0]]
    assert told[0] == 1
    assert told[-1] == 1000
    assert len(told) < 50


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO])
def test_a_record_waits_for_the_disk(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _s: None)
    records, tries = Records(RunPaths(tmp_path)), []
    records.open_reserve()
    assert (tmp_path / ".reserve").stat().st_size > 0

    def write() -> str:
        tries.append((tmp_path / ".reserve").exists())
        if len(tries) < 4:
            raise OSError(number, os.strerror(number))
        return "written"

    assert records.insist(write, "exit.json") == "written"
    assert tries == [True, False, False, False], "the space kept back is given up first"


def test_other_errors_are_not_waited_for(tmp_path: Path) -> None:
    def refuse() -> None:
        raise OSError(errno.EACCES, "no")

    with pytest.raises(OSError, match="no"):
        Records(RunPaths(tmp_path)).insist(refuse, "x")


@pytest.mark.parametrize(("content", "how"), [('{"how": "kill"}', "kill"), ('{"how": "checkpoint"}', "checkpoint"),
                                              ('{"how": 3}', "checkpoint"), ("", "checkpoint"), ("[]", "checkpoint")])
def test_stop_requests(tmp_path: Path, content: str, how: str) -> None:
    run = RunPaths(tmp_path)
    stop = StopRequests(run)
    assert stop.pending() is None
    run.stop_request.parent.mkdir()
    run.stop_request.write_text(content)
    assert stop.pending() == how
    assert stop.pending() == how


def test_every_message_of_this_area_is_in_both_languages() -> None:
    english, chinese = catalogue("en"), catalogue("zh")
    mine = {k for k in english if k.startswith("run.")}
    assert mine == {k for k in chinese if k.startswith("run.")}
    for key in mine:
        assert set(re.findall(r"{(\w+)}", english[key])) == set(re.findall(r"{(\w+)}", chinese[key])), key
    sources = Path(swiftshell.__file__).parent.rglob("*.py")
    used = {c for p in sources for c in re.findall(r'"(run\.[a-z_]+)"', p.read_text())}
    assert used - {"run.lock", *RUNNER_POINTS} <= mine
    unused = {k.removesuffix(".hint") for k in mine} - used
    assert unused == set(), "messages nothing says"
