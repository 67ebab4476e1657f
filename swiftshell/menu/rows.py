"""What a list on the screen is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Row(Generic[T]):
    """One thing to choose.

    Attributes:
        value: what choosing it returns.
        text: its name, in the first column.
        detail: what matters about it, in the second column.
        note: a sentence or two, shown below the list while the row is pointed at.
        disabled: why it cannot be chosen now; empty if it can. The row can still be pointed at, to read the reason.
        style: `next`, `done`, `running`, `dim`, `warn` or plain.
    """

    value: T
    text: str
    detail: str = ""
    note: str = ""
    disabled: str = ""
    style: str = ""


@dataclass(frozen=True)
class Heading:
    """A line between rows: a title, or nothing but space."""

    text: str = ""


Rows = Sequence[Row[T] | Heading]


class Quit(Exception):
    """Leave the menu now, with this exit code."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code
