"""The menu as a person sees it: a real terminal, real keys, real jobs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from swiftshell.jobs import reconcile
from swiftshell.menu.forms import schema
from swiftshell.render.board import cells
from swiftshell.run.paths import RunPaths
from swiftshell.run.workspace import list_runs, open_workspace
from tests.plan.support import identity, made
from tests.terminal.terminal import Terminal

pytestmark = pytest.mark.terminal
Open = Callable[..., Terminal]
SIZES = [(80, 24), (40, 12)]


def only_run(workspace: Path) -> RunPaths:
    runs = list_runs(open_workspace(workspace)).runs
    assert len(runs) == 1
    return runs[0]


def half_done(workspace: Path) -> None:
    """A workspace with a download and an SFT model."""
    made(workspace, "download", kind="model")
    made(workspace, "sft")


# ------------------------------------------------------------------------------------------------- screens


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_first_screen_in_english(open_terminal: Open, columns: int, lines: int) -> None:
    """What a newcomer sees: something to try, and what comes next."""
    terminal = open_terminal(columns=columns, lines=lines)
    text = terminal.until("↑↓")
    assert "Try everything on the" in terminal.here()
    assert "download" in text
    assert max(len(line) for line in terminal.lines) <= columns


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_first_screen_in_chinese(open_terminal: Open, chinese: dict[str, str], columns: int, lines: int) -> None:
    terminal = open_terminal(columns=columns, lines=lines, env=chinese)
    text = terminal.until("↑↓").replace(" ", "")
    assert "用内置入门模型体验全流程" in terminal.here().replace(" ", "")
    assert "回车" in text
    assert "Back" not in text
    assert max(cells(line) for line in terminal.lines) <= columns * 2


def test_the_whole_first_screen_fits_a_usual_terminal(open_terminal: Open, workspace: Path) -> None:
    """Board and choices without scrolling on 80x24."""
    half_done(workspace)
    text = open_terminal().until("↑↓")
    for word in ("download", "sft.adapter", "evaluate", "Whole pipeline", "Chat", "Runs", "Check data", "Doctor", "Quit"):
        assert word in text
    assert "needs a merged model" in text


def test_the_pointer_starts_on_what_comes_next(open_terminal: Open, workspace: Path) -> None:
    half_done(workspace)
    terminal = open_terminal()
    terminal.until("↑↓")
    assert "Next: kto" in terminal.here()


def test_the_reason_of_an_impossible_stage_can_be_read_on_a_small_screen(open_terminal: Open) -> None:
    terminal = open_terminal(columns=40, lines=12)
    terminal.until("↑↓")
    terminal.point_at("merge").press("Enter")
    assert "run sft first" in " ".join(terminal.text.split())
    assert "merge" in terminal.here()


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_back_from_everywhere(open_terminal: Open, workspace: Path, columns: int, lines: int) -> None:
    """By Esc and by the row; what was typed into a form is still there afterwards."""
    sft = made(workspace, "sft")
    made(workspace, "kto", reference=identity(sft), reference_path=sft)
    terminal = open_terminal(columns=columns, lines=lines)
    terminal.until("↑↓")
    terminal.choose("✔  kto").until("See the plan")
    terminal.choose("beta").until("Enter accept")
    terminal.press("Ctrl-U", "0.25", "Enter").until("0.25")
    terminal.choose("policy").until("continue the last")
    terminal.press("Esc").until("See the plan")
    terminal.choose("Back").until("Next: dpo")
    terminal.choose("✔  kto").until("See the plan")
    terminal.point_at("beta")
    assert "0.25" in terminal.here()
    terminal.press("Esc").until("Next: dpo")


def test_a_wrong_value_is_said_and_asked_again(open_terminal: Open, workspace: Path) -> None:
    half_done(workspace)
    terminal = open_terminal()
    terminal.until("↑↓")
    terminal.press("Enter").until("See the plan")
    terminal.choose("beta").until("Enter accept")
    terminal.press("Ctrl-U", "9", "Enter").until("beta is 9")
    terminal.press("Ctrl-U", "0.3", "Enter").until("(changed)")


def test_settings_are_found_by_typing_chinese(open_terminal: Open, workspace: Path, chinese: dict[str, str]) -> None:
    """The list of all settings, filtered by what a setting does."""
    half_done(workspace)
    terminal = open_terminal(env=chinese)
    terminal.until("↑↓")
    terminal.press("Enter").until("learning_rate")
    terminal.choose(str(len(schema("kto")))).until("lr_scheduler_type")
    terminal.press("检查点").until(lambda text: "save_steps" in text and "beta" not in text)
    terminal.press("Esc").until("lr_scheduler_type")


# ---------------------------------------------------------------------------------------------------- jobs


def plan_of_counting(terminal: Terminal, recipe: str) -> None:
    terminal.until("↑↓")
    terminal.choose("Whole pipeline").until(recipe)
    terminal.choose(recipe).until("See the plan and run it")
    terminal.press("Enter").until("Start this?")


@pytest.mark.parametrize(("columns", "lines"), SIZES)
def test_a_job_from_plan_to_table(open_terminal: Open, workspace: Path, counting: Callable[..., str], columns: int,
                                  lines: int) -> None:
    """Nothing is started by looking at its plan; afterwards: the table, the equal command, and the board again."""
    recipe = counting()
    terminal = open_terminal(columns=columns, lines=lines)
    plan_of_counting(terminal, recipe)
    assert list_runs(open_workspace(workspace)).runs == []
    terminal.press("Enter").until("is done")
    run = only_run(workspace)
    assert reconcile.status(run).result == "succeeded"
    said = re.sub(rb"\s+", b" ", terminal.raw).decode()
    assert "swiftshell run counting.yaml --yes" in said
    terminal.press("Enter").until("Whole pipeline")


@pytest.mark.parametrize("key", ["Ctrl-C", "Esc"])
def test_leaving_the_live_view_stops_nothing(open_terminal: Open, workspace: Path, counting: Callable[..., str],
                                             key: str) -> None:
    """The job goes on, the board shows it, and it can be stopped from there."""
    recipe = counting(ticks=3000, tick_s=0.1)
    terminal = open_terminal()
    plan_of_counting(terminal, recipe)
    terminal.press("Enter").until("counting")
    terminal.press("Enter", "Enter", "x").until("elapsed")  # keys pressed meanwhile answer nothing later
    terminal.press(key).until("keeps running")
    run = only_run(workspace)
    assert reconcile.status(run).status in ("starting", "running")
    terminal.press("Esc", "Esc").until("Running jobs (1)")
    terminal.choose("Running jobs (1)").until(run.id)
    terminal.press("Enter").until("Stop: save a checkpoint first")
    terminal.choose("Stop: save").until("did not finish")
    assert reconcile.status(run).result == "cancelled"


def test_closing_the_window_stops_nothing(open_terminal: Open, workspace: Path, counting: Callable[..., str]) -> None:
    recipe = counting(ticks=3000, tick_s=0.1)
    terminal = open_terminal()
    plan_of_counting(terminal, recipe)
    terminal.press("Enter").until("elapsed")
    terminal.close()
    assert reconcile.status(only_run(workspace)).status in ("starting", "running")
    again = open_terminal()
    again.until("Running jobs (1)")


def test_a_kill_is_asked_about(open_terminal: Open, workspace: Path, counting: Callable[..., str]) -> None:
    recipe = counting(ticks=3000, tick_s=0.1)
    terminal = open_terminal()
    plan_of_counting(terminal, recipe)
    terminal.press("Enter").until("elapsed")
    terminal.press("Ctrl-C").until("keeps running")
    run = only_run(workspace)
    terminal.press("Esc", "Esc").until("Running jobs (1)")
    terminal.choose("Running jobs (1)").until(run.id)
    terminal.press("Enter").until("Kill now")
    terminal.choose("Kill now").until("without saving?")
    terminal.press("Enter")
    assert reconcile.status(run).status == "running"
    terminal.until(run.id).replace("\n", " ")
    terminal.press("Enter").until("Kill now")
    terminal.choose("Kill now").until("without saving?")
    terminal.choose("Kill now").until("did not finish")


def test_runs_can_be_looked_at(open_terminal: Open, workspace: Path, counting: Callable[..., str]) -> None:
    recipe = counting()
    subprocess.run([sys.executable, "-m", "swiftshell", "run", recipe, "--yes"], cwd=workspace, check=True,
                   capture_output=True, timeout=60)
    made(workspace, "download", kind="model")
    run = next(r for r in list_runs(open_workspace(workspace)).runs if "counting" in r.id)
    terminal = open_terminal()
    terminal.until("↑↓")
    terminal.choose("Runs").until(run.id)
    terminal.choose(run.id).until("Final table")
    terminal.press("Enter").until("the same from the command line")
    terminal.choose("Plan and reasons").until(str(run.id))
    terminal.press("Esc").until("Runs (")


# -------------------------------------------------------------------------------------------------- leaving


def test_quitting(open_terminal: Open) -> None:
    terminal = open_terminal()
    terminal.until("↑↓")
    terminal.choose("Quit")
    assert terminal.ended() == 0


def test_escape_on_the_first_screen_points_at_quit(open_terminal: Open) -> None:
    terminal = open_terminal()
    terminal.until("↑↓")
    terminal.press("Esc")
    assert "Quit" in terminal.here()
    terminal.press("Enter")
    assert terminal.ended() == 0


def test_control_c_goes_back_one_level_and_twice_quits(open_terminal: Open) -> None:
    terminal = open_terminal()
    terminal.until("↑↓")
    terminal.choose("Whole pipeline").until("starter/all-stages")
    terminal.press("Ctrl-C").until("Press Ctrl-C again to quit")
    assert "Whole pipeline" in terminal.text
    terminal.press("Down", "Up", "Ctrl-C")
    assert terminal.ended() == 130


def test_a_language_chosen_is_kept(open_terminal: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    terminal = open_terminal()
    terminal.until("↑↓")
    terminal.choose("Language").until("English")
    terminal.choose("中").until("退")
    terminal.press("Ctrl-C", "Ctrl-C")
    assert terminal.ended() == 130
    again = open_terminal()
    again.until("退")
    assert "Try everything" in open_terminal("--lang", "en").until("↑↓")
    assert "Try everything" in open_terminal(env={"SWIFTSHELL_LANG": "en"}).until("↑↓")


# ----------------------------------------------------------------------------------------- plain and refusals


@pytest.mark.parametrize("env", [{"TERM": "dumb"}, {"SWIFTSHELL_PLAIN": "1"}])
def test_numbered_lists(open_terminal: Open, workspace: Path, counting: Callable[..., str], env: dict[str, str]) -> None:
    """The whole way from the board to a job's end, without one control code."""
    recipe = counting()
    terminal = open_terminal(env=env, lines=50)

    def number(text: str) -> str:
        terminal.until("Number:")
        line = next(line for line in reversed(terminal.lines) if text in line)
        return line.split(")")[0].strip()

    steps = (("Whole pipeline", "starter/all-stages"), (recipe, "run it"), ("See the plan and run it", "Start this?"),
             (") Start", "is done"))
    for wanted, seen in steps:
        terminal.press(number(wanted), "Enter").until(seen)
    assert reconcile.status(only_run(workspace)).result == "succeeded"
    terminal.press(number("Back to the board"), "Enter").until("Quit")
    terminal.press(number("Quit"), "Enter")
    assert terminal.ended() == 0
    assert b"\x1b" not in terminal.raw


def test_no_colour(open_terminal: Open) -> None:
    terminal = open_terminal(env={"NO_COLOR": "1"})
    terminal.until("↑↓")
    assert re.search(rb"\x1b\[[0-9;]*(3[0-7]|9[0-7]|38;)[0-9;]*m", terminal.raw) is None


def ask_without_terminal(workspace: Path, stdin: str) -> subprocess.CompletedProcess[str]:
    command = f"{stdin} | '{sys.executable}' -m swiftshell" if stdin else f"'{sys.executable}' -m swiftshell <&-"
    return subprocess.run(["bash", "-c", command], cwd=workspace, capture_output=True, text=True, timeout=60,
                          stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("stdin", ["printf '\\n'", "printf '\\r'", "timeout 5 yes", "true", ""])
def test_a_pipe_answers_nothing(workspace: Path, stdin: str) -> None:
    """One sentence that names the commands, exit 2, nothing started, nothing written."""
    done = ask_without_terminal(workspace, stdin)
    assert done.returncode == 2
    assert "menu.needs_terminal" in done.stderr
    assert "swiftshell run" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(workspace.iterdir()) == []


def test_an_unknown_flag(open_terminal: Open) -> None:
    terminal = open_terminal("menu", "--nonsense")
    assert terminal.ended() == 2
    assert "--nonsense" in terminal.text


def test_a_workspace_by_flag(open_terminal: Open, tmp_path: Path) -> None:
    half_done(tmp_path / "other")
    assert "Next: kto" in open_terminal("--workspace", str(tmp_path / "other")).until("↑↓")


# --------------------------------------------------------------------------------------------------- speed


def test_first_frame_within_a_third_of_a_second_of_cpu(open_terminal: Open, workspace: Path) -> None:
    """CPU time, since wall time depends on what else is running. The best of several, with a board to read."""
    half_done(workspace)
    best = 9.0
    for _ in range(5):
        terminal = open_terminal()
        terminal.until("↑↓")
        fields = Path(f"/proc/{terminal.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        best = min(best, (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))
        terminal.close()
    assert best <= 0.35


# ------------------------------------------------------------------------------------------------ real stages


@pytest.mark.engine
def test_download_and_sft_by_keys(open_terminal: Open, workspace: Path) -> None:
    """Two real stages on the starter: the second finds what the first made, with a setting changed on the way."""
    terminal = open_terminal()
    terminal.until("↑↓")
    terminal.point_at("download").press("Enter").until("See the plan")
    terminal.press("Enter").until("Start this?")
    terminal.press("Enter").until("is done")
    terminal.press("Enter").until("Next: sft")
    terminal.press("Enter").until("See the plan")
    terminal.choose("All settings").until("warmup_steps")
    terminal.press("max_steps").until(lambda text: "warmup" not in text)
    terminal.press("Enter").until("Enter accept")
    terminal.press("Ctrl-U", "2", "Enter").until("(changed)")
    terminal.press("Esc").until("See the plan")
    terminal.point_at("See the plan").press("Enter").until("Start this?")
    terminal.press("Enter").until("is done", patience_s=240)
    assert b"--set max_steps=2" in terminal.raw
    text = terminal.press("Enter").until("Next: kto")
    assert "sft.adapter" in text
