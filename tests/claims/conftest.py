from __future__ import annotations

from pathlib import Path

import pytest

from swiftshell.claims.area import VARIABLE, Area

from .bench import Machine, own_area


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Four idle GPUs that everything in this test and every process it starts sees."""
    found = Machine(tmp_path / "gpus.json")
    for name, value in found.environ.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("SWIFTSHELL_QUEUE_POLL_S", "0.05")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return found


@pytest.fixture
def area(machine: Machine, tmp_path: Path) -> Area:
    return own_area(tmp_path / "state" / "swiftshell" / "claims")
