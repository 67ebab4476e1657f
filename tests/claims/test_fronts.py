"""gpus, queue, jobs and run as a person or a script meets them: both languages, 80 columns, JSON, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swiftshell.claims.area import Area
from swiftshell.claims.claim import Claimer, Grant
from swiftshell.jobs import control, reconcile
from swiftshell.run.files import read_json

from ..cli.support import as_json, swiftshell
from ..runner import lab
from .bench import Machine, uuid, want


@pytest.fixture
def crowd(area: Area, machine: Machine) -> Any:
    """GPU 0 used by a stranger, GPU 1 held for an hour, GPU 2 full of something unseen, GPU 3 free; two wait."""
    machine.appear(0, os.getppid(), used_gib=12.0)
    machine.set(2, used_gib=20.0)
    holder = Claimer(area, want(run="2026-01-01-dpo-bbbb", allowed=(uuid(1),), expected_s=3600.0)).attempt()
    assert isinstance(holder, Grant)
    waiting = [Claimer(area, want(2, run="2026-01-01-kto-cccc", priority="low", allowed=(uuid(1), uuid(3)))),
               Claimer(area, want(run="2026-01-01-sft-dddd", allowed=(uuid(1),)))]  # fmt: skip
    yield holder
    for claimer in waiting:
        claimer.close()
    holder.close()


def test_gpus_as_json(workspace: Path, crowd: Grant) -> None:
    done = swiftshell("gpus", "--json", cwd=workspace)
    facts = as_json(done)["data"]
    assert [g["state"] for g in facts["gpus"]] == ["foreign", "held", "memory", "free"]
    assert (facts["shared"], facts["answers"]) == (False, True)
    assert facts["gpus"][1]["holder"]["run"] == "2026-01-01-dpo-bbbb"
    assert facts["gpus"][0]["processes"][0]["pid"] == os.getppid()
    assert facts["gpus"][0]["processes"][0]["through_swiftshell"] is False
    assert facts["gpus"][3]["why"] is None


def test_queue_as_json(workspace: Path, crowd: Grant) -> None:
    waiting = as_json(swiftshell("queue", "--json", cwd=workspace))["data"]["waiting"]
    assert [(w["position"], w["run"], w["gpus"]) for w in waiting] == [
        (1, "2026-01-01-sft-dddd", 1), (2, "2026-01-01-kto-cccc", 2)]  # fmt: skip
    assert waiting[0]["why"]["code"] == "gpus.wait_held_until"
    assert waiting[0]["why"]["values"]["run"] == "2026-01-01-dpo-bbbb"


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("columns", ["80", "40"])
def test_both_fit_the_terminal_in_both_languages(workspace: Path, crowd: Grant, lang: str, columns: str) -> None:
    from swiftshell.menu.cells import cells

    for verb, said in (("gpus", {"en": "not through", "zh": "不经"}), ("queue", {"en": "low priority", "zh": "低优先级"})):
        done = swiftshell(verb, "--lang", lang, cwd=workspace, env={"COLUMNS": columns})
        assert done.returncode == 0, done.stderr
        assert said[lang].replace(" ", "") in "".join(done.stdout.split()), "nothing is cut, only wrapped"
        assert max(cells(line) for line in done.stdout.splitlines()) <= int(columns)
        assert "{" not in done.stdout


def test_a_machine_without_gpus_says_so(workspace: Path, tmp_path: Path) -> None:
    Machine(tmp_path / "none.json", count=0)
    env = {"SWIFTSHELL_GPUS_FILE": str(tmp_path / "none.json"), "XDG_STATE_HOME": str(tmp_path / "state")}
    assert "No NVIDIA GPU" in swiftshell("gpus", cwd=workspace, env=env).stdout
    assert "Nobody waits" in swiftshell("queue", cwd=workspace, env=env).stdout
    assert not (tmp_path / "state").exists(), "looking leaves no trace"
    done = swiftshell("run", "echo", "--yes", "--set", "gpus=1", "--no-wait", "--json", cwd=workspace, env=env)
    assert as_json(done)["data"]["result"] == "succeeded"
    done = swiftshell("run", "echo", "--dry-run", "--fresh", "--set", "gpus=1", "--gpus", "2", cwd=workspace,
                      env=env)  # fmt: skip
    assert (done.returncode, "this machine has 0" in done.stderr) == (5, True)


def test_a_driver_that_does_not_answer_is_said(workspace: Path, machine: Machine) -> None:
    machine.hang()
    assert "does not answer" in swiftshell("gpus", cwd=workspace).stdout


@pytest.mark.parametrize(("argv", "env", "said"), [
    (("--gpus", "5"), {}, "5 GPUs are wanted and this machine has 4"),
    (("--gpus", "-1"), {}, "found -1"),
    ((), {"CUDA_VISIBLE_DEVICES": "7"}, "names GPU 7"),
    (("--gpus", "2"), {"CUDA_VISIBLE_DEVICES": "3"}, "CUDA_VISIBLE_DEVICES leaves 1"),
    (("--gpus", "many"), {}, "many"),
    (("--priority", "first"), {}, "first"),
])  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_starts(workspace: Path, machine: Machine, argv: tuple[str, ...],
                                                          env: dict[str, str], said: str) -> None:  # fmt: skip
    done = swiftshell("run", "echo", "--yes", "--set", "gpus=1", *argv, cwd=workspace, env=env)
    assert done.returncode in (2, 5)
    assert said in done.stderr
    assert not (workspace / "runs").exists()


def test_no_wait_names_who_is_in_the_way_and_makes_no_run(workspace: Path, area: Area) -> None:
    grant = Claimer(area, want(4, run="2026-01-01-dpo-bbbb")).attempt()
    assert isinstance(grant, Grant)
    done = swiftshell("run", "echo", "--yes", "--set", "gpus=1", "--no-wait", cwd=workspace)
    assert done.returncode == 5
    assert "2026-01-01-dpo-bbbb" in done.stderr
    assert not (workspace / "runs").exists()
    grant.close()


def test_a_dry_run_tells_the_wait_and_leaves_no_trace(workspace: Path, area: Area) -> None:
    grant = Claimer(area, want(4, run="2026-01-01-dpo-bbbb")).attempt()
    assert isinstance(grant, Grant)
    before = sorted(p.name for p in area.root.rglob("*"))
    done = swiftshell("run", "echo", "--dry-run", "--set", "gpus=2", cwd=workspace)
    assert "2026-01-01-dpo-bbbb" in done.stderr
    assert sorted(p.name for p in area.root.rglob("*")) == before
    grant.close()


def test_a_queued_job_is_seen_everywhere_and_starts(workspace: Path, area: Area) -> None:
    grant = Claimer(area, want(4, run="2026-01-01-dpo-bbbb")).attempt()
    assert isinstance(grant, Grant)
    started = as_json(swiftshell("run", "echo", "--yes", "--set", "gpus=2", "--priority", "low", "--detach", "--json",
                                 cwd=workspace))["data"]  # fmt: skip
    run = lab.RunPaths(workspace / "runs" / started["run"])
    lab.until(lambda: reconcile.status(run).status == "queued")
    jobs = swiftshell("jobs", cwd=workspace, env={"COLUMNS": "80"}).stdout
    assert "queued" in jobs
    assert "2026-01-01-dpo-bbbb" in jobs.replace("\n", "")
    facts = as_json(swiftshell("jobs", "--json", cwd=workspace))["data"][0]["steps"][0]
    assert (facts["status"], facts["waiting"]["code"]) == ("queued", "gpus.wait_held")
    assert started["run"] in swiftshell("queue", cwd=workspace).stdout
    assert read_json(run.steps()[0].request)["priority"] == "low"  # type: ignore[index]
    grant.close()
    assert control.wait(run, 30).result == "succeeded"
    notes = swiftshell("attach", started["run"], cwd=workspace).stdout
    assert "done" in notes


def test_the_live_view_says_why_it_waits(workspace: Path, area: Area, machine: Machine) -> None:
    grant = Claimer(area, want(4, run="2026-01-01-dpo-bbbb")).attempt()
    assert isinstance(grant, Grant)
    command = [sys.executable, "-u", "-m", "swiftshell", "run", "echo", "--yes", "--set", "gpus=1"]
    shell = subprocess.Popen(command, cwd=workspace, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert shell.stdout is not None
    said = ""
    while "[echo] queued" not in said or "waiting for GPU 0" not in said:
        line = shell.stdout.readline()
        assert line, said
        said += line
    grant.close()
    said += shell.communicate(timeout=60)[0]
    assert shell.returncode == 0
    assert "it is its turn: GPU 0" in said


def test_gpus_are_asked_for_where_a_stage_uses_them(workspace: Path, machine: Machine) -> None:
    """The starter's whole recipe: training, answering, quantizing and evaluating reserve one; the rest reserves none."""
    plan = as_json(swiftshell("run", "starter/all-stages", "--dry-run", "--json", cwd=workspace))["data"]
    needs = {s["stage"]: s["needs"]["gpus"] for s in plan["steps"]}
    assert {k for k, v in needs.items() if v == 0} == {"download", "merge"}
    assert {v for k, v in needs.items() if k not in ("download", "merge")} == {1}
    plan = as_json(swiftshell("run", "starter/all-stages", "--gpus", "2", "--dry-run", "--json", cwd=workspace))["data"]
    assert {s["needs"]["gpus"] for s in plan["steps"]} == {0, 2}
    assert "--gpus 2" in plan["command"]
    plan = as_json(swiftshell("run", "starter/all-stages", "--dry-run", "--json", cwd=workspace,
                              env={"CUDA_VISIBLE_DEVICES": ""}))["data"]  # fmt: skip
    assert {s["needs"]["gpus"] for s in plan["steps"]} == {0}
    assert json.dumps(plan)


def test_no_secret_reaches_tickets_or_records(workspace: Path, area: Area) -> None:
    grant = Claimer(area, want(3)).attempt()
    assert isinstance(grant, Grant)
    env = {"HF_TOKEN": "hf_" + "s" * 34}
    swiftshell("run", "echo", "--yes", "--set", "gpus=1", "--set", "text=private words", cwd=workspace, env=env)
    waiting = Claimer(area, want(4))
    text = "".join(p.read_text() for folder in (area.tickets, area.claims) for p in folder.iterdir())
    assert text
    assert "hf_" not in text
    assert "private words" not in text
    waiting.close()
    grant.close()
