"""Say what a data set is taken for before anything is read through: purpose, layout, columns and how they could be mended.

Only the first rows are read, so that a front can ask its questions at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.data import inside
from swiftshell.data.detect import Layout, detect, find_purpose, present_columns
from swiftshell.data.labels import parse_rule
from swiftshell.data.read import read_rows
from swiftshell.data.row import Purpose, Row, shown
from swiftshell.errors import Problem

_HEAD_ROWS = 200
# For every purpose, the parts a person would name a column for, the needed ones first.
PARTS: Mapping[Purpose, tuple[str, ...]] = {
    "sft": ("prompt", "completion", "messages", "text", "input", "system", "history", "tools", "images"),
    "kto": ("prompt", "completion", "messages", "label", "probability", "weight", "input", "system", "history",
            "tools", "images"),
    "dpo": ("prompt", "messages", "chosen", "rejected", "completion", "label", "input", "system", "history", "tools",
            "images"),
    "prompts": ("prompt", "messages", "text", "input", "system", "history", "tools"),
    "heldout": ("prompt", "messages", "completion", "chosen", "rejected", "label", "reference", "rules", "lang",
                "input", "system", "history", "tools"),
}


@dataclass(frozen=True)
class Found:
    """What the first rows say.

    Attributes:
        purpose: what the rows are for, as asked or as found.
        layout: which column plays which part; None where something needed is missing.
        problems: why there is no layout, or why nothing could be read.
        columns: every column (and `column.key` inside of objects) → a value as an example.
    """

    purpose: Purpose
    layout: Layout | None
    problems: list[Problem] = field(default_factory=list)
    columns: Mapping[str, str] = field(default_factory=dict)


def look(
    path: Path,
    purpose: Purpose | None = None,
    *,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,  # noqa: A002
    label_rule: Mapping[str, Any] | None = None,
    split: str | None = None,
) -> Found:
    """Read the first rows and say what they are.

    Args:
        path: file, folder, artifact or pattern.
        purpose: what the rows are for; found from the rows without it.
        columns: part → column, as said by a person.
        format: a name of `detect.FORMATS`, as said by a person.
        label_rule: as `load.load_rows`.
        split: of a folder with several splits, the one to read.

    Raises:
        SwiftshellError: the label rule cannot be one.
    """
    problems: list[Problem] = []
    rule = parse_rule(label_rule)
    head: list[Row] = list(itertools.islice(read_rows(path, problems.append, split=split), _HEAD_ROWS))
    data = [row.data for row in head]
    present = present_columns(data)
    options: dict[str, Any] = {"columns": columns, "format": format, "rule": rule.kind if rule else None, "head": data}
    chosen = purpose or (find_purpose(present, **options) if head else "sft")
    if not head:
        return Found(chosen, None, problems)
    layout, wrong = detect(present, chosen, **options)
    examples = {name: _example(data, name) for name in (*present, *inside.columns(data, present))}
    return Found(chosen, layout, [Problem(p.code, p.values, str(path), field_name=p.field_name) for p in wrong], examples)


def purpose_of(path: Path, **options: Any) -> Purpose:
    """Return what the rows of a path are most likely for; options as `look`."""
    return look(path, **options).purpose


def _example(rows: list[dict[str, Any]], column: str) -> str:
    return shown(next((v for row in rows if (v := inside.value(row, column)) is not None), None))
