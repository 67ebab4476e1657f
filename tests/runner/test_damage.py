"""Torn, empty and foreign records; reused process numbers; a reboot: named, never guessed, never fatal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.jobs import control, launch, reconcile
from swiftshell.run import identity, lock
from swiftshell.run.files import read_json, write_json
from swiftshell.run.paths import RunPaths

from . import lab

GARBAGE = {"empty": b"", "torn": b'{"v": 1, "pid": 12', "binary": b"\x00\xff\xfe" * 40, "a list": b"[1, 2]"}


@pytest.fixture(scope="module")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> RunPaths:
    """A run whose runner was killed while its only step was being started."""
    run = lab.make(tmp_path_factory.mktemp("pattern"), {"one": {"ticks": 1, "tick_s": 0.0}})
    lab.start(run, "child.forked")
    lab.settled(run)
    return run


@pytest.fixture
def interrupted(pattern: RunPaths, workspace: Path) -> RunPaths:
    """A copy of that run, to be damaged."""
    copy = RunPaths(workspace / "runs" / pattern.id)
    shutil.copytree(pattern.root, copy.root)
    return copy


def sleeping_child() -> subprocess.Popen[bytes]:
    """A process that belongs to someone else's work."""
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=True)


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("name", ["exit.json", "child.json", "outcome.json", "result.json"])
def test_an_unreadable_record_is_unknown_and_named(interrupted: RunPaths, name: str, content: bytes) -> None:
    run = interrupted
    (one,) = run.steps()
    path = one.root / name if name == "result.json" else one.attempt(1).root / name
    path.write_bytes(content)
    seen = reconcile.status(run)
    assert (seen.status, seen.result, seen.steps[0].status) == ("unknown", None, "unknown")
    assert seen.steps[0].message is not None
    assert (seen.steps[0].message.code, seen.steps[0].message.file) == ("run.unreadable", str(path))
    with pytest.raises(SwiftshellError) as refused:
        control.resume(run)
    assert refused.value.problems[0].file == str(path)
    assert not lock.busy(run.lock)
    path.unlink()  # what the hint says
    assert reconcile.status(run).result == "lost"
    if content == GARBAGE["torn"]:
        assert lab.resumed_to_end(run).result == "succeeded"


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE.keys())
@pytest.mark.parametrize("name", ["state.json", "runner.json", "plan.json", "requests/stop.json"])
def test_what_nobody_depends_on_may_be_garbage(interrupted: RunPaths, name: str, content: bytes) -> None:
    run = interrupted
    (run.root / name).write_bytes(content)
    seen = reconcile.status(run)
    assert (seen.status, seen.steps[0].attempt) == ("over", 1)
    assert seen.steps[0].result == ("cancelled" if name == "requests/stop.json" else "lost")
    if content == GARBAGE["torn"]:
        assert lab.resumed_to_end(run).result == "succeeded"


@pytest.mark.parametrize("content", [None, b"", b'{"v": 1'])
def test_a_request_that_cannot_be_read(workspace: Path, content: bytes | None) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1}})
    (one,) = run.steps()
    if content is None:
        one.request.unlink()
    else:
        one.request.write_bytes(content)
    assert reconcile.status(run).status == "unknown"
    launch.start(run.root)
    ended = lab.settled(run)
    assert lab.result(one)["problems"][0]["code"] == "run.request_unreadable"
    assert ended.steps[0].attempt is None


def test_a_record_that_cannot_be_read_stops_the_runner_too(interrupted: RunPaths) -> None:
    run = interrupted
    run.steps()[0].attempt(1).child.write_text("{")
    launch.start(run.root)
    lab.until(lambda: not reconcile.status(run).supervised)
    assert "a record cannot be read" in run.runner_log.read_text()
    assert lab.starts(run.steps()[0]) == []


def test_a_reused_process_number_is_not_our_worker(interrupted: RunPaths) -> None:
    stranger = sleeping_child()
    try:
        run = interrupted
        (one,) = run.steps()
        who = identity.of(stranger.pid)
        assert who is not None
        record = {"v": 1, **who.as_json(), "starttime": who.starttime - 6, "pgid": stranger.pid, "started": "x"}
        write_json(one.attempt(1).child, record)
        seen = reconcile.status(run)
        assert (seen.status, seen.result) == ("over", "lost")
        assert control.stop(run, "kill") == "over"
        assert lab.resumed_to_end(run).result == "succeeded"
        assert stranger.poll() is None, "a process that is not ours was signalled"
    finally:
        stranger.kill()
        stranger.wait()


def test_after_a_reboot_even_an_equal_number_and_start_is_not_our_worker(interrupted: RunPaths) -> None:
    stranger = sleeping_child()
    try:
        run = interrupted
        (one,) = run.steps()
        who = identity.of(stranger.pid)
        assert who is not None
        write_json(one.attempt(1).child, {"v": 1, **who.as_json(), "boot_id": "another-boot", "pgid": stranger.pid})
        seen = reconcile.status(run)
        assert seen.steps[0].message is not None
        assert (seen.result, seen.steps[0].message.code) == ("lost", "run.lost_by_reboot")
        assert control.stop(run, "kill") == "over"
        assert lab.resumed_to_end(run).result == "succeeded"
        assert read_json(one.attempt(1).result)["problems"][0]["code"] == "run.lost_by_reboot"  # type: ignore[index]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="giving a file to another user needs root")
def test_a_record_someone_else_wrote_is_never_acted_upon(interrupted: RunPaths) -> None:
    """In a folder others may write to, anyone could name one of our processes."""
    stranger = sleeping_child()
    try:
        run = interrupted
        (one,) = run.steps()
        who = identity.of(stranger.pid)
        assert who is not None
        write_json(one.attempt(1).child, {"v": 1, **who.as_json(), "pgid": stranger.pid})
        os.chown(one.attempt(1).child, 65534, -1)
        assert reconcile.status(run).status == "unsupervised"
        with pytest.raises(SwiftshellError) as refused:
            control.stop(run, "kill")
        assert refused.value.problems[0].code == "run.not_ours"
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_reading_changes_nothing(interrupted: RunPaths) -> None:
    run = interrupted

    def picture() -> dict[str, tuple[int, int, bytes]]:
        return {str(p): (p.stat().st_mtime_ns, p.stat().st_ino, p.read_bytes() if p.is_file() else b"")
                for p in sorted(run.root.rglob("*"))}

    before = picture()
    for _ in range(3):
        reconcile.status(run)
    assert picture() == before


def test_a_lock_file_that_was_deleted_does_not_hide_a_living_runner(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 200, "tick_s": 0.02}})
    lab.start(run)
    lab.ticked(run.steps()[0], 1)
    run.lock.unlink()
    assert reconcile.status(run).status == "running"
    control.stop(run, "kill")
    lab.until(lambda: run.steps()[0].result.exists())


def test_strange_folders_among_the_steps_are_no_steps(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1}})
    (run.root / "steps" / "notes").mkdir()
    (run.root / "steps" / "x-y").mkdir()
    (run.root / "steps" / "03-file").write_text("")
    assert [s.id for s in run.steps()] == ["one"]
    lab.start(run)
    assert control.wait(run, 60).result == "succeeded"


def test_a_damaged_output_is_not_taken_for_good(workspace: Path) -> None:
    """The worker said it succeeded, its runner died, and then a file was cut: the step is done again."""
    run = lab.make(workspace, {"one": {"ticks": 2, "tick_s": 0.0}})
    (one,) = run.steps()
    lab.start(run, "exit.written")
    lab.settled(run)
    (one.partial(1) / "note" / "note.txt").write_text("ec")
    assert lab.resumed_to_end(run).result == "succeeded"
    assert lab.result(one)["attempt"] == 2
    assert (one.out / "note" / "note.txt").read_text() == "echo\n"


def test_after_a_power_cut_an_output_is_checked_by_content(workspace: Path) -> None:
    """A file of the right size over blocks that were never written is what a power cut leaves."""
    run = lab.make(workspace, {"one": {"ticks": 2, "tick_s": 0.0}})
    (one,) = run.steps()
    lab.start(run, "exit.written")
    lab.settled(run)
    (one.partial(1) / "note" / "note.txt").write_bytes(b"\0" * 5)
    child = read_json(one.attempt(1).child)
    assert isinstance(child, dict)
    write_json(one.attempt(1).child, {**child, "boot_id": "the boot before the cut"})
    assert lab.resumed_to_end(run).result == "succeeded"
    assert lab.result(one)["attempt"] == 2
    assert (one.out / "note" / "note.txt").read_text() == "echo\n"


def test_a_run_can_be_moved_with_its_workspace(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1}})
    lab.start(run)
    lab.settled(run)
    shutil.move(workspace / "runs", workspace / "elsewhere")
    moved = reconcile.status(RunPaths(workspace / "elsewhere" / run.id))
    assert moved.result == "succeeded"
    assert Path(moved.steps[0].outputs["note"], "note.txt").exists()


def test_records_hold_what_they_promise(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1}})
    (one,) = run.steps()
    lab.start(run)
    lab.settled(run)
    runner, child = json.loads(run.runner.read_text()), json.loads(one.attempt(1).child.read_text())
    assert {"v", "pid", "starttime", "boot_id", "user", "uid", "host", "started", "version", "python"} <= set(runner)
    assert {"v", "pid", "starttime", "boot_id", "pgid", "started"} <= set(child)
    assert child["pgid"] == child["pid"]
    end = json.loads(one.attempt(1).exit.read_text())
    assert (end["v"], end["code"], end["signal"], end["stop"], end["oom"]) == (1, 0, None, None, "unknown")
    assert end["started"] < end["ended"]
    assert end["rusage"]["max_rss_mib"] > 1
    state = json.loads(run.state.read_text())
    assert (state["status"], state["result"]) == ("over", "succeeded")
    assert state["steps"] == {"one": {"status": "over", "result": "succeeded", "attempt": 1}}
    assert lab.result(one)["outputs"] == {"note": "out/note"}
    assert not (run.root / ".reserve").exists()
    assert oct(run.state.stat().st_mode & 0o777) == "0o640"
