"""Break text into lines of terminal cells: a Chinese character takes two, and nothing is cut in its middle."""

from __future__ import annotations

from swiftshell.render.board import cells, cut

# No line begins with these (Chinese typesetting), so they stay with the character before them.
_NEVER_FIRST = "，。；：！？、）》」』…,.;:!?)"


def wrap(text: str, width: int, most: int = 0) -> list[str]:
    """Break a text into lines of at most `width` cells, between words or anywhere in Chinese.

    Args:
        text: one paragraph; its own line ends are kept.
        width: cells of a line.
        most: lines at most; the last one then ends in an ellipsis. 0: as many as it takes.
    """
    lines = [line for part in text.splitlines() or [""] for line in _wrap_paragraph(part, max(2, width))]
    if most and len(lines) > most:
        rest = lines[most - 1 :]
        return [*lines[: most - 1], cut(" ".join(rest), width)]
    return lines


def _wrap_paragraph(text: str, width: int) -> list[str]:
    lines, line = [], ""
    for piece in _pieces(text):
        if cells(line) + cells(piece.rstrip()) <= width:
            line += piece
            continue
        if line.strip():
            lines.append(line.rstrip())
        line = piece.lstrip()
        while cells(line) > width:
            head = _head(line, width)
            lines.append(head)
            line = line[len(head) :]
    return [*lines, line.rstrip()]


def _pieces(text: str) -> list[str]:
    """Split into what must stay together: a word with its space, or one wide character with its punctuation."""
    pieces: list[str] = []
    for char in text:
        wide = cells(char) > 1
        joins = bool(pieces) and (char in _NEVER_FIRST or char == " " or (not wide and not _ends(pieces[-1])))
        if joins:
            pieces[-1] += char
        else:
            pieces.append(char)
    return pieces


def _ends(piece: str) -> bool:
    return piece.endswith(" ") or cells(piece[-1]) > 1


def _head(text: str, width: int) -> str:
    head = ""
    for char in text:
        if cells(head + char) > width:
            break
        head += char
    return head or text[:1]
