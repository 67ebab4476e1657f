"""The review's screen and keys by prompt_toolkit: drawing, scrolling, an editor for corrections, a line for notes."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from prompt_toolkit import PromptSession
from prompt_toolkit.application import Application
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.styles import Style

from swiftshell.data.review.sitting import Sitting
from swiftshell.i18n import t
from swiftshell.render.review import KEYS, View, act, frame

_STYLE = Style([("dim", "ansibrightblack"), ("bold", "bold"), ("reverse", "reverse")])
_ESCAPE_WAIT_S = 0.5  # an arrow key's bytes may come apart on a slow connection


class Screen:
    """The review on the whole terminal; it stays the same object while the editor is open in between."""

    def __init__(self, sitting: Sitting, name: str, *, unicode: bool) -> None:
        self.sitting, self.view = sitting, View()
        self._name, self._unicode = name, unicode
        self._page = 10

    def show(self, **terminal: Any) -> str:
        """Show answers until something else is to be done: edit, note or quit."""
        window = Window(
            FormattedTextControl(self._draw, focusable=True), always_hide_cursor=True, wrap_lines=False
        )
        app: Application[str] = Application(
            Layout(window), key_bindings=self._keys(), style=_STYLE, full_screen=True, **terminal
        )
        app.ttimeoutlen = _ESCAPE_WAIT_S
        self._app = app
        self.sitting.resume_clock()
        return app.run()

    def _draw(self) -> StyleAndTextTuples:
        size = self._app.output.get_size()
        self._page = max(1, size.rows // 2)
        lines = frame(self.sitting, self.view, size.columns - 1, size.rows, self._name, unicode=self._unicode)
        tokens: StyleAndTextTuples = []
        for number, (style, text) in enumerate(lines):
            tokens.append(
                (f"class:{style}" if style else "", text + ("\n" if number < len(lines) - 1 else ""))
            )
        return tokens

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        for key, action in KEYS.items():
            keys.add(key, eager=True)(lambda event, action=action: self._act(event, action))
        for key, steps in ((Keys.Down, 1), (Keys.Up, -1)):
            keys.add(key, eager=True)(lambda _event, steps=steps: self._scroll(steps))
        for key, pages in ((Keys.PageDown, 1), (Keys.PageUp, -1)):
            keys.add(key, eager=True)(lambda _event, pages=pages: self._scroll(pages * self._page))
        for key, far in ((Keys.Home, -(10**6)), (Keys.End, 10**6)):
            keys.add(key, eager=True)(lambda _event, far=far: self._scroll(far))
        for leaving in (Keys.ControlC, Keys.ControlD, Keys.Escape):
            keys.add(leaving, eager=True)(self._leave)
        return keys

    def _act(self, event: Any, action: str) -> None:
        todo = act(self.sitting, self.view, action)
        if todo:
            event.app.exit(result=todo)

    def _leave(self, event: Any) -> None:
        if self.view.help:
            act(self.sitting, self.view, "help")
        else:
            event.app.exit(result="quit")

    def _scroll(self, steps: int) -> None:
        self.view.scroll = max(0, (self.view.scroll or 0) + steps)


def edited(text: str) -> str | None:
    """Let a person change a text, in their editor ($VISUAL, $EDITOR) or else on the spot; None if they gave it up."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or ""
    return _in_editor(editor, text) if editor.strip() else line(t("review.edit_ask"), text, multiline=True)


def _in_editor(editor: str, text: str) -> str | None:
    fd, name = tempfile.mkstemp(prefix="swiftshell-answer-", suffix=".txt")
    path = Path(name)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        try:
            done = subprocess.run([*shlex.split(editor), name], check=False)
        except (OSError, ValueError):
            return line(t("review.edit_ask"), text, multiline=True)
        found = path.read_text(encoding="utf-8", errors="replace") if done.returncode == 0 else None
        return found.removesuffix("\n") if found is not None and not text.endswith("\n") else found
    finally:
        path.unlink(missing_ok=True)


def line(question: str, default: str, *, multiline: bool = False) -> str | None:
    """Ask for a text; None for giving it up (Esc, Ctrl-C). With `multiline` Enter makes a new line and Ctrl-S keeps it."""
    keys = KeyBindings()

    @keys.add(Keys.Escape, eager=True)
    @keys.add(Keys.ControlC, eager=True)
    def _give_up(event: Any) -> None:
        event.app.exit(result=None)

    if multiline:

        @keys.add(Keys.ControlS, eager=True)
        def _keep(event: Any) -> None:
            event.app.current_buffer.validate_and_handle()

    session: PromptSession[str | None] = PromptSession(
        f"{question}\n> ", key_bindings=keys, multiline=multiline, erase_when_done=True
    )
    session.app.ttimeoutlen = _ESCAPE_WAIT_S
    try:
        return session.prompt(default=default)
    except EOFError:
        return None
