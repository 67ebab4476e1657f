"""A disk that fills up: said, survived, and resumed from."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.jobs import reconcile
from swiftshell.run.files import write_json
from swiftshell.run.paths import RunPaths

from . import lab


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A workspace on a filesystem of 2 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "swiftshell-test", str(place)],
                             capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"a small filesystem cannot be mounted here: {mounted.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)


def fill(place: Path) -> Path:
    """Leave no byte free."""
    ballast = place / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return ballast


def running(place: Path) -> RunPaths:
    run = lab.make(place, {"one": {"ticks": 40, "tick_s": 0.03}})
    lab.start(run)
    lab.ticked(run.steps()[0], 2)
    return run


def test_a_disk_that_fills_while_a_step_works(small_disk: Path) -> None:
    """The step fails and says why; the end is recorded in the space kept back; resume goes on."""
    run = running(small_disk)
    (one,) = run.steps()
    ballast = fill(small_disk)
    ended = lab.settled(run)
    assert (ended.status, ended.result) == ("over", "failed"), run.runner_log.read_text()
    assert ended.steps[0].problems[0].code == "run.disk_full"
    ballast.unlink()
    assert lab.resumed_to_end(run).result == "succeeded"
    assert lab.ticks(one)[-1] == 40
    lab.assert_promises(run)


def test_the_end_of_a_step_waits_for_space(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space at all, not even the reserve: the runner tries again until there is some."""
    monkeypatch.setenv("SWIFTSHELL_WRITE_PATIENCE_S", "60")
    run = running(small_disk)
    (one,) = run.steps()
    (run.root / ".reserve").unlink()
    ballast = fill(small_disk)
    lab.until(lambda: lab.identity.of(lab.worker(one).pid) is None)
    assert reconcile.status(run).supervised, "the runner must not leave with the end unrecorded"
    assert not one.attempt(1).exit.exists()
    ballast.unlink()
    ended = lab.settled(run)
    assert (ended.result, ended.steps[0].attempt) == ("failed", 1)
    assert one.attempt(1).exit.exists()
    assert lab.resumed_to_end(run).result == "succeeded"


def test_a_runner_that_runs_out_of_patience_loses_nothing(small_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIFTSHELL_WRITE_PATIENCE_S", "1")
    run = running(small_disk)
    (one,) = run.steps()
    (run.root / ".reserve").unlink()
    ballast = fill(small_disk)
    lab.until(lambda: not reconcile.status(run).supervised, 30)
    seen = lab.settled(run)
    assert (seen.status, seen.result) == ("over", "lost")
    ballast.unlink()
    assert lab.resumed_to_end(run).result == "succeeded"
    assert lab.ticks(one)[-1] == 40
    lab.assert_promises(run)


def test_a_full_disk_refuses_new_runs_with_one_sentence(small_disk: Path) -> None:
    ballast = fill(small_disk)
    with pytest.raises(SwiftshellError) as refused:
        lab.make(small_disk, {"one": {}})
    assert refused.value.problems[0].code == "run.folder_unwritable"
    assert "No space left" in str(refused.value)
    ballast.unlink()
    runs = small_disk / "runs"
    assert not runs.exists() or not list(runs.iterdir()), "nothing half made stays"


def test_an_atomic_write_that_fails_leaves_the_old_file_and_no_litter(small_disk: Path) -> None:
    path = small_disk / "record.json"
    write_json(path, {"old": True})
    fill(small_disk)
    with pytest.raises(OSError):
        write_json(path, {"new": "x" * 10000})
    assert path.read_text() == '{\n "old": true\n}\n'
    assert sorted(p.name for p in small_disk.iterdir()) == ["ballast", "record.json"]
