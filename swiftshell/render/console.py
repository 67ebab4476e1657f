"""Decide what a stream can show, and open it: colours, moving parts, characters beyond ASCII, width."""

from __future__ import annotations

import os
import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NARROW_COLUMNS = 64  # below this, tables become lists


def is_plain() -> bool:
    """Tell whether a person or the terminal asked for text without moving parts or colours."""
    return bool(os.environ.get("SWIFTSHELL_PLAIN")) or os.environ.get("TERM") == "dumb"


def can_colour(stream: IO[str]) -> bool:
    """Tell whether colours may be written to a stream (see no-color.org)."""
    return _is_terminal(stream) and not is_plain() and not os.environ.get("NO_COLOR")


def can_move(stream: IO[str]) -> bool:
    """Tell whether lines may be redrawn in place. Without colours nothing moves either: logs and screen readers."""
    return can_colour(stream)


def has_unicode(stream: IO[str]) -> bool:
    """Tell whether a stream's encoding has more than ASCII to offer for marks and lines."""
    return (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def open_console(stream: IO[str] | None = None) -> Console:
    """Return a rich console on a stream (standard output by default) that follows the same decisions."""
    from rich.console import Console

    stream = sys.stdout if stream is None else stream
    return Console(
        file=stream,
        highlight=False,
        markup=False,
        emoji=False,
        no_color=not can_colour(stream),
        force_terminal=False if is_plain() else None,
    )


def new_table(*headers: Any, unicode: bool = True) -> Table:
    """Return an empty table in the one style used everywhere: a rule under the header and nothing else."""
    from rich import box
    from rich.table import Table

    # rich would put a full frame of + and | around a table where the encoding lacks its lines.
    style = box.SIMPLE_HEAD if unicode else box.Box(str(box.SIMPLE_HEAD).replace("─", "-"), ascii=True)
    table = Table(box=style, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for header in headers:
        table.add_column(header)
    return table


def _is_terminal(stream: IO[str]) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False
