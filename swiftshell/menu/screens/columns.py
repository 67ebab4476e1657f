"""Say which column plays which part, where detection needs help: what was found, and an example of every column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swiftshell.i18n import t, what
from swiftshell.menu import prompts
from swiftshell.menu.forms import Form
from swiftshell.menu.rows import Heading, Row
from swiftshell.menu.session import Session

_DONE, _FORGET, _FOUND = "\0done", "\0forget", "\0found"
_RUNS = ("sft", "kto", "dpo")


def given(session: Session, path: Path) -> dict[str, str]:
    """Return the columns that were said for a file in this sitting: part → column."""
    found: dict[str, dict[str, str]] = session.typed.setdefault("columns", {})
    return found.setdefault(str(path), {})


def flags(columns: dict[str, str]) -> str:
    """Return the columns as a command line says them."""
    return "".join(f" --column {part}={column}" for part, column in columns.items())


def show(session: Session, path: Path, purpose: Any) -> None:
    """Ask for one part after the other until the person is content."""
    from swiftshell.data.columns import PARTS, look

    mine = given(session, path)
    default: str = _DONE
    while True:
        found = look(path, purpose, columns=mine)
        taken = dict(found.layout.columns) if found.layout is not None else dict(mine)
        rows: list[Row[str] | Heading] = [
            Row(_DONE, t("detect.menu_done"), _yaml(mine), note=t("detect.menu_done.note"),
                disabled=what(found.problems[0]) if found.problems else "", style="next"),
        ]
        rows += [Row(_FORGET, t("detect.menu_forget"))] if mine else []
        rows.append(Heading())
        rows += [_part(part, taken.get(part, ""), part in mine, found.columns) for part in PARTS[found.purpose]]
        title = t("detect.menu_columns", path=path, format=found.layout.format if found.layout else "?")
        answer = prompts.choose(title, rows, default=default)
        if answer is None:
            return
        if answer == _DONE:
            _remember(session, path, found.purpose, mine)
            return
        if answer == _FORGET:
            mine.clear()
            continue
        default = answer
        _choose(answer, mine, found.columns)


def _part(part: str, column: str, said: bool, examples: Any) -> Row[str]:
    """Return the row of a part: its column and what stands in it; one that a person said is marked."""
    detail = f"{column}{' *' if said else ''}" if column else "-"
    return Row(part, part, detail, note=str(examples.get(column, "")), style="done" if said else "" if column else "dim")


def _choose(part: str, mine: dict[str, str], examples: Any) -> None:
    rows = [Row(_FOUND, t("detect.menu_automatic"))]
    rows += [Row(name, name, example) for name, example in examples.items()]
    answer = prompts.choose(t("detect.menu_part", part=part), rows, default=mine.get(part))
    if answer == _FOUND:
        mine.pop(part, None)
    elif answer is not None:
        mine[part] = answer


def _yaml(columns: dict[str, str]) -> str:
    return f"columns: {{{', '.join(f'{part}: {column}' for part, column in columns.items())}}}" if columns else ""


def _remember(session: Session, path: Path, purpose: str, columns: dict[str, str]) -> None:
    """Put the file and its columns into the form of the stage that will read it."""
    if purpose in _RUNS and columns:
        form = session.forms.setdefault(purpose, Form(purpose))
        form.options.data, form.options.columns = str(path.absolute()), dict(columns)
        print(t("menu.same_command", command=f"swiftshell run {purpose} --data {path}{flags(columns)}"))
