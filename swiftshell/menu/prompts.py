"""Every question the menu asks goes through here: the one place that knows questionary, terminals and leaving.

Two questions exist: `choose` one of several rows, and `ask_text` for a line. Both return None when the person goes back
(Esc, the "← Back" row, Ctrl-D, or a first Ctrl-C). A second Ctrl-C without any answer in between quits. Nothing is ever
asked without a terminal at both ends: a pipe answers nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from swiftshell.errors import EXIT_INTERRUPTED, fail
from swiftshell.i18n import t
from swiftshell.menu import plain
from swiftshell.menu.rows import Heading, Quit, Row, Rows
from swiftshell.render.console import is_plain

T = TypeVar("T")
_BACK = object()
_interrupted: list[bool] = []


def is_terminal() -> bool:
    """Tell whether a person is there to answer: both ends are terminals, and nobody said not to ask."""
    if os.environ.get("SWIFTSHELL_NO_INPUT") or os.environ.get("CI"):
        return False
    try:
        return bool(sys.stdin is not None and sys.stdin.isatty() and sys.stdout is not None and sys.stdout.isatty())
    except ValueError:  # closed
        return False


def require_terminal() -> None:
    """Refuse to ask anyone but a person.

    Raises:
        SwiftshellError: there is no terminal; the commands that need none are named.
    """
    if not is_terminal():
        raise fail("menu.needs_terminal")


def choose(title: str, rows: Rows[T], *, default: T | None = None, above: tuple[str, ...] = (),
           back: bool | str = True, again: Callable[[], Rows[T]] | None = None) -> T | None:
    """Let the person choose one row.

    Args:
        title: what is asked, in a few words.
        rows: what there is; headings between them.
        default: the value of the row pointed at first.
        above: more lines under the title.
        back: add the row "← Back", or one of these words; only the outermost screen has none.
        again: makes the rows anew every two seconds, for what changes while one looks at it.

    Returns:
        The row's value, or None for going back.
    """
    require_terminal()
    shown: list[Row[Any] | Heading] = list(rows)
    way_back = back if isinstance(back, str) else t("menu.back") if back else ""
    if is_plain():
        answer: Row[Any] | int | str = plain.choose(title, shown, above=above, back=way_back)
    else:
        shown += [Row(_BACK, way_back)] if way_back else []
        answer = _on_screen(title, shown, default, above, again, outermost=not back)
    _count(answer == "interrupt")
    if isinstance(answer, str):
        return None
    row = shown[answer] if isinstance(answer, int) else answer
    assert isinstance(row, Row)
    return None if row.value is _BACK else row.value


def _on_screen(title: str, rows: Rows[Any], default: Any, above: tuple[str, ...], again: Callable[[], Rows[Any]] | None, *,
               outermost: bool) -> Row[Any] | str:
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")  # terminals that do not answer get a warning in the face
    from swiftshell.menu.listing import Screen

    screen = Screen(title, rows, default=default, above=above, hint=lambda width: _hint(outermost, width), again=again)
    answer: Row[Any] | str = screen.question().unsafe_ask()
    return answer


def _hint(outermost: bool, width: int) -> str:
    """Return the keys in one line, the shorter form where the line is narrow."""
    from swiftshell.menu.cells import cells

    key = "menu.keys_interrupted" if _interrupted else "menu.keys_home" if outermost else "menu.keys"
    return t(key) if cells(t(key)) < width else t(key + "_short")


def ask_text(question: str, *, default: str = "", note: str = "", check: Callable[[str], str] | None = None,
             paths: bool = False) -> str | None:
    """Ask for one line.

    Args:
        question: what is asked.
        default: stands in the line already.
        note: a sentence or two above it.
        check: returns what is wrong with an answer, or nothing; the person is asked again with the answer kept.
        paths: complete file names with Tab.

    Returns:
        The line without spaces around it, or None for going back.
    """
    require_terminal()
    wrong = ""
    while True:
        answer = _line(question, default, note, wrong, paths)
        _count(answer is True)
        if not isinstance(answer, str):
            return None
        default = answer.strip()
        wrong = check(default) if check else ""
        if not wrong:
            return default


def _line(question: str, default: str, note: str, wrong: str, paths: bool) -> str | bool | None:
    if is_plain():
        for line in (note, wrong):
            if line:
                print(line)
        return plain.text(question, default)
    os.environ.setdefault("PROMPT_TOOLKIT_NO_CPR", "1")
    from swiftshell.menu.lines import ask

    return ask(question, default=default, note=note, wrong=wrong, paths=paths, hint=_line_hint(paths))


def _line_hint(paths: bool) -> str:
    if _interrupted:
        return t("menu.keys_interrupted")
    return t("menu.keys_path") if paths else t("menu.keys_text")


def pause(title: str, row: str = "") -> None:
    """Wait until the person has read what is above."""
    choose(title, [Row(True, row or t("menu.back"))], back=False)


def confirm(question: str, yes: str, *, note: str = "") -> bool:
    """Ask before something that cannot be taken back; the pointer stands on no."""
    return bool(choose(question, [Row(False, t("menu.no")), Row(True, yes, note=note, style="warn")], back=False))


def forget_interrupts() -> None:
    """Take a Ctrl-C that meant something else (leaving the live view) out of the count."""
    _interrupted.clear()


def interrupted() -> bool:
    """Tell whether the last answer was Ctrl-C."""
    return bool(_interrupted)


def _count(interrupt: bool) -> None:
    """Remember a Ctrl-C; raise on the second in a row."""
    if not interrupt:
        _interrupted.clear()
        return
    if _interrupted:
        _interrupted.clear()
        raise Quit(EXIT_INTERRUPTED)
    _interrupted.append(True)
