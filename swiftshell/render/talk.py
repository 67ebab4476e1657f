"""A conversation on the terminal: read a line, stream the answer."""

from __future__ import annotations

from typing import Any

from swiftshell.i18n import t
from swiftshell.run.workspace import Workspace


def talk(workspace: Workspace, model: str | None, lineage: str | None, name: str, system: str | None,
         settings: dict[str, Any]) -> None:
    """Talk until /quit, Ctrl-D, or Ctrl-C at the prompt.

    Raises:
        SwiftshellError: the model cannot be opened.
    """
    from swiftshell.api.chat import open_chat

    print(t("cli.chat_loading", model=name))
    with open_chat(workspace, model, lineage) as chat:
        print(t("cli.chat_help", model=name))
        start = [{"role": "system", "content": system}] if system else []
        messages = list(start)
        while (text := _read()) is not None:
            if text == "/new":
                messages = list(start)
            elif text:
                messages.append({"role": "user", "content": text})
                messages.append({"role": "assistant", "content": _answer(chat, messages, settings)})


def _read() -> str | None:
    try:
        text = input(f"\n{t('cli.chat_you')}> ").strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return None if text in ("/quit", "/exit", "/q") else text


def _answer(chat: Any, messages: list[dict[str, str]], settings: dict[str, Any]) -> str:
    """Stream one answer; Ctrl-C ends the answer, not the conversation."""
    pieces: list[str] = []
    try:
        for piece in chat.ask(messages, **settings):
            pieces.append(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        chat.cancel()
    last = chat.last
    tokens, seconds = last.get("tokens", 0), last.get("seconds") or 0.0
    print("\n" + t("cli.chat_speed", tokens=tokens, rate=f"{tokens / seconds:.1f}" if seconds else "-"))
    return "".join(pieces)
