"""What a person gets wrong is answered with one error, a place and a thing to do; never with a traceback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import swiftshell as package
from swiftshell.run.paths import RunPaths
from tests.cli.support import as_json, swiftshell

STARTER = Path(package.__file__).parent / "starter" / "model"
ROWS = '{"prompt": "a", "completion": "b", "label": true}\n{"prompt": "a", "completion": "c", "label": false}\n'


def _without_rights(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the command as somebody whom file modes bind; root is freed of that by its capabilities, so drop them."""
    setpriv = shutil.which("setpriv")
    if os.geteuid() == 0 and setpriv is None:
        pytest.skip("root may read everything, and setpriv is not installed")
    drop = [str(setpriv), "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    return subprocess.run([*drop, sys.executable, "-m", "swiftshell", *argv], cwd=cwd, capture_output=True, text=True,
                          timeout=60, stdin=subprocess.DEVNULL, check=False)


def _refused(done: subprocess.CompletedProcess[str], code: str, *said: str, exit_code: int = 2) -> None:
    assert done.returncode == exit_code, done.stderr
    assert f"error[{code}]" in done.stderr
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    for text in said:
        assert text in done.stderr


def test_looking_and_planning_leave_no_trace(workspace: Path) -> None:
    for argv in (["runs"], ["jobs"], ["stop"], ["resume"], ["logs"], ["explain", "kto"], ["doctor"],
                 ["run", "echo", "--dry-run"], ["run", "download", "--dry-run"], ["run", "kto", "--yes"]):
        swiftshell(*argv, cwd=workspace)
        assert list(workspace.iterdir()) == [], argv


def test_a_read_only_folder_can_be_looked_at_and_not_worked_in(workspace: Path) -> None:
    workspace.chmod(0o555)
    try:
        assert _without_rights("runs", cwd=workspace).returncode == 0
        assert _without_rights("run", "echo", "--dry-run", cwd=workspace).returncode == 0
        _refused(_without_rights("run", "echo", "--yes", cwd=workspace), "run.workspace_unwritable", str(workspace))
    finally:
        workspace.chmod(0o755)


@pytest.mark.parametrize("argv", [
    ["run", "sft", "--model", "starter", "--data", "locked/rows.jsonl", "--yes"], ["run", "locked/mine.yaml", "--yes"],
    ["data", "check", "locked/rows.jsonl"], ["recipes", "copy", "starter/sft", "locked/mine.yaml"],
    ["run", "sft", "--model", "locked/model", "--data", "starter", "--yes"], ["infer", "--prompt", "a", "--model", "locked/x"],
])
def test_what_lies_behind_a_locked_door_is_named(workspace: Path, argv: list[str]) -> None:
    locked = workspace / "locked"
    locked.mkdir()
    locked.chmod(0)
    try:
        done = _without_rights(*argv, cwd=workspace)
    finally:
        locked.chmod(0o755)
    _refused(done, "core.file_unusable", "locked", "Permission denied")


def test_rows_and_weights_that_may_not_be_read_are_named(workspace: Path) -> None:
    rows, model = workspace / "rows.jsonl", workspace / "model"
    rows.write_text(ROWS, encoding="utf-8")
    rows.chmod(0)
    shutil.copytree(STARTER, model)
    (model / "model.safetensors").chmod(0)
    _refused(_without_rights("run", "sft", "--model", "starter", "--data", "rows.jsonl", "--yes", cwd=workspace),
             "core.file_unusable", "rows.jsonl")
    _refused(_without_rights("run", "sft", "--model", "model", "--data", "starter", "--yes", cwd=workspace),
             "plan.model_folder_bad", "model.safetensors")


def test_a_defect_is_one_sentence_and_a_file_with_the_rest(workspace: Path) -> None:
    code = ("import sys, swiftshell.cli.runs as r; from swiftshell.cli.main import main\n"
            "def broken(args): raise ZeroDivisionError('nothing left')\n"
            "r.run = broken; sys.exit(main(['runs']))")
    done = subprocess.run([sys.executable, "-c", code], cwd=workspace, capture_output=True, text=True, timeout=30,
                          check=False)
    _refused(done, "core.unexpected", "ZeroDivisionError", "nothing left", exit_code=1)
    log = Path(done.stderr.rsplit(" ", 1)[1].strip())
    assert "Traceback" in log.read_text(encoding="utf-8")
    log.unlink()


def _broken(model: Path, how: str) -> None:
    weights = model / "model.safetensors"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:100_000])
    elif how == "noise":
        weights.write_bytes(os.urandom(100_000))
    elif how == "shard":
        (model / "model.safetensors.index.json").write_text('{"weight_map": {"w": "model-00002-of-00002.safetensors"}}',
                                                            encoding="utf-8")
    elif how == "tokenizer":
        for path in model.glob("tokenizer*"):
            path.unlink()
    else:
        (model / "config.json").write_text("{", encoding="utf-8")


@pytest.mark.parametrize(("how", "said"), [
    ("cut", "model.safetensors"), ("noise", "model.safetensors"), ("shard", "model-00002-of-00002.safetensors"),
    ("tokenizer", "tokenizer.json"), ("config", "config.json"),
])
def test_a_model_that_is_not_whole_is_refused_before_anything_starts(workspace: Path, how: str, said: str) -> None:
    shutil.copytree(STARTER, workspace / "model")
    _broken(workspace / "model", how)
    done = swiftshell("run", "sft", "--model", "model", "--data", "starter", "--yes", cwd=workspace)
    _refused(done, "plan.model_folder_bad", said)
    assert not (workspace / "runs").exists()


def test_an_adapter_without_its_base_is_refused(workspace: Path) -> None:
    adapter = workspace / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(workspace / "gone")}),
                                                 encoding="utf-8")
    shutil.copy(STARTER / "model.safetensors", adapter / "adapter_model.safetensors")
    _refused(swiftshell("run", "merge", "--model", "adapter", "--yes", cwd=workspace), "plan.base_gone", "gone")


def test_a_pipe_a_dangling_link_and_an_unset_variable_are_not_data(workspace: Path) -> None:
    os.mkfifo(workspace / "pipe.jsonl")
    (workspace / "a-link-to-nowhere.jsonl").symlink_to("nowhere.jsonl")
    for data, code in (("pipe.jsonl", "plan.data_not_file"), ("a-link-to-nowhere.jsonl", "plan.data_not_found_far"),
                       ("", "cli.value_empty")):
        done = swiftshell("run", "sft", "--model", "starter", "--data", data, "--dry-run", cwd=workspace)
        _refused(done, code, data or "--data")


def test_a_program_is_not_taken_for_text_in_another_encoding(workspace: Path) -> None:
    (workspace / "rows.jsonl").write_bytes(b"\x7fELF\x02\x00\xd0a\x00\x00\n")
    _refused(swiftshell("data", "check", "rows.jsonl", cwd=workspace), "data.binary", "rows.jsonl:1")


def test_an_output_folder_that_cannot_be_made_is_refused_before_the_work(workspace: Path) -> None:
    (workspace / "file").write_text("", encoding="utf-8")
    _refused(swiftshell("run", "echo", "--yes", "--out", "file", cwd=workspace), "plan.output_not_folder")
    _refused(swiftshell("run", "echo", "--yes", "--out", "file/deep", cwd=workspace), "plan.output_unwritable")
    (workspace / "locked").mkdir(mode=0o555)
    done = _without_rights("run", "echo", "--yes", "--out", "locked/out", cwd=workspace)
    _refused(done, "plan.output_unwritable", "locked")
    assert not (workspace / "runs").exists()


def test_a_stage_in_place_of_a_verb_and_a_setting_without_its_stage_are_understood(workspace: Path) -> None:
    _refused(swiftshell("merge", cwd=workspace), "cli.unknown_verb", "'swiftshell run merge'")
    _refused(swiftshell("explain", "beta", cwd=workspace), "cli.explain_unknown", "kto.beta, dpo.beta")
    _refused(swiftshell("recipes", "show", "starter/stf", cwd=workspace), "recipe.shipped_unknown", "starter/sft")


def test_words_of_the_system_are_chinese_among_chinese(workspace: Path) -> None:
    (workspace / "rows.jsonl").write_text('{"prompt": "a" "label": 1}\n', encoding="utf-8")
    said = swiftshell("data", "check", "rows.jsonl", "--lang", "zh", cwd=workspace).stderr
    assert "此处应有逗号" in said
    assert "Expecting" not in said


def test_stop_and_attach_mean_the_run_that_is_at_work(workspace: Path) -> None:
    swiftshell("run", "echo", "--yes", "--detach", "--set", "ticks=300", "--set", "tick_s=0.05", cwd=workspace)
    swiftshell("run", "echo", "--yes", cwd=workspace)
    live = as_json(swiftshell("jobs", "--json", cwd=workspace))["data"]
    assert len(live) == 1
    swiftshell("run", "echo", "--yes", "--detach", "--set", "ticks=301", "--set", "tick_s=0.05", cwd=workspace)
    _refused(swiftshell("stop", cwd=workspace), "cli.several_live", str(live[0]["run"]))
    for run in as_json(swiftshell("jobs", "--json", cwd=workspace))["data"]:
        assert swiftshell("stop", "--kill", run["run"], cwd=workspace).returncode == 0
    swiftshell("attach", str(live[0]["run"]), cwd=workspace)
    assert RunPaths(workspace / "runs" / live[0]["run"]).stop_request.exists()


def test_stopping_or_resuming_what_is_over_says_so(workspace: Path) -> None:
    swiftshell("run", "echo", "--yes", cwd=workspace)
    done = swiftshell("stop", cwd=workspace)
    assert (done.returncode, "is over" in done.stdout) == (0, True)
    done = swiftshell("resume", cwd=workspace)
    assert (done.returncode, "note[cli.resume_nothing]" in done.stderr) == (0, True)
    done = swiftshell("logs", cwd=workspace)
    assert (done.returncode, done.stdout == "", "is empty" in done.stderr) == (0, True, True)


def test_an_ambiguous_run_is_not_called_unknown(workspace: Path) -> None:
    for _ in range(2):
        swiftshell("run", "echo", "--yes", "--fresh", cwd=workspace)
    _refused(swiftshell("explain", "echo-", cwd=workspace), "cli.run_ambiguous", "echo-")


def test_a_broken_model_is_not_talked_to(workspace: Path) -> None:
    shutil.copytree(STARTER, workspace / "model")
    _broken(workspace / "model", "cut")
    _refused(swiftshell("infer", "--prompt", "a", "--model", "model", cwd=workspace), "plan.model_folder_bad",
             "model.safetensors")


def test_what_is_wrong_with_policy_and_reference_alike_is_said_once(workspace: Path) -> None:
    shutil.copytree(STARTER, workspace / "model")
    _broken(workspace / "model", "cut")
    (workspace / "rows.jsonl").write_text(ROWS, encoding="utf-8")
    done = swiftshell("run", "kto", "--model", "model", "--data", "rows.jsonl", "--yes", cwd=workspace)
    _refused(done, "plan.model_folder_bad")
    assert done.stderr.count("error[") == 1
