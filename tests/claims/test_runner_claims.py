"""Real runners and workers on a machine of fake GPUs: waiting with a reason, giving way, dying, going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from swiftshell.claims import holders
from swiftshell.claims.area import Area
from swiftshell.claims.claim import Claimer, Grant
from swiftshell.errors import Problem
from swiftshell.jobs import control, launch, reconcile
from swiftshell.run import identity
from swiftshell.run.crash import CLAIM_POINTS
from swiftshell.run.events import read_events
from swiftshell.run.files import read_json
from swiftshell.run.paths import RunPaths

from ..runner import lab
from .bench import Machine, uuid, want

SOAK = int(os.environ.get("SWIFTSHELL_SOAK", "1"))


def environment(run: RunPaths, step: int = 0) -> dict[str, str]:
    """What the step's worker was started with, as the kernel knows it."""
    who = lab.worker(run.steps()[step])
    text = Path(f"/proc/{who.pid}/environ").read_bytes().decode()
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


def held(area: Area, count: int) -> Grant:
    claimer = Claimer(area, want(count))
    found = claimer.attempt()
    assert isinstance(found, Grant), found
    return found


def queued(run: RunPaths) -> reconcile.StepStatus:
    def waiting() -> reconcile.StepStatus | None:
        return next((s for s in reconcile.status(run).steps if s.status == "queued" and s.message), None)

    found: reconcile.StepStatus = lab.until(waiting)
    return found


def test_a_step_gets_what_it_asked_for_and_sees_nothing_else(workspace: Path, machine: Machine, area: Area) -> None:
    first = lab.make(workspace, {"one": {"ticks": 400, "gpus": 1}})
    second = lab.make(workspace, {"one": {"ticks": 400, "gpus": 2}, "cpu": {"ticks": 0}})
    lab.start(first)
    lab.ticked(first.steps()[0], 1)
    lab.start(second)
    lab.ticked(second.steps()[0], 1)
    assert environment(first)["CUDA_VISIBLE_DEVICES"] == "0"
    assert environment(first)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment(second)["CUDA_VISIBLE_DEVICES"] == "1,2"
    assert [s.gpus for s in reconcile.status(second).steps] == [[1, 2], []]
    assert [holders.is_taken(area, uuid(i)) for i in range(4)] == [True, True, True, False]
    for run in (first, second):
        control.stop(run, "kill")
        lab.settled(run)
    assert [holders.is_taken(area, uuid(i)) for i in range(4)] == [False] * 4
    assert list(area.claims.iterdir()) == list(area.tickets.iterdir()) == []


def test_a_step_that_needs_no_gpu_never_waits_and_sees_none(workspace: Path, machine: Machine, area: Area) -> None:
    grant = held(area, 4)
    run = lab.make(workspace, {"one": {"ticks": 100}})
    lab.start(run)
    lab.ticked(run.steps()[0], 1)
    assert environment(run)["CUDA_VISIBLE_DEVICES"] == ""
    assert control.wait(run, 30).result == "succeeded"
    grant.close()


def test_without_gpus_nothing_is_claimed_and_nothing_hidden(workspace: Path, monkeypatch: pytest.MonkeyPatch,
                                                           tmp_path: Path) -> None:  # fmt: skip
    Machine(tmp_path / "none.json", count=0)
    monkeypatch.setenv("SWIFTSHELL_GPUS_FILE", str(tmp_path / "none.json"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run = lab.make(workspace, {"one": {"ticks": 100, "gpus": 1}})
    lab.start(run)
    lab.ticked(run.steps()[0], 1)
    assert "CUDA_VISIBLE_DEVICES" not in environment(run)
    assert control.wait(run, 30).result == "succeeded"
    assert not (tmp_path / "state").exists()


def test_waiting_is_said_where_people_look_and_ends_when_the_gpu_is_free(workspace: Path, machine: Machine,
                                                                        area: Area) -> None:  # fmt: skip
    grant = held(area, 4)
    run = lab.make(workspace, {"one": {"ticks": 0, "gpus": 1}})
    lab.start(run)
    step = queued(run)
    assert step.message is not None
    assert step.message.code == "gpus.wait_held"
    assert step.message.values["run"] == grant.want.run
    assert not run.steps()[0].attempts(), "no attempt is made before there is a GPU"
    grant.close()
    assert control.wait(run, 30).result == "succeeded"
    codes = [e["code"] for e in read_events(run.steps()[0].events)[0] if e["kind"] == "note"]
    assert codes == ["gpus.wait_held", "gpus.granted"]


def test_who_is_told_not_to_wait_is_told_why_not(workspace: Path, machine: Machine, area: Area) -> None:
    grant = held(area, 4)
    run = lab.make(workspace, {"one": {"ticks": 0, "gpus": 1}})
    launch.start(run.root, wait=False)
    found = control.wait(run, 30)
    assert (found.result, found.exit_code) == ("failed", 5)
    assert [p.code for p in found.steps[0].problems] == ["gpus.busy", "gpus.wait_held"]
    grant.close()
    control.resume(run)
    assert control.wait(run, 30).result == "succeeded"


def test_more_than_the_machine_has_is_refused_at_once(workspace: Path, machine: Machine) -> None:
    run = lab.make(workspace, {"one": {"ticks": 0, "gpus": 5}})
    lab.start(run)
    found = control.wait(run, 30)
    assert [p.code for p in found.steps[0].problems] == ["gpus.too_many"]


@pytest.mark.parametrize("how", ["checkpoint", "kill"])
def test_a_stop_ends_the_waiting_and_resume_waits_again(workspace: Path, machine: Machine, area: Area, how: Any) -> None:
    grant = held(area, 4)
    run = lab.make(workspace, {"one": {"ticks": 0, "gpus": 1}})
    lab.start(run)
    queued(run)
    control.stop(run, how)
    found = lab.settled(run)
    assert (found.status, found.result) == ("over", "cancelled")
    assert list(area.tickets.iterdir()) == []
    grant.close()
    control.resume(run)
    assert control.wait(run, 30).result == "succeeded"


def test_the_holders_end_lets_the_next_one_start_within_six_seconds(workspace: Path, machine: Machine, area: Area,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.delenv("SWIFTSHELL_QUEUE_POLL_S")  # as people have it
    first = lab.make(workspace, {"one": {"ticks": 100_000, "tick_s": 0.05, "gpus": 4}})
    lab.start(first)
    lab.ticked(first.steps()[0], 1)
    second = lab.make(workspace, {"one": {"ticks": 0, "gpus": 4}})
    lab.start(second)
    queued(second)
    lab.kill_runner(first)
    time.sleep(1.5)
    assert holders.is_taken(area, uuid(0)), "the job lives, so its GPUs are busy"
    assert reconcile.status(first).status == "unsupervised"
    why = queued(second).message
    assert why is not None
    assert (why.code, why.values["run"]) == ("gpus.wait_held", first.id)
    killed = time.monotonic()
    os.kill(lab.worker(first.steps()[0]).pid, signal.SIGKILL)
    lab.worker(second.steps()[0])
    assert time.monotonic() - killed < 6.0
    assert control.wait(second, 30).result == "succeeded"


def test_an_adopted_worker_keeps_its_gpu_and_the_next_step_claims_anew(workspace: Path, machine: Machine,
                                                                      area: Area) -> None:  # fmt: skip
    run = lab.make(workspace, {"one": {"ticks": 40, "tick_s": 0.05, "gpus": 2}, "two": {"ticks": 0, "gpus": 4, "after": "one"}})
    lab.start(run)
    lab.ticked(run.steps()[0], 1)
    lab.kill_runner(run)
    control.resume(run)
    assert holders.is_taken(area, uuid(0))
    found = control.wait(run, 60)
    assert [s.result for s in found.steps] == ["succeeded", "succeeded"]
    assert lab.starts(run.steps()[0]) == [1]
    intent = json.loads((run.steps()[1].attempt(1).root / "intent.json").read_text())
    assert [g["index"] for g in intent["gpus"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("point", [*CLAIM_POINTS, "attempt.made", "intent.written", "child.forked", "child.recorded"])
def test_a_runner_killed_while_it_claims_leaves_no_gpu_behind(workspace: Path, machine: Machine, area: Area,
                                                             point: str) -> None:  # fmt: skip
    for _ in range(SOAK):
        run = lab.make(workspace, {"one": {"ticks": 0, "gpus": 4}})
        lab.start(run, crash_at=point)
        lab.settled(run)
        lab.until(lambda: not any(holders.is_taken(area, uuid(i)) for i in range(4)))
        held(area, 4).close()
        found = lab.resumed_to_end(run)
        assert found.result == "succeeded"
        lab.assert_promises(run)


def test_the_record_names_the_worker_so_that_a_dead_runners_job_is_known(workspace: Path, machine: Machine,
                                                                        area: Area) -> None:  # fmt: skip
    run = lab.make(workspace, {"one": {"ticks": 400, "tick_s": 0.05, "gpus": 1}})
    lab.start(run)
    lab.ticked(run.steps()[0], 1)
    who = lab.worker(run.steps()[0])
    lab.until(lambda: (h := holders.of(area, uuid(0))) is not None and who in h.processes)
    machine.appear(0, who.pid)
    lab.kill_runner(run)
    claimer = Claimer(area, want(allowed=(uuid(0),)))
    why = claimer.attempt()
    assert isinstance(why, Problem)
    assert why.code == "gpus.wait_held"
    claimer.close()
    assert identity.alive(who)
    control.stop(run, "kill")
    lab.settled(run)
    assert read_json(run.steps()[0].attempt(1).child) is not None


def test_a_stranger_on_the_jobs_gpu_is_said_once_and_left_alone(workspace: Path, machine: Machine, area: Area) -> None:
    run = lab.make(workspace, {"one": {"ticks": 2000, "tick_s": 0.05, "gpus": 1}})
    lab.start(run)
    own = lab.worker(run.steps()[0])
    machine.appear(0, own.pid)
    stranger = subprocess.Popen(["sleep", "60"])
    machine.appear(0, stranger.pid)

    def warnings() -> list[dict[str, Any]]:
        return [e for e in read_events(run.steps()[0].events)[0] if e["kind"] == "warning"]

    lab.until(warnings)
    time.sleep(2.0)  # more looks
    assert [(w["code"], w["values"]["pid"], w["values"]["command"]) for w in warnings()] == [
        ("gpus.stranger", stranger.pid, "sleep")]  # fmt: skip
    assert stranger.poll() is None
    control.stop(run, "kill")
    lab.settled(run)
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_where_nothing_can_be_written_the_step_is_refused_with_the_place(workspace: Path, machine: Machine,
                                                                        tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "swiftshell").write_text("a file where the folder should be")
    run = lab.make(workspace, {"one": {"ticks": 0, "gpus": 1}})
    lab.start(run)
    found = control.wait(run, 30)
    assert [(p.code, found.exit_code) for p in found.steps[0].problems] == [("gpus.area_unwritable", 5)]
    assert str(tmp_path / "state" / "swiftshell") in found.steps[0].problems[0].values["path"]
    (tmp_path / "state" / "swiftshell").unlink()
    assert lab.resumed_to_end(run).result == "succeeded"
