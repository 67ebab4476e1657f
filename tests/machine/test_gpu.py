"""The inventory of GPUs: through the driver's library, through nvidia-smi, and what is said when neither answers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swiftshell.machine import gpu, nvidia_smi
from swiftshell.machine.gpu import Gpu, GpuProcess

ROOT = Path(__file__).resolve().parents[2]
ASK = ("import json, dataclasses; from swiftshell.machine.gpu import gpus; f = gpus(); "
       "print(json.dumps(f if f is None else [dataclasses.asdict(g) for g in f]))")  # fmt: skip
SMI = """#!/bin/sh
case "$1" in
  --query-gpu=*) echo "0, GPU-0000, NVIDIA L4, 23034, 512, 550.54, 3, [N/A]"
                 echo "1, GPU-1111, NVIDIA L4, 23034, 20000, 550.54, [N/A], Enabled" ;;
  --query-compute-apps=*) echo "GPU-1111, 4242, 19000" ; echo "GPU-1111, 4243, [N/A]" ;;
esac
"""


def asked(env: dict[str, str]) -> Any:
    """What a fresh process finds: the driver's library is looked for once a process."""
    done = subprocess.run([sys.executable, "-c", ASK], cwd=ROOT, env={**os.environ, **env}, capture_output=True,
                          text=True, check=True, timeout=60)  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A folder with a stand-in for the driver's library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler: the stand-in for the driver's library cannot be built")
    source = Path(__file__).with_name("fake_nvml.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", tmp_path / "libnvidia-ml.so.1", source], check=True)
    return tmp_path


def test_the_drivers_library_is_read(library: Path) -> None:
    first, second = asked({"LD_LIBRARY_PATH": str(library)})
    assert (first["index"], first["uuid"], first["name"], first["driver"]) == (0, "GPU-0000", "Fake X1", "570.1")
    assert (first["memory_gib"], first["used_gib"], first["busy_percent"], first["mig"]) == (80.0, 0.0, 87, False)
    assert first["processes"] == [{"pid": 99, "used_gib": 1.0, "kind": "graphics"}]
    assert second["used_gib"] == 12.0
    assert second["processes"] == [{"pid": 4242, "used_gib": 11.0, "kind": "compute"},
                                   {"pid": 4243, "used_gib": None, "kind": "compute"}]  # fmt: skip
    assert (second["fault"], second["source"]) == ("", "nvml")


def test_nvidia_smi_is_read_where_the_library_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "nvidia-smi", SMI)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    first, second = nvidia_smi.read(10.0) or []
    assert first == Gpu(0, "GPU-0000", "NVIDIA L4", 23034 / 1024, 0.5, "550.54", (), 3)
    assert second.processes == (GpuProcess(4242, 19000 / 1024), GpuProcess(4243, None))
    assert second.mig


@pytest.mark.parametrize("text", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\nexec sleep 60\n"])
def test_a_driver_that_fails_or_hangs_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    program(tmp_path / "nvidia-smi", text)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert nvidia_smi.read(0.5) is None


def test_processes_that_nvidia_smi_does_not_tell_are_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "nvidia-smi", SMI.replace("--query-compute-apps=*) echo", "--query-compute-apps=*) exit 1; echo"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert [g.fault != "" for g in nvidia_smi.read(10.0) or []] == [True, True]


def test_a_machine_without_a_driver_has_none(tmp_path: Path) -> None:
    if gpu._DRIVER.exists():
        pytest.skip("this machine has an NVIDIA driver")
    assert asked({"PATH": str(tmp_path)}) == []


@pytest.mark.parametrize("text", ["", "{", '{"gpus": [{"uuid": "x"}]}', '{"gpus": null}', "[]"])
def test_a_file_that_cannot_be_understood_is_a_driver_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "gpus.json").write_text(text)
    monkeypatch.setenv(gpu.FILE_VARIABLE, str(tmp_path / "gpus.json"))
    assert gpu.gpus() is None


def test_a_hanging_library_does_not_take_its_asker_along(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    stuck = threading.Event()
    monkeypatch.setattr(gpu, "_TIMEOUT_S", 0.1)
    assert gpu._bounded(lambda: [] if stuck.wait(30) else None) is None
    stuck.set()


FOUR = [Gpu(i, f"GPU-{i}{i}aa", "Fake", 24.0, 0.0, "-") for i in range(4)]


@pytest.mark.parametrize(("value", "left", "unknown"), [
    (None, [0, 1, 2, 3], []), ("", [], []), ("-1", [], []), ("2", [2], []), ("3,1", [3, 1], []),
    ("GPU-2", [2], []), ("1,GPU-11aa", [1], []), ("0,9,1", [0], ["9"]), ("GPU-", [], ["GPU-"]),
])  # fmt: skip
def test_cuda_visible_devices_chooses(value: str | None, left: list[int], unknown: list[str]) -> None:
    environ = {} if value is None else {"CUDA_VISIBLE_DEVICES": value}
    assert [g.index for g in gpu.visible(FOUR, environ)] == left
    assert gpu.unknown_names(FOUR, environ) == unknown


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)
