"""Stop, kill, resume, adopt: what fronts ask of a run, with a runner and without one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from swiftshell.errors import EXIT_RUNNING, EXIT_TERMINATED, SwiftshellError
from swiftshell.jobs import control, launch, reconcile
from swiftshell.run import identity
from swiftshell.run.files import read_json, write_json

from . import lab

SLOW = {"ticks": 400, "tick_s": 0.02}


def test_stop_saves_and_resume_goes_on_from_there(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 60, "tick_s": 0.01}, "two": {"ticks": 1, "after": "one"}})
    one, _ = run.steps()
    lab.start(run)
    lab.ticked(one, 5)
    assert control.stop(run, "checkpoint", by="test") == "requested"
    stopped = control.wait(run, 30)
    assert (stopped.status, stopped.result) == ("over", "cancelled")
    assert [(s.status, s.result) for s in stopped.steps] == [("over", "cancelled"), ("waiting", None)]
    assert stopped.exit_code == EXIT_TERMINATED
    assert stopped.steps[0].message is not None
    assert stopped.steps[0].message.code == "run.stopped"
    reached = lab.ticks(one)[-1]
    done = control.resume(run)
    assert (done.how, done.step) == ("retry", "one")
    assert done.checkpoint == one.checkpoints / f"checkpoint-{reached}"
    assert control.wait(run, 30).result == "succeeded"
    assert lab.ticks(one) == list(range(1, 61))
    assert lab.result(one)["summary"] == {"started_at": reached}
    assert lab.result(one)["attempt"] == 2
    assert read_json(one.attempt(1).result)["result"] == "cancelled"  # type: ignore[index]


def test_kill_ends_the_worker_at_once(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {**SLOW, "ignore_stop": True}})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 1)
    begun = time.monotonic()
    control.stop(run, "kill")
    ended = control.wait(run, 30)
    assert time.monotonic() - begun < 5
    assert ended.result == "cancelled"
    assert lab.result(one)["problems"][0]["code"] == "run.killed"
    assert not one.partial(1).exists()
    assert not (one.root / "work-001").exists()


def test_a_second_request_upgrades_the_first_and_is_never_taken_back(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {**SLOW, "ignore_stop": True}})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 1)
    control.stop(run, "checkpoint")
    time.sleep(0.6)
    assert reconcile.status(run).status == "running", "a worker that ignores the first request has its grace"
    control.stop(run, "kill")
    control.stop(run, "checkpoint")
    assert (read_json(run.stop_request) or {})["how"] == "kill"
    assert control.wait(run, 10).result == "cancelled"
    assert (read_json(one.attempt(1).exit) or {})["signal"] == signal.SIGKILL


def test_the_grace_ends(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {**SLOW, "ignore_stop": True, "stop_grace_s": 0.3}})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 1)
    control.stop(run, "checkpoint")
    assert control.wait(run, 20).result == "cancelled"
    assert (read_json(one.attempt(1).exit) or {})["stop"] == "checkpoint"


def test_a_time_limit_is_a_stop_with_a_name_of_its_own(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {**SLOW, "time_limit_s": 1.0}})
    lab.start(run)
    ended = control.wait(run, 30)
    assert (ended.result, ended.exit_code) == ("timed_out", 124)


def test_a_stop_before_the_first_step(workspace: Path) -> None:
    run = lab.make(workspace, {"one": SLOW})
    write_json(run.stop_request, {"v": 1, "how": "checkpoint", "by": "test"})
    lab.start(run)
    ended = lab.settled(run)
    assert (ended.status, ended.result) == ("over", "cancelled")
    assert run.steps()[0].attempts() == []
    assert control.resume(run).how == "start"
    control.stop(run, "kill")
    lab.settled(run)


def test_sigterm_to_the_runner_is_a_request_to_save_and_stop(workspace: Path) -> None:
    run = lab.make(workspace, {"one": SLOW})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 2)
    os.kill(lab.runner_pid(run), signal.SIGTERM)
    assert control.wait(run, 30).result == "cancelled"
    assert (read_json(run.stop_request) or {})["by"] == "SIGTERM"
    assert lab.result(one)["problems"][0]["code"] == "run.stopped"


def test_resume_refuses_a_run_that_is_running(workspace: Path) -> None:
    run = lab.make(workspace, {"one": SLOW})
    lab.start(run)
    for attempt in (control.resume, lambda r: launch.start(r.root)):
        with pytest.raises(SwiftshellError) as refused:
            attempt(run)
        assert refused.value.exit_code == EXIT_RUNNING
        assert refused.value.problems[0].code == "run.still_running"
        assert refused.value.problems[0].values["pid"] == lab.runner_pid(run)
    control.stop(run, "kill")
    lab.settled(run)


def test_resume_of_a_finished_run_starts_nothing(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1}})
    lab.start(run)
    lab.settled(run)
    log = run.runner_log.read_text()
    assert control.resume(run).how == "nothing"
    assert run.runner_log.read_text() == log
    assert control.stop(run, "kill") == "over"
    assert not run.stop_request.exists()


def test_a_worker_outlives_its_runner_and_is_adopted(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 120, "tick_s": 0.02}, "two": {"ticks": 1, "after": "one"}})
    one, _ = run.steps()
    lab.start(run)
    lab.ticked(one, 2)
    lab.kill_runner(run)
    seen = reconcile.status(run)
    assert (seen.status, seen.steps[0].status) == ("unsupervised", "unsupervised")
    assert seen.steps[0].message is not None
    assert seen.steps[0].message.values["pid"] == lab.worker(one).pid
    assert seen.steps[0].progress is not None
    assert control.resume(run).how == "adopt"
    assert reconcile.status(run).status == "running"
    ended = control.wait(run, 60)
    assert ended.result == "succeeded"
    assert lab.starts(one) == [1], "the adopted worker was not started again"
    assert lab.ticks(one) == list(range(1, 121))
    end = read_json(one.attempt(1).exit) or {}
    assert (end["code"], end["adopted"]) == (None, True)
    assert end["started"] == (read_json(one.attempt(1).child) or {})["started"]
    lab.assert_promises(run)


def test_an_adopted_worker_that_fails_is_told_as_it_is(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 60, "tick_s": 0.02, "ending": "fail"}})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 1)
    lab.kill_runner(run)
    control.resume(run)
    ended = control.wait(run, 60)
    assert ended.result == "failed"
    assert ended.steps[0].problems[0].code == "engine.echo_failed"


@pytest.mark.parametrize(("how", "code"), [("checkpoint", "run.stopped"), ("kill", "run.killed")])
def test_stop_reaches_a_worker_without_a_runner(workspace: Path, how: control.How, code: str) -> None:
    run = lab.make(workspace, {"one": {**SLOW, "ignore_stop": how == "kill"}})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 2)
    who = lab.worker(one)
    lab.kill_runner(run)
    assert control.stop(run, how) == "signalled"
    ended = lab.settled(run)
    assert not identity.alive(who)
    assert (ended.result, ended.steps[0].result) == ("cancelled", "cancelled")
    assert ended.steps[0].message is not None
    assert ended.steps[0].message.code == code
    before = lab.ticks(one)[-1]
    done = control.resume(run)
    assert (done.how, done.checkpoint) == ("retry", one.checkpoints / f"checkpoint-{before}")
    lab.ticked(one, before + 1)
    assert lab.ticks(one) == sorted(set(lab.ticks(one)))
    control.stop(run, "kill")
    assert lab.settled(run).result == "cancelled"


def test_a_worker_killed_under_a_living_runner_fails_and_is_resumed(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 80, "tick_s": 0.02}})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 3)
    os.kill(lab.worker(one).pid, signal.SIGKILL)
    ended = lab.settled(run)
    assert ended.result == "failed"
    assert ended.steps[0].problems[0].code == "run.worker_killed"
    assert ended.exit_code == 137
    assert lab.resumed_to_end(run).result == "succeeded"
    assert lab.ticks(one) == list(range(1, 81))


def test_two_resumes_at_once_start_one_runner(workspace: Path) -> None:
    run = lab.make(workspace, {"one": SLOW})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 1)
    control.stop(run, "checkpoint")
    lab.settled(run)
    pids = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                control.resume(run)
                code = 0
            except SwiftshellError as error:
                code = error.exit_code
            finally:
                os._exit(code)
        pids.append(pid)
    codes = sorted(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids)
    assert codes == [0, EXIT_RUNNING, EXIT_RUNNING, EXIT_RUNNING]
    lab.until(lambda: lab.starts(one) == [1, 2])
    control.stop(run, "kill")
    lab.settled(run)
    lab.assert_promises(run)


def test_wait_gives_every_event_in_order_and_gives_up_in_time(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 5, "tick_s": 0.0}, "two": {"ticks": 200, "tick_s": 0.05}})
    lab.start(run)
    heard: list[tuple[str, str]] = []

    def hear(step: str, event: dict[str, object]) -> None:
        told = f"{event['status']}/{event['result']}" if event["kind"] == "status" else str(event["kind"])
        heard.append((step, told))

    lab.until(lambda: lab.ticks(run.steps()[1]))
    begun = time.monotonic()
    found = control.wait(run, 0.5, hear)
    assert 0.4 < time.monotonic() - begun < 5
    assert found.status == "running"
    assert [e for s, e in heard if s == "one"].count("metric") == 5
    assert ("one", "over/succeeded") in heard
    assert heard.index(("one", "over/succeeded")) > max(i for i, h in enumerate(heard) if h == ("one", "metric"))
    assert ("", "running/None") in heard
    assert control.wait(run, 10, stop_waiting=lambda: True).status == "running"
    control.stop(run, "kill")
    lab.settled(run)
