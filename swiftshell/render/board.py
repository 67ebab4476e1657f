"""Draw the board as plain lines: per stage its newest result, what runs, what is possible next and why not.

No rich here: the board is on the menu's first frame, which has 0.35 s in all.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from swiftshell.i18n import t
from swiftshell.render import words


def board_lines(
    rows: Sequence[Mapping[str, Any]],
    *,
    workspace: str,
    lineage: str = "",
    width: int = 80,
    unicode: bool = True,
) -> list[tuple[str, str]]:
    """Return (style, text) for every line of the board; no text is wider than `width` cells.

    Args:
        rows: one mapping a stage, in the order of the pipeline: `stage`; `newest` (name of the newest good result, or
            empty); `number` (one telling number of it, optional); `running` (what it does now, or empty); `possible`
            and `why_not` (a short reason); `next` (the stage suggested).
        workspace: the folder, shown on the first line.
        lineage: the lineage in view; empty where there is none yet.
        width: cells of the terminal.
        unicode: whether marks beyond ASCII can be shown.
    """
    lines = [
        ("bold", cut(t("render.board.title", path=words.shortest(workspace), lineage=lineage or "-"), width))
    ]
    stage_cells = max((cells(str(row["stage"])) for row in rows), default=0)
    for row in rows:
        state = _state(row)
        mark = (
            "→"
            if row.get("next") and unicode
            else ">"
            if row.get("next")
            else words.mark(state, unicode=unicode)
        )
        head = f"{pad(mark, 2)} {pad(str(row['stage']), stage_cells)}  "
        lines.append((_style(row, state), cut(head + _text(row), width)))
    return lines


def _state(row: Mapping[str, Any]) -> str:
    if row.get("running"):
        return "running"
    return "succeeded" if row.get("newest") else "waiting"


def _style(row: Mapping[str, Any], state: str) -> str:
    if row.get("next"):
        return "bold cyan"
    return words.style(state) if row.get("possible") or state != "waiting" else "dim"


def _text(row: Mapping[str, Any]) -> str:
    """Return what matters about a stage: what runs, its newest result, that it is next, or why it cannot be."""
    parts = [str(row.get("running") or ""), str(row.get("newest") or ""), str(row.get("number") or "")]
    if row.get("next"):
        parts.append(t("render.board.next"))
    elif not any(parts):
        parts.append(t("render.board.possible") if row.get("possible") else str(row.get("why_not") or ""))
    return "  ".join(part for part in parts if part)


def cells(text: str) -> int:
    """Return how many terminal cells a text takes: two for a wide character, none for a combining one."""
    return sum(_char_cells(char) for char in text)


def cut(text: str, width: int) -> str:
    """Return the text, cut to `width` cells with an ellipsis where something was left out."""
    if cells(text) <= width:
        return text
    kept, used = "", 0
    for char in text:
        used += _char_cells(char)
        if used > width - 1:
            break
        kept += char
    return kept + "…"


def pad(text: str, width: int) -> str:
    """Return the text with spaces behind it up to `width` cells."""
    return text + " " * max(0, width - cells(text))


def _char_cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
