"""The real worker process: killed in the middle of a download, it goes on; its record is whole; nothing leaks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from swiftshell.errors import EXIT_AUTH, EXIT_TERMINATED
from swiftshell.run import artifact
from tests.download.conftest import write_model
from tests.support.loopback_hub import LoopbackHub

TOKEN = "hf_a_secret_nobody_may_see"
WEIGHTS = "model.safetensors"


class Step:
    """A download step's folder and the worker that fills it."""

    def __init__(self, root: Path, options: dict[str, Any], *, network: bool = True) -> None:
        self.root = root / "steps" / "01-base"
        self.root.mkdir(parents=True)
        request = {"v": 1, "run": "r", "step": "base", "stage": "download", "params": {}, "seed": 1, "lineage": "tiny",
                   "fingerprint": "f", "network": network, "resume": True,
                   "inputs": {"model": {"kind": "model", "path": None, "name": "tiny", "options": options}}}
        (self.root / "request.json").write_text(json.dumps(request))

    def start(self, number: int, **env: str) -> subprocess.Popen[bytes]:
        (self.root / "attempts" / f"{number:03d}").mkdir(parents=True)
        log = self.root / "attempts" / f"{number:03d}" / "log.txt"
        with log.open("wb") as out:
            return subprocess.Popen([sys.executable, "-m", "swiftshell.worker", str(self.root), str(number)],
                                    stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **env})

    def outcome(self, number: int) -> dict[str, Any] | None:
        file = self.root / "attempts" / f"{number:03d}" / "outcome.json"
        return json.loads(file.read_text()) if file.exists() else None

    def everything_written(self) -> str:
        files = [p for p in self.root.rglob("*") if p.suffix in (".json", ".jsonl", ".txt") and p.is_file()]
        return "".join(p.read_text(errors="replace") for p in files)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    with LoopbackHub({"org/tiny": write_model(tmp_path / "source", kib=1024)}, token=TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def arrived(cache: Path) -> int:
    return sum(p.stat().st_size for p in cache.rglob("*.incomplete"))


def wait_for_bytes(cache: Path, least: int, worker: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while arrived(cache) < least:
        assert worker.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_killed_download_goes_on_in_the_next_attempt(hub: LoopbackHub, tmp_path: Path, own_environment: Path) -> None:
    step = Step(tmp_path, {"repo": "org/tiny"})
    size = (tmp_path / "source" / WEIGHTS).stat().st_size
    hub.bytes_per_s = 500_000
    first = step.start(1)
    wait_for_bytes(own_environment, 200_000, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert step.outcome(1) is None
    kept = arrived(own_environment)
    hub.bytes_per_s = None
    assert step.start(2).wait(timeout=60) == 0
    assert hub.gets(WEIGHTS)[-1].range == f"bytes={kept}-"
    assert kept >= 200_000
    report = step.outcome(2)
    assert report is not None
    assert (report["result"], report["summary"]["resumed_bytes"]) == ("succeeded", kept)
    folder = step.root / "out.partial-002" / "model"
    assert artifact.damaged(folder, hashes=True) == []
    record = artifact.read(folder)
    assert record is not None
    assert record["files"][WEIGHTS]["size"] == size
    assert record["source"]["revision"] == hub.commit("org/tiny")


def test_a_stop_is_heard_in_the_middle_and_what_came_stays(hub: LoopbackHub, tmp_path: Path,
                                                           own_environment: Path) -> None:
    step = Step(tmp_path, {"repo": "org/tiny"})
    hub.bytes_per_s = 300_000
    worker = step.start(1)
    wait_for_bytes(own_environment, 50_000, worker)
    worker.terminate()
    assert worker.wait(timeout=10) == EXIT_TERMINATED
    report = step.outcome(1)
    assert report is not None
    assert report["result"] == "cancelled"
    assert arrived(own_environment) >= 50_000


def test_two_runs_at_once_fetch_a_file_once(hub: LoopbackHub, tmp_path: Path) -> None:
    steps = [Step(tmp_path / name, {"repo": "org/tiny"}) for name in ("a", "b")]
    hub.bytes_per_s = 1_000_000
    workers = [step.start(1) for step in steps]
    assert [w.wait(timeout=60) for w in workers] == [0, 0]
    assert hub.sent_bytes[WEIGHTS] == (tmp_path / "source" / WEIGHTS).stat().st_size
    for step in steps:
        assert artifact.damaged(step.root / "out.partial-001" / "model", hashes=True) == []


def test_the_token_is_used_and_written_nowhere(hub: LoopbackHub, tmp_path: Path) -> None:
    hub.gate("org/tiny")
    step = Step(tmp_path, {"repo": "org/tiny"})
    assert step.start(1).wait(timeout=60) == EXIT_AUTH
    assert step.start(2, HF_TOKEN=TOKEN).wait(timeout=60) == 0
    assert any(r.token == TOKEN for r in hub.requests)
    assert all(r.token is None for r in hub.requests if r.cdn)
    assert TOKEN not in step.everything_written()


def test_without_leave_for_the_network_nobody_is_asked(hub: LoopbackHub, tmp_path: Path) -> None:
    step = Step(tmp_path, {"repo": "org/tiny"}, network=False)
    assert step.start(1).wait(timeout=60) != 0
    report = step.outcome(1)
    assert report is not None
    assert report["problems"][0]["code"] == "download.offline_missing"
    assert hub.requests == []


def test_a_hard_linked_file_keeps_the_mode_its_owner_gave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_model(tmp_path / "source", kib=9 * 1024)  # above what is copied
    os.chmod(source / WEIGHTS, 0o644)
    step = Step(tmp_path, {"path": str(source)}, network=False)
    assert step.start(1).wait(timeout=60) == 0
    made = step.root / "out.partial-001" / "model"
    assert os.path.samefile(made / WEIGHTS, source / WEIGHTS)
    assert (source / WEIGHTS).stat().st_mode & 0o777 == 0o644
    assert (made / "config.json").stat().st_mode & 0o777 == 0o640
