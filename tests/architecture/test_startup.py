"""What a start of the shell costs, in CPU seconds: unlike wall time, they hardly depend on what else is running."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHELL = Path(sys.executable).parent / "swiftshell"


def cpu_s(arguments: list[str], cwd: Path, tries: int = 7) -> float:
    """Return the least user + system CPU time of several runs."""
    best = float("inf")
    for _ in range(tries):
        child = subprocess.Popen(
            [SHELL, *arguments], cwd=cwd, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        _pid, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        assert child.returncode == 0
        best = min(best, used.ru_utime + used.ru_stime)
    return best


@pytest.fixture(autouse=True)
def installed() -> None:
    """The console script is what a person starts."""
    if not SHELL.exists():
        pytest.skip(f"no {SHELL}: run ./install.sh setup")


def test_help_within_a_tenth_of_a_second(tmp_path: Path) -> None:
    assert cpu_s(["--help"], tmp_path) <= 0.10


@pytest.mark.parametrize("verb", ["run", "doctor", "recipes", "explain"])
def test_help_of_a_verb(verb: str, tmp_path: Path) -> None:
    """argparse comes on top of it."""
    assert cpu_s([verb, "--help"], tmp_path) <= 0.15
