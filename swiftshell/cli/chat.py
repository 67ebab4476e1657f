"""`swiftshell chat`: talk to the newest model of the lineage, in the terminal."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.cli.infer import generation
from swiftshell.cli.output import is_terminal
from swiftshell.errors import fail
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=t("cli.run_model"))
    parser.add_argument("--system", metavar="TEXT", help=t("cli.system"))
    parser.add_argument("--lineage", metavar="NAME", help=t("cli.run_lineage"))
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help=t("cli.max_new_tokens"))
    parser.add_argument("--temperature", type=float, metavar="T", help=t("cli.temperature"))
    parser.add_argument("--top-p", type=float, metavar="P", help=t("cli.top_p"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Chat until the person leaves."""
    import sys

    if args.json or not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise fail("cli.chat_needs_terminal")
    from swiftshell.api.chat import chat_model
    from swiftshell.run.workspace import open_workspace

    workspace = open_workspace(args.workspace)
    name, _ = chat_model(workspace, args.model, args.lineage)
    talk(workspace, args.model, args.lineage, name, args.system, generation(args))
    return Result(None)


def talk(workspace: Any, model: str | None, lineage: str | None, name: str, system: str | None,
         settings: dict[str, Any]) -> None:
    """Read a line, stream the answer, until /quit, Ctrl-D, or Ctrl-C at the prompt."""
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
