"""Following a run that really runs: plain lines in a pipe, moving lines in a terminal, leaving stops nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPE = """\
schema: 1
name: ticks
steps:
  - {id: first, stage: echo, params: {ticks: 20, tick_s: 0.1}}
  - {id: second, stage: echo, params: {ticks: 2, tick_s: 0.01}}
"""
COMMAND = [sys.executable, "-m", "swiftshell.cli.main"]


@pytest.fixture
def recipe(workspace: Path) -> Path:
    path = workspace / "ticks.yaml"
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_plain_lines_in_a_pipe(recipe: Path, workspace: Path) -> None:
    command = [*COMMAND, "run", str(recipe), "--yes"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=workspace, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "\r" not in done.stdout
    lines = done.stdout.splitlines()
    order = [next(n for n, line in enumerate(lines) if line.startswith(start))
             for start in ("[first] running", "[first] counting", "[first] done", "[second] done")]  # fmt: skip
    assert order == sorted(order)
    assert len([line for line in lines if line.startswith("[first] counting")]) < 5  # thinned
    assert any("ticks 20" in line for line in lines[order[-1] :])  # the final table


def test_what_was_said_before_an_interrupt_is_not_said_again() -> None:
    from swiftshell.render.live import _Messages

    event = {"kind": "warning", "code": "data.duplicate", "values": {"other": 3}}
    said: set[str] = set()
    assert len(_Messages(False, said).new(event)) == 1
    assert _Messages(False, said).new(event) == []
    assert len(_Messages(False).new(event)) == 1


@pytest.mark.terminal
@pytest.mark.parametrize(("columns", "lang"), [(80, "en"), (40, "zh")])
def test_moving_lines_in_a_terminal(recipe: Path, workspace: Path, columns: int, lang: str) -> None:
    pexpect = pytest.importorskip("pexpect")
    pyte = pytest.importorskip("pyte")
    screen = pyte.Screen(columns, 24)
    stream = pyte.Stream(screen)
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "24"}
    child = pexpect.spawn(
        COMMAND[0], [*COMMAND[1:], "run", str(recipe), "--yes", "--lang", lang],
        dimensions=(24, columns), env=env, encoding="utf-8", cwd=str(workspace),
    )  # fmt: skip
    seen: set[str] = set()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            stream.feed(child.read_nonblocking(4096, timeout=0.2))
        except pexpect.TIMEOUT:
            pass
        except pexpect.EOF:
            break
        seen.update(line.rstrip() for line in screen.display)
    child.close()
    assert child.exitstatus == 0
    counting = "counting" if lang == "en" else "计"
    bars = [
        line
        for line in seen
        if line.startswith("▶ first") and counting in line and "━" in line and " %" in line
    ]
    assert len(bars) > 3, seen  # the bar moved
    last = [line.rstrip() for line in screen.display]
    assert not any("━" in line for line in last)  # and made room for the table
    assert any("ticks 20" in line for line in last)


def test_leaving_stops_nothing(recipe: Path, workspace: Path) -> None:
    subprocess.run(
        [*COMMAND, "run", str(recipe), "--yes", "--detach"], capture_output=True, cwd=workspace, check=True
    )
    watch = subprocess.Popen([*COMMAND, "attach"], stdout=subprocess.PIPE, text=True, cwd=workspace)
    assert watch.stdout is not None
    assert "[first]" in watch.stdout.readline()
    watch.kill()
    watch.wait()
    done = subprocess.run([*COMMAND, "attach"], capture_output=True, text=True, cwd=workspace, timeout=60)
    assert "[second] done" in done.stdout
    assert done.returncode == 0
