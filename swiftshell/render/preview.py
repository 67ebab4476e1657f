"""Print rows as a model reads them: what is learned in colour, or between marks where there is none."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import IO, Any

from swiftshell.data.preview import Piece, Preview, Text
from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import can_colour, has_unicode, open_console

_LEARNED, _READ = "green", "dim"
_PIECE_CHARS = 600  # of a longer stretch the middle is left out
_KEPT = ("\n", "\t")


def print_found(purpose: str, format_: str, columns: Mapping[str, str], *, stream: IO[str] | None = None) -> None:
    """Print what a data set was taken for."""
    named = ", ".join(f"{part} = {visible(column)}" for part, column in columns.items())
    open_console(stream).print(t("detect.found", purpose=purpose, format=format_, columns=named), soft_wrap=True)


def print_previews(previews: Iterable[Preview], *, model: str, whole: bool = False, stream: IO[str] | None = None) -> None:
    """Print rows, and what the colours or marks mean."""
    from rich.text import Text as Line

    stream = sys.stdout if stream is None else stream
    console = open_console(stream)
    colour, unicode = can_colour(stream), has_unicode(stream)
    marks = ("", "") if colour else ("⟦", "⟧") if unicode else ("[[", "]]")
    legend = Line(t("detect.as_read_by", model=model) + " ")
    legend.append(t("detect.learned_colour") if colour else t("detect.learned_marks", open=marks[0], close=marks[1]),
                  style=_LEARNED)
    console.print(legend)
    for one in previews:
        console.print()
        console.print(_head(one, unicode), style="bold", soft_wrap=True)
        before: tuple[Piece, ...] = ()
        for text in one.texts:
            console.print(_about(text, alone=len(one.texts) == 1), style="cyan", soft_wrap=True)
            same = bool(before) and len(text.pieces) > 1 and not before[0].learned and before[0] == text.pieces[0]
            console.print(_body(text, marks, whole, same), soft_wrap=True)
            before = text.pieces


def _head(one: Preview, unicode: bool) -> str:
    place = f"{one.file}:{one.line}" if one.line is not None else one.file
    parts = [t("cli.data_row", row=one.row), place]
    if "label" in one.said:
        parts.append(t("render.desirable") if one.said["label"] else t("render.undesirable"))
    parts += [f"{name} {one.said[name]:g}" for name in ("probability", "weight") if name in one.said]
    parts += [visible(str(path)) for path in one.said.get("images", [])]
    return ("── " if unicode else "-- ") + ("  " if not unicode else " · ").join(parts)


def _about(text: Text, *, alone: bool) -> str:
    parts = [] if alone and text.part in ("completion", "messages", "text", "prompt") else [text.part]
    if text.refused:
        parts.append(t("detect.refused", why=visible(text.refused)) if text.refused != "-" else t("detect.no_template"))
    elif text.tokens is not None:
        parts.append(t("detect.tokens", tokens=words.number(text.tokens), learned=words.number(text.learned_tokens or 0)))
    else:
        parts.append(t("detect.no_counts"))
    return ": ".join(parts)


def _body(text: Text, marks: tuple[str, str], whole: bool, same_prompt: bool) -> Any:
    from rich.text import Text as Line

    line = Line()
    if same_prompt:
        line.append(f"({t('detect.same_prompt')})\n", style=_READ)
    for piece in text.pieces[1 if same_prompt else 0 :]:
        shown = visible(piece.text if whole else _cut(piece))
        line.append(f"{marks[0]}{shown}{marks[1]}" if piece.learned else shown, style=_LEARNED if piece.learned else _READ)
    line.rstrip()
    return line


def _cut(piece: Piece) -> str:
    text = piece.text
    if len(text) <= _PIECE_CHARS:
        return text
    half = _PIECE_CHARS // 2
    return f"{text[:half]} … {t('detect.left_out', count=words.number(len(text) - 2 * half))} … {text[-half:]}"


def visible(text: str) -> str:
    """Return text that cannot steer a terminal: control characters are written out."""
    return "".join(c if c in _KEPT or not (ord(c) < 32 or 127 <= ord(c) < 160) else f"\\x{ord(c):02x}" for c in text)
