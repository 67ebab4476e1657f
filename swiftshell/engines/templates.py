"""Decide how rows become text for a model: through its chat template, or, for a model without one, as plain text.

A template is never invented: a base model without one gets prompt and completion as they stand, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Turns = Sequence[Mapping[str, Any]]
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def has_markers(template: Any) -> bool:
    """Tell whether a chat template marks what the assistant says with a generation block."""
    text = template.get("default", "") if isinstance(template, dict) else template
    return bool(text) and _MARKERS.search(text) is not None


def training_template(tokenizer: Any) -> str | None:
    """Return the template that TRL trains with in place of this one, for families it knows; None for the others.

    Only used to mask the assistant's words; the artifact keeps the model's own template.
    """
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer)
    except ValueError:
        return None


def plain_row(data: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a row as plain strings, or None if it holds more than one user turn and its answers.

    `messages` of one user and one assistant turn become prompt and completion; `text` stays as it is.
    """
    if isinstance(data.get("text"), str):
        return {"text": data["text"]}
    out: dict[str, Any] = {}
    if "messages" in data:
        turns = data["messages"]
        if [t.get("role") for t in turns] != ["user", "assistant"]:
            return None
        data = {"prompt": turns[:1], "completion": turns[1:]}
    for key in ("prompt", "completion", "chosen", "rejected"):
        if key not in data:
            continue
        text = _single(data[key], "user" if key == "prompt" else "assistant")
        if text is None:
            return None
        out[key] = text
    return out | {key: data[key] for key in ("label", "probability", "weight") if key in data}


def _single(value: Any, role: str) -> str | None:
    if isinstance(value, str):
        return value
    if len(value) != 1 or value[0].get("role") != role or not isinstance(value[0].get("content"), str):
        return None
    text: str = value[0]["content"]
    return text


def last_turn(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a `messages` row as prompt (all but the last turn) and completion (the last turn)."""
    turns = list(data["messages"])
    rest = {k: v for k, v in data.items() if k in ("tools", "chat_template_kwargs", "images")}
    return {"prompt": turns[:-1], "completion": turns[-1:], **rest}
