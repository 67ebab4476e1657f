"""The same questions as numbered lists and typed lines: for TERM=dumb, SWIFTSHELL_PLAIN=1 and screen readers."""

from __future__ import annotations

from typing import Any

from swiftshell.i18n import t
from swiftshell.menu.rows import Row, Rows


def choose(title: str, rows: Rows[Any], *, above: tuple[str, ...] = (), back: str = "") -> int | str:
    """Print a numbered list and return the chosen row's index, `back` or `interrupt`."""
    print()
    print(title)
    for line in above:
        print(line)
    numbers: dict[str, int] = {}
    for index, row in enumerate(rows):
        if isinstance(row, Row):
            if not row.disabled:
                numbers[str(len(numbers) + 1)] = index
            mark = f"{len(numbers):>3}) " if not row.disabled else "  -  "
            print((mark + row.text + (f"  {row.disabled or row.detail}" if row.disabled or row.detail else "")).rstrip())
        elif row.text:
            print(f"     {row.text}")
    if back:
        print(f"  0) {back}")
    while True:
        answer = _read(t("menu.plain_number"))
        if answer is None or isinstance(answer, bool):
            return "interrupt" if answer else "back"
        if answer in numbers:
            return numbers[answer]
        if answer == "0" and back:
            return "back"
        print(t("menu.plain_again", most=len(numbers)))


def text(question: str, default: str) -> str | bool | None:
    """Ask for a line; an empty one keeps the default. True: Ctrl-C, None: end of input (Ctrl-D)."""
    answer = _read(f"{question} [{default}]: " if default else f"{question}: ")
    return default if answer == "" else answer


def _read(prompt: str) -> str | bool | None:
    try:
        return input(prompt).strip()
    except EOFError:
        print()
        return None
    except KeyboardInterrupt:
        print()
        return True
