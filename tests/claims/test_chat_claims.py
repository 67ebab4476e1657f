"""A conversation holds a GPU of its own while it lasts; with none free it says who has them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swiftshell.claims import holders
from swiftshell.claims.area import Area
from swiftshell.claims.claim import Claimer, Grant
from swiftshell.errors import SwiftshellError
from swiftshell.jobs.chat_process import ChatProcess

from .bench import Machine, uuid, want

TALKER = """#!/bin/sh
echo "{\\"ready\\": true, \\"device\\": \\"${CUDA_VISIBLE_DEVICES-unset}\\"}"
exec cat >/dev/null
"""


@pytest.fixture
def talker(tmp_path: Path) -> str:
    """Something that says it is ready, and on which GPU it was put."""
    path = tmp_path / "talker"
    path.write_text(TALKER)
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_it_holds_a_gpu_while_it_lasts(area: Area, machine: Machine, talker: str, model: Path) -> None:
    machine.appear(0, os.getppid())
    with ChatProcess.start(model, python=talker) as chat:
        assert chat.facts["device"] == "1"
        assert holders.is_taken(area, uuid(1))
        holder = holders.of(area, uuid(1))
        assert holder is not None
        assert (holder.stage, holder.run) == ("chat", "model")
    assert not holders.is_taken(area, uuid(1))


def test_with_none_free_it_says_who_has_them(area: Area, talker: str, model: Path) -> None:
    grant = Claimer(area, want(4)).attempt()
    assert isinstance(grant, Grant)
    with pytest.raises(SwiftshellError) as error:
        ChatProcess.start(model, python=talker)
    assert [p.code for p in error.value.problems] == ["gpus.chat_busy", "gpus.wait_held"]
    assert error.value.exit_code == 5
    grant.close()


def test_who_wants_the_cpu_claims_nothing(area: Area, talker: str, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with ChatProcess.start(model, python=talker) as chat:
        assert chat.facts["device"] == ""
    assert not any(holders.is_taken(area, uuid(i)) for i in range(4))


def test_a_machine_without_gpus_is_as_it_was(tmp_path: Path, talker: str, model: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    Machine(tmp_path / "none.json", count=0)
    monkeypatch.setenv("SWIFTSHELL_GPUS_FILE", str(tmp_path / "none.json"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with ChatProcess.start(model, python=talker) as chat:
        assert chat.facts["device"] == "unset"
