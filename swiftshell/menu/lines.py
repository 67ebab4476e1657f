"""Ask for one typed line on the screen, with a way back and without English leftovers."""

from __future__ import annotations

import shutil
from typing import Any

import questionary
from prompt_toolkit.completion import PathCompleter
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys

from swiftshell.menu.cells import wrap
from swiftshell.menu.listing import ESCAPE_WAIT_S, STYLE

_NOTE_LINES = 6


def ask(question: str, *, default: str, note: str, wrong: str, paths: bool, hint: str) -> str | bool | None:
    """Return the line, None for going back, True for Ctrl-C."""
    size = shutil.get_terminal_size()
    most = _NOTE_LINES if size.lines >= 16 else 3
    above = [*(wrap(note, size.columns - 2, most) if note else []), *(wrap(wrong, size.columns - 2, most) if wrong else [])]
    asked = questionary.text(
        "\n ".join([*above, question]), default=default, qmark="", style=STYLE, key_bindings=_keys(),
        instruction=f"({hint})\n >",
        erase_when_done=True, completer=PathCompleter(expanduser=True) if paths else None,
        complete_while_typing=False, reserve_space_for_menu=4 if paths else 0)
    asked.application.ttimeoutlen = ESCAPE_WAIT_S
    answer: str | bool | None = asked.unsafe_ask()
    return answer


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add(Keys.Escape, eager=True)
    def _back(event: Any) -> None:
        event.app.exit(result=None)

    @keys.add(Keys.ControlC, eager=True)
    def _interrupt(event: Any) -> None:
        event.app.exit(result=True)

    @keys.add(Keys.ControlD, eager=True)
    def _end(event: Any) -> None:
        if not event.current_buffer.text:
            event.app.exit(result=None)

    return keys
