"""A list that scrolls, filters by typing in any script, and explains the row pointed at; drawn by prompt_toolkit.

It is questionary's list control with its own drawing: rows in two columns, cut to the terminal's width, rows that cannot
be chosen with their reason, and a filter that takes Chinese and pasted text.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

from prompt_toolkit.application import Application, get_app
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import ConditionalContainer, HSplit, Layout, Window
from prompt_toolkit.layout.controls import FormattedTextControl
from prompt_toolkit.layout.dimension import Dimension
from questionary import Choice, Question, Style
from questionary.prompts.common import InquirerControl

from swiftshell.i18n import t
from swiftshell.menu.cells import cells, cut, pad, wrap
from swiftshell.menu.rows import Heading, Row, Rows
from swiftshell.render.console import has_unicode

Tokens = StyleAndTextTuples

STYLE = Style([
    ("title", "bold"), ("pointer", "bold ansicyan"), ("next", "bold ansicyan"), ("done", ""), ("running", "ansicyan"),
    ("warn", "ansiyellow"), ("error", "ansired"), ("dim", "ansibrightblack"), ("detail", "ansibrightblack"),
    ("heading", "ansibrightblack"), ("note", ""), ("hint", "ansibrightblack"), ("here", "bold"), ("mark", "ansigreen"),
    ("question", "bold"), ("answer", ""), ("instruction", "ansibrightblack"), ("qmark", ""),
])
ESCAPE_WAIT_S = 0.5  # over a slow connection an arrow key's bytes may come apart; sooner, they would be taken for Esc
_NOTE_LINES = 3  # an empty one and two of text
_SHORT_SCREEN = 16  # lines; below this, notes have no empty line before them
_INDENT = 3
_REFRESH_S = 2.0


class Listing(InquirerControl):
    """Rows, a pointer and a filter."""

    def __init__(self, rows: Rows[Any], default: Any = None) -> None:
        self.rows = list(rows)
        self.filter = ""
        # Headings too are choices to questionary: what is drawn and where the pointer may go is decided below.
        choices = [Choice(r.text, value=str(i)) for i, r in enumerate(self.rows)]
        super().__init__(choices, pointer="»", use_indicator=False)
        self.pointed_at = self._initial(default)

    def _initial(self, default: Any) -> int:
        usable = [i for i, r in enumerate(self.rows) if isinstance(r, Row)]
        wanted = [i for i in usable if default is not None and self.row(i).value == default]
        return next(iter([*wanted, *(i for i in usable if not self.row(i).disabled), *usable]))

    def replace(self, rows: Rows[Any]) -> None:
        """Take new rows; the pointer stays on the row it is on, by value."""
        here = self.here
        self.rows = list(rows)
        self.pointed_at = self._initial(here.value if here is not None else None)

    def row(self, index: int) -> Row[Any]:
        """Return the row at an index of all rows."""
        row = self.rows[index]
        assert isinstance(row, Row)
        return row

    @property
    def shown(self) -> list[int]:
        """Return the indices of the rows that fit the filter."""
        if not self.filter:
            return list(range(len(self.rows)))
        wanted = self.filter.casefold().split()
        return [i for i, r in enumerate(self.rows) if isinstance(r, Row)
                and all(word in f"{r.text} {r.detail} {r.note}".casefold() for word in wanted)]

    @property
    def here(self) -> Row[Any] | None:
        """Return the row pointed at; None where the filter leaves nothing."""
        return self.row(self.pointed_at) if self.pointed_at in self.shown else None

    def move(self, steps: int, *, wrap_around: bool = True) -> None:
        """Move the pointer over the rows that are shown, headings left out."""
        stops = [i for i in self.shown if isinstance(self.rows[i], Row)]
        if not stops:
            return
        at = stops.index(self.pointed_at) if self.pointed_at in stops else 0
        to = (at + steps) % len(stops) if wrap_around else max(0, min(len(stops) - 1, at + steps))
        self.pointed_at = stops[to]

    def set_filter(self, text: str) -> None:
        """Change the filter and point at the row that fits it best: by its name, else by what is said about it."""
        self.filter = text
        left = [i for i in self.shown if isinstance(self.rows[i], Row)]
        if left and text:
            self.pointed_at = min(left, key=lambda i: (bool(self.row(i).disabled), not self._is_named(i, text), i))

    def _is_named(self, index: int, text: str) -> bool:
        return text.casefold().strip() in self.row(index).text.casefold()

    def _get_choice_tokens(self) -> Tokens:
        width = get_app().output.get_size().columns
        column = self._column(width)
        tokens: Tokens = []
        for index in self.shown:
            row = self.rows[index]
            tokens += self._heading(row, width) if isinstance(row, Heading) else self._row(row, index, width, column)
            tokens.append(("", "\n"))
        if not tokens:
            return [("class:dim", " " * _INDENT + t("menu.nothing_fits"))]
        return tokens[:-1]

    def _column(self, width: int) -> int:
        """Return the cells of the first column: its longest text, and never more than half the line."""
        longest = max((cells(r.text) for r in self.rows if isinstance(r, Row) and (r.detail or r.disabled)), default=0)
        return min(longest, (width - _INDENT) * 55 // 100)

    def _heading(self, row: Heading, width: int) -> Tokens:
        return [("class:heading", cut(" " * _INDENT + row.text, width - 1) if row.text else "")]

    def _row(self, row: Row[Any], index: int, width: int, column: int) -> Tokens:
        here = index == self.pointed_at
        mark = ("»" if has_unicode(sys.stdout) else ">") if here else " "
        tokens: Tokens = [("class:pointer", f" {mark} ")]
        if here:
            tokens.append(("[SetCursorPosition]", ""))
        detail = row.disabled or row.detail
        style = "class:dim" if row.disabled else f"class:{row.style}" if row.style else ""
        room = width - _INDENT - 1
        first = cut(row.text, column if detail else room)
        tokens.append((f"{style} {'bold' if here else ''}".strip(), first))
        if detail:
            rest = cut(detail, room - column - 2)
            shade = "class:here" if here else "class:dim" if row.disabled else "class:detail"
            tokens.append((shade, pad("", column - cells(first) + 2) + rest))
        return tokens


class Screen:
    """A title, a list, a note on the row pointed at, and one line of keys."""

    def __init__(self, title: str, rows: Rows[Any], *, default: Any = None, above: tuple[str, ...] = (),
                 hint: Callable[[int], str], again: Callable[[], Rows[Any]] | None = None) -> None:
        self.listing = Listing(rows, default)
        self._title, self._above, self._hint, self._again = title, above, hint, again

    def question(self, **terminal: Any) -> Question:
        """Return it as a question: its answer is the row, or `back` or `interrupt`."""
        app: Application[Any] = Application(layout=self._layout(), key_bindings=self._keys(), style=STYLE,
                                            erase_when_done=True, **terminal)
        app.ttimeoutlen = ESCAPE_WAIT_S
        if self._again is not None:
            app.pre_run_callables.append(lambda: self._start_keeping_fresh(app))
        return Question(app)

    def _start_keeping_fresh(self, app: Application[Any]) -> None:
        app.create_background_task(self._keep_fresh(app))

    async def _keep_fresh(self, app: Application[Any]) -> None:
        """Make the rows anew from time to time."""
        while self._again is not None:
            await asyncio.sleep(_REFRESH_S)
            self.listing.replace(self._again())
            app.invalidate()

    def _layout(self) -> Layout:
        notes = any(isinstance(r, Row) and (r.note or r.disabled) for r in self.listing.rows)
        head = FormattedTextControl(self._head)
        parts = [
            Window(head, height=lambda: Dimension.exact(sum(map(len, self._head_lines()))), dont_extend_height=True),
            Window(self.listing, height=Dimension(min=1), dont_extend_height=True, always_hide_cursor=True),
            ConditionalContainer(Window(FormattedTextControl(self._note), height=_note_lines),
                                 Condition(lambda: notes)),
            Window(FormattedTextControl(self._foot), height=1),
        ]
        return Layout(HSplit(parts), focused_element=parts[1])

    def _head_lines(self) -> tuple[list[str], list[str]]:
        """Return the lines of the title and those under it."""
        width = get_app().output.get_size().columns - 1
        room = 2 if get_app().output.get_size().rows >= _SHORT_SCREEN else 1
        return wrap(self._title, width, room), [line for text in self._above for line in wrap(text, width, 2 * room)]

    def _head(self) -> Tokens:
        title, above = self._head_lines()
        return [("class:title", "\n".join(title)), ("", "".join(f"\n{line}" for line in above))]

    def _note(self) -> Tokens:
        here = self.listing.here
        if here is None:
            return []
        width = get_app().output.get_size().columns - 1
        text = here.disabled if here.disabled else here.note
        tall = _note_lines() == _NOTE_LINES
        lines = [*([""] if tall else []), *wrap(text, width - _INDENT, 2)]
        return [("class:warn" if here.disabled else "class:note", "\n".join(" " * _INDENT + line for line in lines))]

    def _foot(self) -> Tokens:
        width = get_app().output.get_size().columns - 1
        if self.listing.filter:
            return [("class:next", cut(f" / {self.listing.filter}", width * 2 // 3)),
                    ("class:hint", cut(f"   {t('menu.keys_filter')}", width // 3))]
        return [("class:hint", cut(f" {self._hint(width)}", width))]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        self._moving(keys)
        self._filtering(keys)

        @keys.add(Keys.ControlM, eager=True)
        def _choose(event: Any) -> None:
            here = self.listing.here
            if here is not None and not here.disabled:
                event.app.exit(result=here)

        @keys.add(Keys.Escape, eager=True)
        def _back(event: Any) -> None:
            if self.listing.filter:
                self.listing.set_filter("")
            else:
                event.app.exit(result="back")

        @keys.add(Keys.ControlC, eager=True)
        def _interrupt(event: Any) -> None:
            event.app.exit(result="interrupt")

        @keys.add(Keys.ControlD, eager=True)
        def _end(event: Any) -> None:
            event.app.exit(result="back")

        return keys

    def _moving(self, keys: KeyBindings) -> None:
        moves = {Keys.Down: 1, Keys.ControlN: 1, Keys.Tab: 1, Keys.Up: -1, Keys.ControlP: -1, Keys.BackTab: -1}
        far = {Keys.PageDown: 8, Keys.PageUp: -8, Keys.Home: -1000, Keys.End: 1000}
        for key, steps in moves.items():
            keys.add(key, eager=True)(lambda _event, steps=steps: self.listing.move(steps))
        for key, steps in far.items():
            keys.add(key, eager=True)(lambda _event, steps=steps: self.listing.move(steps, wrap_around=False))

    def _filtering(self, keys: KeyBindings) -> None:
        listing = self.listing

        @keys.add(Keys.Any)
        def _type(event: Any) -> None:
            if event.data.isprintable() and (listing.filter or event.data != " "):
                listing.set_filter(listing.filter + event.data)

        @keys.add(Keys.BracketedPaste)
        def _paste(event: Any) -> None:
            pasted = " ".join(event.data.split())
            listing.set_filter(listing.filter + "".join(c for c in pasted if c.isprintable()))

        @keys.add(Keys.Backspace, eager=True)
        def _rub_out(_event: Any) -> None:
            listing.set_filter(listing.filter[:-1])


def _note_lines() -> int:
    return _NOTE_LINES if get_app().output.get_size().rows >= _SHORT_SCREEN else 2
