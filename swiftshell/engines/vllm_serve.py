"""Serve a model with vLLM: start it from its own environment, wait until it answers, watch it until somebody stops it.

vLLM is a program here, not a library: nothing of it is imported. Its standard output goes to the step's log.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from pathlib import Path
from typing import Any

from swiftshell.errors import EXIT_STAGE, Problem, SwiftshellError, fail
from swiftshell.machine.serve_env import serve_python
from swiftshell.run.files import write_json
from swiftshell.stages import serve as stage
from swiftshell.stages.base import Context, InputRef, Outcome, StepRequest, Stopped

_GUARD = Path(__file__).with_name("vllm_guard.py")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_POLL_S = 0.5
_LAST_LINES = 40


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Serve the `model` slot's model until a stop is requested."""
    params, ref = request.params, request.input("model")
    found = list(stage.problems(params, ref))
    if found:
        raise SwiftshellError(found)
    python = serve_python()
    assert python is not None  # `problems` has looked
    folder = stage.model_folder(ref)
    _warn(params, ref, folder, ctx)
    name = params.served_model_name or ref.name or folder.name
    key_file = ctx.checkpoints / "api_key"
    server = Server(command(python, folder, name, params), environment(python, params, _new_key(key_file)))
    endpoint = {"url": f"http://{_reachable(params.host)}:{params.port}/v1", "model": name, "pid": server.pid,
                "key_file": str(key_file)}
    try:
        ctx.phase("starting")
        started = time.monotonic()
        _until_ready(server, endpoint, params, ctx)
        write_json(ctx.checkpoints / "endpoint.json", endpoint)
        ctx.metric("ready_s", round(time.monotonic() - started, 1))
        ctx.note("serve.ready", model=name, url=endpoint["url"], key_file=str(key_file))
        ctx.phase("serving")
        seconds = _until_stopped(server, ctx)
    finally:
        server.stop()
        (ctx.checkpoints / "endpoint.json").unlink(missing_ok=True)
        key_file.unlink(missing_ok=True)
    ctx.note("serve.stopped", seconds=round(seconds))
    write_json(ctx.out / "endpoint" / "endpoint.json", {k: endpoint[k] for k in ("url", "model")})
    return Outcome({"endpoint": {"kind": "note"}}, {"served_s": round(seconds, 1)},
                   {"url": endpoint["url"], "model": name, "served_s": round(seconds, 1)})


def command(python: Path, folder: Path, name: str, params: Any) -> list[str]:
    """Return vLLM's command line. The module is started, not the `vllm` script: the CPU build answers to that only."""
    words = [str(python), "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder),
             "--served-model-name", name, "--host", params.host, "--port", str(params.port)]
    if params.max_model_len is not None:
        words += ["--max-model-len", str(params.max_model_len)]
    if stage.cpu_build(python):
        # Compiling takes longer than a small server lives; and vLLM would turn float32 weights into 16 bits by itself.
        dtype = params.dtype if params.dtype != "auto" else _saved_dtype(folder)
        return [*words, "--dtype", dtype, "--enforce-eager"]
    return [*words, "--dtype", params.dtype, "--gpu-memory-utilization", str(params.gpu_memory_utilization)]


def environment(python: Path, params: Any, key: str) -> dict[str, str]:
    """Return vLLM's environment: no network, no usage statistics, the key where other users cannot read it."""
    ours = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "VLLM_SERVER_DEV_MODE", "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
            "VLLM_ALLOW_INSECURE_SERIALIZATION")
    env = {k: v for k, v in os.environ.items() if k not in ours}
    env |= {"VLLM_API_KEY": key, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1", "PATH": f"{python.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if stage.cpu_build(python):
        env |= {"VLLM_TARGET_DEVICE": "cpu", "VLLM_CPU_KVCACHE_SPACE": f"{params.kv_cache_gib:g}"}
    return env


def _saved_dtype(folder: Path) -> str:
    config = stage.config_of(folder)
    found = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    return found if found in ("float32", "bfloat16", "float16") else "bfloat16"


def _warn(params: Any, ref: InputRef, folder: Path, ctx: Context) -> None:
    if params.host not in _LOOPBACK:
        ctx.warn("serve.listening_beyond", host=params.host)
    tokenizer = folder / "tokenizer_config.json"
    inside = tokenizer.is_file() and "chat_template" in json.loads(tokenizer.read_text(encoding="utf-8"))
    if not inside and not any(folder.glob("chat_template.*")):
        ctx.warn("serve.no_chat_template", name=ref.name or folder.name)


def _new_key(path: Path) -> str:
    """Write a new random key, readable by its owner alone, and return it."""
    key = secrets.token_urlsafe(32)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    return key


def _reachable(host: str) -> str:
    """Return the address at which this machine reaches a server that listens on `host`."""
    if host in ("0.0.0.0", "::", ""):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


class Server:
    """vLLM behind its guard; what it prints goes to this process's output, its last lines are kept."""

    def __init__(self, words: list[str], env: dict[str, str]) -> None:
        self._last: deque[str] = deque(maxlen=_LAST_LINES)
        self._key = env["VLLM_API_KEY"]
        # A session of its own: when this worker's group is killed, the guard survives, sees the pipe close, and ends vLLM.
        self._guard = subprocess.Popen([sys.executable, "-I", str(_GUARD), *words], env=env, start_new_session=True,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.pid = self._guard.pid
        self._echo = threading.Thread(target=self._pass_on, daemon=True)
        self._echo.start()

    def ended(self) -> int | None:
        """Return vLLM's exit code if it ended."""
        return self._guard.poll()

    def answers(self, url: str, path: str) -> bool:
        """Tell whether a GET with the key succeeds."""
        request = urllib.request.Request(url.removesuffix("/v1") + path, headers={"Authorization": f"Bearer {self._key}"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=2) as reply:
                return bool(reply.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def stop(self) -> None:
        """End vLLM and everything it started, and wait for it."""
        if self._guard.stdin is not None:
            self._guard.stdin.close()
        self._guard.wait()
        self._echo.join(timeout=5)

    def died(self) -> SwiftshellError:
        """Say that vLLM ended by itself, with its last words."""
        self._echo.join(timeout=5)
        return SwiftshellError(Problem("serve.died", {"status": self.ended(), "last": _telling(list(self._last))}),
                               EXIT_STAGE)

    def _pass_on(self) -> None:
        assert self._guard.stdout is not None
        for raw in self._guard.stdout:
            line = raw.decode("utf-8", "replace").rstrip()
            self._last.append(line)
            print(line, flush=True)


def _telling(lines: list[str]) -> str:
    """Return the lines that say why: the last error with its message, else the last line."""
    errors = [line for line in lines if "Error" in line or "error:" in line]
    chosen = errors[-1:] or [line for line in lines if line.strip()][-1:]
    return " / ".join(line.strip()[:300] for line in chosen)


def _until_ready(server: Server, endpoint: dict[str, Any], params: Any, ctx: Context) -> None:
    end = time.monotonic() + params.ready_timeout_s
    while not (server.answers(endpoint["url"], "/health") and server.answers(endpoint["url"], "/v1/models")):
        if server.ended() is not None:
            raise server.died()
        if ctx.stop_requested():
            raise Stopped
        if time.monotonic() > end:
            raise fail("serve.not_ready", exit_code=EXIT_STAGE, seconds=params.ready_timeout_s)
        time.sleep(_POLL_S)


def _until_stopped(server: Server, ctx: Context) -> float:
    """Watch the server until a stop is requested; return for how many seconds it served."""
    started = time.monotonic()
    while not ctx.stop_requested():
        if server.ended() is not None:
            raise server.died()
        time.sleep(_POLL_S)
    return time.monotonic() - started
