"""Decide how rows become text for a model: through its chat template, or, for a model without one, as plain text.

A template is never invented: a base model without one gets prompt and completion as they stand, one after the other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

Turns = Sequence[Mapping[str, Any]]
_MASKS_CHECKED = 32  # conversations on which the mask of a template is judged
_TELLING = 4  # shorter turns ("ok") may stand inside an answer by chance
_MARKERS = re.compile(r"\{%-?\s*generation\s*-?%\}")


def has_markers(template: Any) -> bool:
    """Tell whether a chat template marks what the assistant says with a generation block."""
    text = template.get("default", "") if isinstance(template, dict) else template
    return bool(text) and _MARKERS.search(text) is not None


def training_template(tokenizer: Any) -> str | None:
    """Return the template that TRL trains with in place of this one, for families it knows; None for the others.

    Only used to mask the assistant's words; the artifact keeps the model's own template. A template with markers of its
    own is trained with as it is.
    """
    if has_markers(tokenizer.chat_template):
        return None
    from trl.chat_template_utils import get_training_chat_template

    try:
        return get_training_chat_template(tokenizer)
    except ValueError:
        return None


def mask_fault(tokenizer: Any, template: str | None, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what is wrong with the mask of the assistant's words, judged on conversations at hand; None if it is right.

    A template may carry markers that miss an answer ("missing"), take in what others say ("more"), or leave the token
    that ends the answer outside ("stop"), so that a model would never learn to stop. TRL trains on all of these.
    """
    for row in rows[:_MASKS_CHECKED]:
        turns = row["messages"]
        if not all(isinstance(t.get("content"), str) for t in turns):
            continue
        encoded = tokenizer.apply_chat_template(
            turns, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, chat_template=template
        )
        fault = _fault_of(tokenizer, turns, list(encoded["input_ids"]), list(encoded["assistant_masks"]))
        if fault:
            return fault
    return None


def _fault_of(tokenizer: Any, turns: Turns, ids: list[int], mask: list[int]) -> str | None:
    learned = " ".join(tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if m]).split())
    rest, at = "", 0
    for turn in turns:
        if turn["role"] != "assistant":
            continue
        # Templates may drop the reasoning of earlier answers; what follows it must be there.
        wordings = _wordings(turn["content"])
        if not wordings:  # a turn that only calls tools
            continue
        found = next((w for w in wordings if learned.find(w, at) >= 0), None)
        if found is None:
            return "missing"
        rest, at = rest + learned[at : learned.find(found, at)] + " ", learned.find(found, at) + len(found)
    rest += learned[at:]
    others = (" ".join(t["content"].split()) for t in turns if t["role"] != "assistant")
    if any(len(said) >= _TELLING and said in rest for said in others):
        return "more"
    ending = set(tokenizer.get_added_vocab().values())
    ends = [n for n in range(1, len(ids)) if mask[n - 1] and not mask[n]]
    return "stop" if any(ids[n] in ending and not _ends_within(ids, mask, n, ending) for n in ends) else None


def _ends_within(ids: Sequence[int], mask: Sequence[int], end: int, ending: set[int]) -> bool:
    """Tell whether the run of masked tokens before `end` holds a token that ends a turn."""
    start = end
    while start and mask[start - 1]:
        start -= 1
    return any(i in ending for i in ids[start:end])


def _wordings(content: str) -> list[str]:
    return [w for w in (" ".join(text.split()) for text in (content, content.rpartition("</think>")[2])) if w]


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
