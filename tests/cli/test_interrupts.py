"""Ctrl-C at awkward moments, and the same command again afterwards."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api import runs
from swiftshell.api.plans import plan_stage
from swiftshell.cli.output import submit_and_follow
from swiftshell.jobs import reconcile
from swiftshell.plan.quick import Options
from swiftshell.run.workspace import open_workspace
from tests.cli.support import swiftshell

SLOW = {"ticks": 400, "tick_s": 0.05}


@pytest.mark.parametrize("detach", [False, True])
def test_an_interrupt_while_the_runner_starts_stops_the_run(workspace: Path, monkeypatch: pytest.MonkeyPatch,
                                                            capsys: pytest.CaptureFixture[str], detach: bool) -> None:
    real = runs.submit

    def interrupted(plan: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return real(plan)

    monkeypatch.setattr(runs, "submit", interrupted)
    plan = plan_stage(open_workspace(workspace), "echo", Options(params=SLOW))
    result = submit_and_follow(plan, argparse.Namespace(json=False), detach=detach)
    assert result.exit_code == 130
    assert result.data["result"] == "cancelled"
    assert "Ctrl-C" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_unfinished_run_of_the_same_work_is_found_and_no_other(workspace: Path) -> None:
    opened = open_workspace(workspace)
    plan = plan_stage(opened, "echo", Options(params=SLOW))
    run = runs.submit(plan)
    assert runs.unfinished_like(opened, plan) is None, "it is still at work"
    swiftshell("stop", "--kill", cwd=workspace)
    swiftshell("attach", run.id, cwd=workspace)
    again = plan_stage(opened, "echo", Options(params=SLOW))
    found = runs.unfinished_like(opened, again)
    assert found is not None
    assert found.id == run.id
    assert runs.unfinished_like(opened, plan_stage(opened, "echo", Options(params={**SLOW, "ticks": 401}))) is None


def test_what_is_unsupervised_is_said_with_what_to_do(workspace: Path) -> None:
    swiftshell("run", "echo", "--yes", "--detach", *(f"--set={k}={v}" for k, v in SLOW.items()), cwd=workspace)
    run = runs.find_run(open_workspace(workspace), None)
    while reconcile.status(run).status != "running":
        pass
    os.kill(int(json.loads(run.runner.read_text(encoding="utf-8"))["pid"]), signal.SIGKILL)
    done = swiftshell("attach", cwd=workspace)
    assert done.returncode == 8
    assert "warning[run.unsupervised]" in done.stderr
    assert "swiftshell resume" in done.stderr
    swiftshell("stop", "--kill", cwd=workspace)


@pytest.mark.parametrize(("flag", "value"), [("--temperature", "nan"), ("--temperature", "-1"), ("--top-p", "0"),
                                             ("--max-new-tokens", "0"), ("--prompt", "")])
def test_generation_settings_out_of_range_are_refused(workspace: Path, flag: str, value: str) -> None:
    done = swiftshell("infer", "--model", "starter", "--prompt", "a", flag, value, cwd=workspace)
    assert done.returncode == 2
    assert f"{flag} is " in done.stderr
