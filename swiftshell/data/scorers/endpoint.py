"""Ask a chat model behind an OpenAI-compatible endpoint; standard library only.

The key comes from the environment or a file and goes nowhere but into the request's header: it is never followed along a
redirect, never sent unencrypted to another machine, and never part of a message.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from swiftshell.errors import fail

URL_VARIABLE, MODEL_VARIABLE, KEY_VARIABLE = (
    "SWIFTSHELL_JUDGE_URL",
    "SWIFTSHELL_JUDGE_MODEL",
    "SWIFTSHELL_JUDGE_KEY",
)
_TRIES = 6
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 30.0
_BUSY = (408, 409, 425, 429)
_SHOWN = 200


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


@dataclass(frozen=True)
class Endpoint:
    """Where to ask, which model, and how.

    Attributes:
        url: base URL, as OpenAI's clients take it (`http://127.0.0.1:8000/v1`).
        timeout_s: for one answer.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    timeout_s: float = 120.0
    first_wait_s: float = _FIRST_WAIT_S

    @property
    def host(self) -> str:
        """Return the name of the machine."""
        return urlsplit(self.url).hostname or ""

    @property
    def is_here(self) -> bool:
        """Tell whether it is this machine, so that nothing leaves it."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def ask(
        self, messages: Sequence[Mapping[str, str]], stop: threading.Event, *, max_tokens: int = 1024
    ) -> str:
        """Return what the model says, greedily; a busy or broken endpoint is asked again, ever more slowly.

        Args:
            messages: the conversation so far.
            stop: set by another thread when nobody waits for the answer any more.
            max_tokens: for the answer.

        Raises:
            SwiftshellError: the endpoint refuses, or does not answer after several tries.
        """
        body = {"model": self.model, "messages": list(messages), "temperature": 0, "max_tokens": max_tokens}
        why = ""
        for attempt in range(_TRIES):
            if attempt:
                usual = self.first_wait_s * 2 ** (attempt - 1)
                stop.wait(
                    min(_LONGEST_WAIT_S, usual) * random.uniform(0.8, 1.2)
                )  # not all at the same moment
            if stop.is_set():
                break
            try:
                return self._once(body)
            except urllib.error.HTTPError as error:
                why = f"HTTP {error.code}"
                said = self._without_key(error.read(4 * _SHOWN).decode("utf-8", "replace"))
                if error.code not in _BUSY and error.code < 500:
                    raise fail(
                        "score.judge_refused", url=self.url, status=error.code, said=said[:_SHOWN]
                    ) from None
                _wait_as_told(error.headers.get("Retry-After"), stop)
            except (OSError, http.client.HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
                why = self._without_key(f"{type(error).__name__}: {error}")[:_SHOWN]
        raise fail("score.judge_gone", url=self.url, tries=_TRIES, why=why)

    def _once(self, body: Mapping[str, Any]) -> str:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        request = urllib.request.Request(
            self.url.rstrip("/") + "/chat/completions",
            json.dumps(body).encode("utf-8"),
            headers,
            method="POST",
        )
        handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
        if self.is_here:
            handlers.append(urllib.request.ProxyHandler({}))
        with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout_s) as reply:
            content = json.load(reply)["choices"][0]["message"]["content"]
        if isinstance(content, list):
            return "".join(str(part.get("text", "")) for part in content)
        return str(content or "")

    def _without_key(self, text: str) -> str:
        text = " ".join(text.split())
        return text.replace(self.key, "***") if self.key else text


def _wait_as_told(header: str | None, stop: threading.Event) -> None:
    if header and header.isdigit():
        stop.wait(min(_LONGEST_WAIT_S, float(header)))


def key_from(file: str | None, environ: Mapping[str, str] | None = None) -> str:
    """Return the key: the first line of a file, else the environment's; empty where there is none.

    Raises:
        SwiftshellError: the file cannot be read.
    """
    env = os.environ if environ is None else environ
    if file is None:
        return env.get(KEY_VARIABLE, "").strip()
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise fail(
            "score.key_unreadable", path=file, why=getattr(error, "strerror", None) or str(error)
        ) from None
    return lines[0].strip() if lines else ""
