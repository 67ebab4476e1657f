"""Hold a conversation with a model that lives in a process of its own, so that the shell never loads an engine.

The process reads its requests from a pipe and ends when that pipe closes: it cannot outlive the shell that started it,
however that ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from swiftshell.claims.claim import Grant
from swiftshell.errors import EXIT_STAGE, Problem, SwiftshellError, fail
from swiftshell.jobs import reserve

_MODULE = "swiftshell.engines.transformers_chat"
_PACKAGE_PARENT = Path(__file__).resolve().parents[2]


class ChatProcess:
    """A started chat engine.

    Attributes:
        facts: what it said when it was ready: model, context, chat_template, device.
        last: facts about the last answer: tokens, seconds, finish_reason.
    """

    def __init__(self, process: subprocess.Popen[str], log: Path, grant: Grant | None = None) -> None:
        self.facts: dict[str, Any] = {}
        self.last: dict[str, Any] = {}
        self._process, self._log, self._grant = process, log, grant
        self._answering = False

    @classmethod
    def start(cls, model_folder: Path, *, device: str = "auto", dtype: str = "auto",
              python: str | None = None) -> ChatProcess:
        """Start the engine on a model or adapter folder and wait until it can answer.

        Where the machine has GPUs it gets one of its own, held until the conversation ends.

        Raises:
            SwiftshellError: the model cannot be loaded, the process ended, or all GPUs are in use.
        """
        if not any((model_folder / name).is_file() for name in ("config.json", "adapter_config.json")):
            raise fail("infer.not_a_model", file=str(model_folder), folder=str(model_folder))
        command = [python or sys.executable, "-P", "-m", _MODULE, str(model_folder), "--device", device, "--dtype", dtype]
        grant = reserve.for_conversation(model_folder.name) if device != "cpu" else None
        handle, name = tempfile.mkstemp(prefix="swiftshell-chat-", suffix=".log")
        try:
            with os.fdopen(handle, "wb") as log:
                process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
                                           encoding="utf-8", bufsize=1, pass_fds=grant.fds if grant else (),
                                           env={**_environment(name), **(grant.env if grant else {})})
        except OSError:
            if grant is not None:
                grant.close()
            raise
        chat = cls(process, Path(name), grant)
        try:
            reply = chat._reply()
            if "error" in reply:
                raise SwiftshellError(Problem.from_json(reply["error"]), EXIT_STAGE)
        except BaseException:
            chat.close(keep_log=process.poll() not in (None, 0))
            raise
        chat.facts = {k: v for k, v in reply.items() if k != "ready"}
        return chat

    def ask(self, messages: Sequence[Mapping[str, Any]] | str, **generation: Any) -> Iterator[str]:
        """Yield the answer to a conversation (or a plain prompt) piece by piece.

        Args:
            messages: turns with role and content, or one string.
            **generation: max_new_tokens, temperature (0 is greedy), top_p, seed.

        Raises:
            SwiftshellError: the conversation is too long or refused; the process stays usable unless it ended.
        """
        if self._answering:
            self.cancel()
        key = "prompt" if isinstance(messages, str) else "messages"
        self.last = {}
        self._answering = True
        self._send({key: messages, **generation})
        while self._answering:
            reply = self._reply()
            if "token" in reply:
                yield reply["token"]
            else:
                self._finish(reply)

    def cancel(self) -> None:
        """End the answer that is being written and wait for its last line; without one nothing happens."""
        if not self._answering:
            return
        self._send({"cancel": True})
        while self._answering:
            reply = self._reply()
            if "token" not in reply:
                self._finish(reply)

    def close(self, *, keep_log: bool = False) -> None:
        """End the process and wait for it."""
        process = self._process
        try:
            if process.stdin is not None:
                process.stdin.close()
        except OSError:
            pass  # it is gone already
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
        if self._grant is not None:
            self._grant.close()
        if not keep_log:
            self._log.unlink(missing_ok=True)

    def __enter__(self) -> ChatProcess:
        """Return the process itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _finish(self, reply: dict[str, Any]) -> None:
        self._answering = False
        if "error" in reply:
            raise SwiftshellError(Problem.from_json(reply["error"]), EXIT_STAGE)
        self.last = {k: reply[k] for k in ("tokens", "seconds", "finish_reason") if k in reply}

    def _send(self, request: Mapping[str, Any]) -> None:
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request, ensure_ascii=False) + "\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise self._ended() from error

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line.endswith("\n"):
            raise self._ended()
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _ended(self) -> SwiftshellError:
        """Say how the process ended, with its last words."""
        self._answering = False
        try:
            status: int | str = self._process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            status = "?"
        lines = [x for x in self._log.read_text(encoding="utf-8", errors="replace").splitlines() if x.strip()] \
            if self._log.is_file() else []
        return fail("infer.chat_ended", exit_code=EXIT_STAGE, status=status, reason=(lines or [""])[-1][:300],
                    log=str(self._log))


def _environment(log: str) -> dict[str, str]:
    """Return the engine's environment: it finds this package, reaches no network, and knows the log to clear away."""
    path = os.pathsep.join(p for p in (str(_PACKAGE_PARENT), os.environ.get("PYTHONPATH", "")) if p)
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1",
            "TOKENIZERS_PARALLELISM": "false", "PYTHONUNBUFFERED": "1",
            "SWIFTSHELL_CHAT_LOG": log}
