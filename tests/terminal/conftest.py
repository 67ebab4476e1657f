"""Terminals for tests, closed afterwards together with every job they started."""

from __future__ import annotations

import locale
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.terminal.terminal import Terminal

COUNTING = """\
schema: 1
name: counting
steps:
  - id: count
    stage: echo
    params: {{ticks: {ticks}, tick_s: {tick_s}}}
"""


@pytest.fixture(scope="session")
def chinese() -> dict[str, str]:
    """The environment of a Chinese terminal."""
    name = "zh_CN.UTF-8"
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        pytest.skip(f"this machine has no locale {name} (apt-get install locales-all)")
    finally:
        locale.setlocale(locale.LC_CTYPE, before)
    return {"LC_ALL": name}


@pytest.fixture
def open_terminal(workspace: Path) -> Iterator[Callable[..., Terminal]]:
    """Open terminals in the workspace."""
    opened: list[Terminal] = []

    def opener(*argv: str, **options: Any) -> Terminal:
        opened.append(Terminal(workspace, *argv, **options))
        return opened[-1]

    yield opener
    for terminal in opened:
        terminal.close()
    _stop_all(workspace)


def _stop_all(workspace: Path) -> None:
    from swiftshell.jobs import control
    from swiftshell.run.workspace import list_runs, open_workspace

    runs = list_runs(open_workspace(workspace)).runs
    for run in runs:
        control.stop(run, "kill")
    for run in runs:
        control.wait(run, timeout_s=20)


@pytest.fixture
def counting(workspace: Path) -> Callable[..., str]:
    """Put a recipe into the workspace that counts for a while, for real, without a model."""

    def write(ticks: int = 3, tick_s: float = 0.01) -> str:
        (workspace / "counting.yaml").write_text(COUNTING.format(ticks=ticks, tick_s=tick_s), encoding="utf-8")
        return "counting.yaml"

    return write
