"""Name what the data package passes around: rows with their place, turns, and complaints about one row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Purpose = Literal["sft", "kto", "dpo", "prompts", "heldout"]
PURPOSES: tuple[Purpose, ...] = ("sft", "kto", "dpo", "prompts", "heldout")

# {"role": "user", "content": "…"}, and whatever else the source gave (tool_calls, name …)
Turn = dict[str, Any]
_JSON_TYPES = {
    dict: "object",
    list: "array",
    str: "string",
    bool: "boolean",
    int: "number",
    float: "number",
    type(None): "null",
}


@dataclass(slots=True)
class Row:
    """One row with its place in the source.

    Attributes:
        number: data row, counted from 1 in its file (a CSV header is not a row).
        line: first line of the row in the file, counted from 1; None where a format has no lines (Parquet).
        data: as read from the file, or after conversion in TRL's conversational form.
        file: the file it came from.
        extra: columns that play no part in training, as they were (source model, difficulty, timestamps …).
    """

    number: int
    line: int | None
    data: dict[str, Any]
    file: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class BadRow(Exception):
    """Raise from a conversion step for a row that cannot be used: catalogue code, column and values found."""

    def __init__(self, code: str, field_name: str | None = None, **values: Any) -> None:
        self.code = code
        self.field_name = field_name
        self.values: Mapping[str, Any] = values
        super().__init__(code)


def shown(value: Any, limit: int = 60) -> str:
    """Return a value as it may stand in a message: JSON-like, on one line, cut to `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def type_name(value: Any) -> str:
    """Return the JSON name of a value's type: string, number, boolean, object, array or null."""
    return _JSON_TYPES.get(type(value), type(value).__name__)


def text_of(content: Any) -> str:
    """Return the text of a turn's content: the string itself, or the text parts of a multimodal list."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    return ""
