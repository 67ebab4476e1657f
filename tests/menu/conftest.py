"""Answer the menu's questions by keys, without a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from swiftshell import i18n
from swiftshell.menu import prompts

UP, DOWN, ENTER, ESC, CTRL_C, CTRL_D, CTRL_U = "\x1b[A", "\x1b[B", "\r", "\x1b", "\x03", "\x04", "\x15"
RUB_OUT = "\x7f"


class SizedOutput(DummyOutput):
    """Nothing is shown, on a screen of a known size."""

    def __init__(self, columns: int = 80, lines: int = 24) -> None:
        self.size = Size(rows=lines, columns=columns)

    def get_size(self) -> Size:
        return self.size


@pytest.fixture
def language() -> Iterator[Callable[[str], None]]:
    """Speak a language for the length of a test."""
    i18n.set_language("en")
    yield i18n.set_language
    i18n.set_language("auto")


@pytest.fixture
def press(language: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Put keys into the keyboard's queue; questions asked afterwards take them from there."""
    monkeypatch.setattr(prompts, "is_terminal", lambda: True)
    monkeypatch.setattr("swiftshell.menu.prompts.is_plain", lambda: False)
    monkeypatch.setattr("swiftshell.menu.listing.has_unicode", lambda _stream: True)
    prompts.forget_interrupts()
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=SizedOutput()):
        yield lambda *keys: keyboard.send_text("".join(keys))
    prompts.forget_interrupts()
