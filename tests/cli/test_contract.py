"""The non-interactive contract: flags, streams, JSON and exit codes, with the echo stage in place of a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swiftshell.cli.main import VERBS
from tests.cli.support import as_json, swiftshell


def test_help_names_every_verb_in_both_languages(workspace: Path) -> None:
    for lang in ("en", "zh"):
        done = swiftshell("--lang", lang, "--help", cwd=workspace)
        assert done.returncode == 0
        assert all(f"  {verb} " in done.stdout for verb in VERBS)
        assert ("对齐" in done.stdout) is (lang == "zh")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_in_chinese_without_leftovers(workspace: Path, verb: str) -> None:
    done = swiftshell(verb, "--lang", "zh", "--help", cwd=workspace)
    assert done.returncode == 0
    assert not any(word in done.stdout for word in ("usage:", "options:", "positional arguments", "show this help"))


def test_a_mistyped_verb_names_the_nearest(workspace: Path) -> None:
    done = swiftshell("rn", "kto", cwd=workspace)
    assert done.returncode == 2
    assert "'swiftshell run'" in done.stderr
    assert done.stdout == ""


def test_run_with_yes_runs_to_the_end(workspace: Path) -> None:
    done = swiftshell("run", "echo", "--yes", "--json", cwd=workspace)
    facts = as_json(done)["data"]
    assert (done.returncode, facts["status"], facts["result"]) == (0, "over", "succeeded")
    note = Path(facts["steps"][0]["outputs"]["note"]) / "note.txt"
    assert note.read_text(encoding="utf-8") == "echo\n"


@pytest.mark.parametrize("stdin", ["", "\n", "y\n" * 100])
def test_without_yes_and_without_a_person_nothing_starts(workspace: Path, stdin: str) -> None:
    done = swiftshell("run", "echo", cwd=workspace, stdin=stdin)
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert not (workspace / "runs").exists()


def test_closed_stdin_is_like_nobody(workspace: Path) -> None:
    done = subprocess.run(f"{sys.executable} -m swiftshell run echo <&-", shell=True, cwd=workspace, text=True,
                          capture_output=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--yes" in done.stderr


def test_dry_run_shows_the_plan_and_starts_nothing(workspace: Path) -> None:
    done = swiftshell("run", "echo", "--dry-run", "--set", "text=hello", cwd=workspace)
    assert done.returncode == 0
    assert "hello" in done.stdout
    assert not (workspace / "runs").exists()
    plan = as_json(swiftshell("run", "echo", "--dry-run", "--json", cwd=workspace))["data"]
    assert plan["steps"][0]["params"]["ticks"] == 3


@pytest.mark.parametrize(("setting", "said"), [
    ("tick=3", "ticks"), ("ticks=many", "many"), ("ticks=-1", "-1"), ("ticks", "="), ("other.ticks=3", "other"),
])
def test_a_bad_setting_is_refused_with_what_was_found(workspace: Path, setting: str, said: str) -> None:
    done = swiftshell("run", "echo", "--yes", "--set", setting, cwd=workspace)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize(("ending", "code"), [("fail", 3), ("gate", 3), ("defect", 3), ("exit", 3)])
def test_a_failed_stage_or_gate_exits_3_with_a_sentence(workspace: Path, ending: str, code: int) -> None:
    done = swiftshell("run", "echo", "--yes", "--set", f"ending={ending}", cwd=workspace)
    assert done.returncode == code
    assert "error[" in done.stderr
    assert "Traceback" not in done.stderr + done.stdout


def test_a_recipe_with_many_mistakes_names_all_of_them_with_their_places(workspace: Path) -> None:
    recipe = workspace / "mine.yaml"
    recipe.write_text("schema: 1\nname: x\nsteps:\n  - id: a\n    stage: eco\n  - id: b\n    stage: echo\n"
                      "    params: {tick: 1, ticks: -2}\n", encoding="utf-8")
    done = swiftshell("run", "mine.yaml", "--yes", cwd=workspace)
    assert done.returncode == 2
    assert done.stderr.count("error[") == 3
    for place in ("mine.yaml:5:", "mine.yaml:8:"):
        assert place in done.stderr
    assert '"ticks"' in done.stderr
    assert "echo" in done.stderr


def test_a_second_time_the_same_work_is_reused_and_said(workspace: Path) -> None:
    assert swiftshell("run", "echo", "--yes", cwd=workspace).returncode == 0
    again = swiftshell("run", "echo", "--yes", "--json", cwd=workspace)
    assert as_json(again)["data"]["steps"][0]["restored_from"]
    fresh = swiftshell("run", "echo", "--yes", "--json", "--fresh", cwd=workspace)
    assert not as_json(fresh)["data"]["steps"][0]["restored_from"]


def test_detach_returns_at_once_and_attach_sees_the_end(workspace: Path) -> None:
    started = swiftshell("run", "echo", "--yes", "--detach", "--set", "ticks=30", "--set", "tick_s=0.05", cwd=workspace)
    assert started.returncode == 0
    assert "swiftshell attach" in started.stdout
    assert as_json(swiftshell("jobs", "--json", cwd=workspace))["data"]
    done = swiftshell("attach", cwd=workspace)
    assert done.returncode == 0
    assert not as_json(swiftshell("jobs", "--json", cwd=workspace))["data"]


def test_stop_saves_and_resume_goes_on_from_there(workspace: Path) -> None:
    swiftshell("run", "echo", "--yes", "--detach", "--set", "ticks=400", "--set", "tick_s=0.05", cwd=workspace)
    _until(lambda: list((workspace / "runs").glob("*/steps/*/checkpoints/checkpoint-5")))
    assert swiftshell("stop", cwd=workspace).returncode == 0
    _until(lambda: as_json(swiftshell("runs", "--json", cwd=workspace))["data"][0]["status"] == "over")
    assert as_json(swiftshell("runs", "--json", cwd=workspace))["data"][0]["result"] == "cancelled"
    _hurry(workspace)
    done = swiftshell("resume", "--json", cwd=workspace)
    step = as_json(done)["data"]["steps"][0]
    assert (done.returncode, step["result"]) == (0, "succeeded")
    assert step["summary"]["started_at"] >= 5


def test_the_first_interrupt_of_a_foreground_run_checkpoints_and_exits_130(workspace: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "swiftshell", "run", "echo", "--yes", "--set", "ticks=200", "--set",
                                "tick_s=0.05"], cwd=workspace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, start_new_session=True)
    _until(lambda: list((workspace / "runs").glob("*/steps/*/checkpoints/checkpoint-3")))
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert "Ctrl-C" in said
    assert as_json(swiftshell("runs", "--json", cwd=workspace))["data"][0]["result"] == "cancelled"


def test_leaving_the_log_view_leaves_the_job(workspace: Path) -> None:
    swiftshell("run", "echo", "--yes", "--detach", "--set", "ticks=100", "--set", "tick_s=0.05", cwd=workspace)
    _until(lambda: list((workspace / "runs").glob("*/steps/*/attempts/001/log.txt")))
    process = subprocess.Popen([sys.executable, "-m", "swiftshell", "logs", "-f"], cwd=workspace, text=True,
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               start_new_session=True)
    time.sleep(1.0)
    os.kill(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "swiftshell stop" in said
    assert as_json(swiftshell("jobs", "--json", cwd=workspace))["data"]
    swiftshell("stop", "--kill", cwd=workspace)


def test_an_unknown_run_names_the_nearest(workspace: Path) -> None:
    assert swiftshell("runs", "nothing", cwd=workspace).returncode == 2
    swiftshell("run", "echo", "--yes", cwd=workspace)
    done = swiftshell("logs", "2026-ecco", cwd=workspace)
    assert done.returncode == 2
    assert "echo" in done.stderr


def test_a_workspace_of_a_newer_version_is_left_alone(workspace: Path) -> None:
    (workspace / ".swiftshell").mkdir()
    record = workspace / ".swiftshell" / "workspace.json"
    record.write_text('{"v": 99}\n', encoding="utf-8")
    done = swiftshell("run", "echo", "--yes", cwd=workspace)
    assert done.returncode == 2
    assert "99" in done.stderr
    assert record.read_text(encoding="utf-8") == '{"v": 99}\n'


def test_chat_without_a_terminal_says_what_to_use(workspace: Path) -> None:
    done = swiftshell("chat", cwd=workspace)
    assert done.returncode == 2
    assert "--prompt" in done.stderr


def test_infer_without_a_model_names_the_command_to_run_first(workspace: Path) -> None:
    done = swiftshell("infer", "--prompt", "Hello", cwd=workspace)
    assert done.returncode == 2
    assert "swiftshell run download" in done.stderr


def test_explain_speaks_of_stages_settings_and_runs(workspace: Path) -> None:
    assert "Kahneman" in swiftshell("explain", "kto", cwd=workspace).stdout
    assert "0.1" in swiftshell("explain", "kto.beta", cwd=workspace).stdout
    swiftshell("run", "echo", "--yes", cwd=workspace)
    assert swiftshell("explain", "echo-", cwd=workspace).returncode == 0
    done = swiftshell("explain", "kto.bta", cwd=workspace)
    assert (done.returncode, "kto.beta" in done.stderr) == (2, True)


def test_doctor_gives_every_line_a_verdict(workspace: Path) -> None:
    findings = as_json(swiftshell("doctor", "--json", cwd=workspace))["data"]
    assert {f["verdict"] for f in findings} <= {"ok", "warn", "bad"}
    assert all(f["found"] for f in findings)
    assert all(f["todo"] for f in findings if f["verdict"] != "ok")


def test_data_check_tells_rows_and_exits_2(workspace: Path) -> None:
    rows = workspace / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b", "label": true}\n{"prompt": "a", "completion": "b"}\n',
                    encoding="utf-8")
    done = swiftshell("data", "check", "rows.jsonl", "--for", "kto", cwd=workspace)
    assert done.returncode == 2
    assert "rows.jsonl:2" in done.stderr
    rows.write_text('{"prompt": "a", "completion": "b", "label": true}\n'
                    '{"prompt": "a", "completion": "c", "label": false}\n', encoding="utf-8")
    assert swiftshell("data", "check", "rows.jsonl", cwd=workspace).returncode == 0


def test_recipes_are_listed_shown_copied_and_never_overwritten(workspace: Path) -> None:
    names = [r["name"] for r in as_json(swiftshell("recipes", "--json", cwd=workspace))["data"]]
    assert "starter/all-stages" in names
    assert swiftshell("recipes", "copy", names[0], "mine.yaml", cwd=workspace).returncode == 0
    assert swiftshell("recipes", "check", "mine.yaml", cwd=workspace).returncode == 0
    assert swiftshell("recipes", "copy", names[0], "mine.yaml", cwd=workspace).returncode == 2


def _hurry(workspace: Path) -> None:
    """Let the rest of a slow step be quick (the request is the worker's; the person's plan stays as it was)."""
    for path in (workspace / "runs").glob("*/steps/*/request.json"):
        request = json.loads(path.read_text(encoding="utf-8"))
        request["params"]["tick_s"] = 0.0
        path.write_text(json.dumps(request), encoding="utf-8")


def _until(condition: object, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


@pytest.mark.parametrize("argv", [["run", "--json"], ["runs", "--json", "--lang", "xx"], ["stop", "--nosuch", "--json"]])
def test_wrong_usage_is_json_too_when_json_was_asked_for(workspace: Path, argv: list[str]) -> None:
    done = swiftshell(*argv, cwd=workspace)
    facts = as_json(done)
    assert (done.returncode, facts["exit_code"], facts["verb"]) == (2, 2, argv[0])
    assert facts["problems"][0]["code"] == "cli.usage_error"
    assert facts["problems"][0]["values"]["message"]


def test_an_option_before_the_verb_is_told_its_place(workspace: Path) -> None:
    done = swiftshell("--json", "runs", cwd=workspace)
    assert (done.returncode, "swiftshell VERB --json" in done.stderr) == (2, True)
