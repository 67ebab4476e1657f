"""One attempt of one step, without a runner: what the worker leaves behind."""

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

from swiftshell import worker
from swiftshell.run import artifact
from swiftshell.run.events import read_events
from swiftshell.run.paths import StepPaths

from ..runner import lab


@pytest.fixture
def step(tmp_path: Path) -> StepPaths:
    paths = StepPaths(tmp_path / "steps" / "01-one")
    paths.attempt(1).root.mkdir(parents=True)
    return paths


def ask(step: StepPaths, **fields: Any) -> None:
    step.request.write_text(json.dumps(lab.request("r", "one", **fields)))


def run(step: StepPaths, number: int = 1) -> tuple[int, dict[str, Any]]:
    step.attempt(number).root.mkdir(exist_ok=True)
    done = subprocess.run([sys.executable, "-P", "-m", "swiftshell.worker", str(step.root), str(number)], timeout=60,
                          capture_output=True, text=True)
    return done.returncode, json.loads(step.attempt(number).outcome.read_text())


def test_success(step: StepPaths) -> None:
    ask(step, ticks=2)
    code, outcome = run(step)
    assert (code, outcome["result"], outcome["outputs"]) == (0, "succeeded", {"note": "out/note"})
    record = artifact.read(step.partial(1) / "note")
    assert record is not None
    assert {"id", "kind", "name", "stage", "created", "files", "size_bytes", "made_by", "good"} <= set(record)
    assert artifact.damaged(step.partial(1) / "note", hashes=True) == []
    assert not (step.root / "work-001").exists()
    assert (step.partial(1) / "note" / "note.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("params", "code", "exit_code"), [
    ({"ending": "fail"}, "engine.echo_failed", 3), ({"ending": "defect"}, "core.defect", 3),
    ({"tick": 1}, "run.params_invalid", 2), ({"ticks": -1}, "run.params_invalid", 2)])
def test_failures(step: StepPaths, params: dict[str, Any], code: str, exit_code: int) -> None:
    ask(step)
    data = json.loads(step.request.read_text())
    step.request.write_text(json.dumps({**data, "params": params}))
    got, outcome = run(step)
    assert (got, outcome["result"], outcome["exit_code"]) == (exit_code, "failed", exit_code)
    assert [p["code"] for p in outcome["problems"]] == [code]
    assert not step.partial(1).exists()


@pytest.mark.parametrize("content", ["", "{", "[]", None])
def test_a_request_that_cannot_be_read_still_ends_in_an_outcome(step: StepPaths, content: str | None) -> None:
    if content is not None:
        step.request.write_text(content)
    code, outcome = run(step)
    assert (code, outcome["problems"][0]["code"]) == (2, "run.request_unreadable")
    assert outcome["problems"][0]["file"] == str(step.request)


def test_an_unknown_stage(step: StepPaths) -> None:
    ask(step, stage="eco")
    code, outcome = run(step)
    assert (code, outcome["problems"][0]["code"]) == (2, "core.stage_unknown")


def test_a_damaged_model_is_named(step: StepPaths) -> None:
    ask(step, inputs={"note": {"kind": "model", "path": str(step.root / "nowhere"), "name": "m", "options": {}}})
    code, outcome = run(step)
    assert (code, outcome["problems"][0]["code"]) == (2, "run.input_damaged")


def test_stopping_and_going_on_past_a_torn_checkpoint(step: StepPaths) -> None:
    ask(step, ticks=500, tick_s=0.02)
    process = subprocess.Popen([sys.executable, "-P", "-m", "swiftshell.worker", str(step.root), "1"])
    lab.ticked(step, 3)
    process.terminate()
    assert process.wait(20) == 143
    outcome = json.loads(step.attempt(1).outcome.read_text())
    assert (outcome["result"], outcome["problems"][0]["code"]) == ("cancelled", "run.stopped")
    reached = lab.ticks(step)[-1]
    torn = step.checkpoints / f"checkpoint-{reached + 50}"
    torn.mkdir()
    (torn / "state.json").write_text('{"ti')
    ask(step, ticks=reached + 2)
    assert run(step, 2)[0] == 0
    told = {e["code"]: e["values"] for e in read_events(step.events)[0] if e["kind"] in ("note", "warning")}
    assert told["run.resumed_from"] == {"checkpoint": f"checkpoint-{reached}"}
    assert told["run.checkpoint_passed_over"]["checkpoint"] == torn.name
    assert lab.ticks(step) == list(range(1, reached + 3))


def test_a_stop_of_the_first_second_is_not_lost(step: StepPaths) -> None:
    ask(step, ticks=10_000, tick_s=0.01)
    process = subprocess.Popen([sys.executable, "-P", "-m", "swiftshell.worker", str(step.root), "1"])
    lab.until(step.events.exists)
    process.terminate()
    begun = time.monotonic()
    assert process.wait(20) == 143
    assert time.monotonic() - begun < 10


def test_an_engine_that_leaves_nothing_is_a_defect(step: StepPaths, monkeypatch: pytest.MonkeyPatch) -> None:
    from swiftshell.stages.base import Outcome

    handlers = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    environment, mask = dict(os.environ), os.umask(0o027)
    ask(step)
    monkeypatch.setattr(worker, "_engine", lambda _name: lambda _request, _ctx: Outcome({"note": {"kind": "note"}}))
    try:
        assert worker.main([str(step.root), "1"]) == 3
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.environ.clear()
        os.environ.update(environment)
        os.umask(mask)
    outcome = json.loads(step.attempt(1).outcome.read_text())
    assert outcome["problems"][0]["code"] == "core.defect"
    assert "left no file" in outcome["problems"][0]["values"]["message"]


def test_the_cache_is_the_workspaces_and_a_stray_step_makes_no_workspace(tmp_path: Path) -> None:
    stray = StepPaths(tmp_path / "steps" / "01-kto")
    assert stray.cache == stray.root / "cache"
    inside = StepPaths(tmp_path / "lab" / "runs" / "a-run" / "steps" / "01-kto")
    assert inside.cache == inside.root / "cache"
    (tmp_path / "lab" / ".swiftshell").mkdir(parents=True)
    (tmp_path / "lab" / ".swiftshell" / "workspace.json").write_text("{}")
    assert inside.cache == tmp_path / "lab" / ".swiftshell" / "cache"
