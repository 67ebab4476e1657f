"""Find out which columns play which part: detection by names, corrected by `columns:` and `format:`.

A `Layout` is decided once for a data set, from its first rows; rows that do not fit it are problems with a
place, never guesses.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data.row import Purpose
from swiftshell.errors import Problem

# For every part, the column names that are taken for it, the most telling first.
NAMES: dict[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog"),
    "prompt": ("prompt", "instruction", "query", "question", "input"),
    "completion": ("completion", "response", "output", "answer"),
    "chosen": ("chosen", "chosen_response", "chosen_messages"),
    "rejected": ("rejected", "rejected_response", "rejected_messages"),
    "label": (
        "label",
        "kto_tag",
        "is_preferred",
        "tag",
        "is_desirable",
        "desirable",
        "preferred",
        "thumbs_up",
        "thumbs",
        "thumb",
        "feedback",
        "liked",
    ),
    "score": ("score", "rating", "stars", "reward"),
    "probability": ("probability", "p_desirable", "prob", "soft_label", "soft_labels", "desirable_probability"),
    "weight": ("weight", "sample_weight", "row_weight", "w"),
    "text": ("text", "story", "document"),
    "input": ("input",),
    "system": ("system", "system_prompt"),
    "history": ("history",),
    "tools": ("tools",),
    "images": ("images", "image"),
    "reference": ("reference", "reference_answer", "ground_truth", "gold"),
    "rules": ("rules",),
    "lang": ("lang", "language"),
    "id": ("id", "prompt_id", "uid"),
}
ROLES = tuple(name for name in NAMES if name != "score")
# What the recipes of other tools call a part.
ALIASES = {"label_field": "label", "text_field": "completion", "response_field": "completion", "prompt_field": "prompt",
           "weight_field": "weight", "probability_field": "probability"}
# The answer column that belongs to a prompt column comes before the general order.
_PARTNERS = {
    "instruction": "output",
    "query": "response",
    "question": "answer",
    "prompt": "completion",
    "input": "output",
}
FORMATS = (
    "messages",
    "sharegpt",
    "prompt_completion",
    "alpaca",
    "query_response",
    "question_answer",
    "preference",
    "text",
)
_PROMPT_FORMATS = {
    "instruction": "alpaca",
    "input": "alpaca",
    "query": "query_response",
    "question": "question_answer",
}
_PROMPT_OF_FORMAT = {
    "alpaca": "instruction",
    "query_response": "query",
    "question_answer": "question",
    "prompt_completion": "prompt",
}
_HELD_OUT_ONLY = ("reference", "rules", "lang")


@dataclass(frozen=True)
class Layout:
    """The column of every part that a data set has, by part; `format` is the name of the whole."""

    format: str
    columns: Mapping[str, str] = field(default_factory=dict)

    def get(self, part: str) -> str | None:
        """Return the column that plays a part, or None."""
        return self.columns.get(part)


def present_columns(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the columns that are not null everywhere, in the order in which they appear."""
    found: dict[str, None] = {}
    for row in rows:
        for name, value in row.items():
            if value is not None:
                found[name] = None
    return list(found)


def detect(
    present: list[str],
    purpose: Purpose,
    *,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,  # noqa: A002
    rule: str | None = None,
) -> tuple[Layout | None, list[Problem]]:
    """Decide the layout of a data set.

    Args:
        present: columns that the rows have.
        purpose: what the rows are for; labels are looked for where they mean something.
        columns: part → column, said by a person; these come first.
        format: one of `FORMATS`, said by a person; narrows what is looked for.
        rule: the kind of label rule that was given. With a threshold a column of scores may be the label; with
            "probability" the label column is one of probabilities.

    Returns:
        the layout, or None with the problems that stand in its way.
    """
    mapping = {_own_name(part, purpose, present): name for part, name in (columns or {}).items()}
    if rule == "probability" and "probability" not in mapping and "label" in mapping:
        mapping["probability"] = mapping.pop("label")
    problems = [p for p in (_bad_mapping(part, name, present) for part, name in mapping.items()) if p]
    if format is not None and format not in FORMATS:
        near = next(iter(difflib.get_close_matches(format, FORMATS, n=1, cutoff=0.5)), "")
        values = {"format": format, "near": near, "known": ", ".join(FORMATS)}
        problems.append(
            Problem(
                "data.unknown_format_near" if near else "data.unknown_format", values, field_name="format"
            )
        )
    if problems:
        return None, problems
    names = {**NAMES, **_names_for(rule)}
    layout = _choose(present, purpose, mapping, format, names)
    missing = _missing(layout, purpose)
    if missing:
        values = {"purpose": purpose, "columns": ", ".join(present), "format": layout.format}
        return None, [Problem(missing, values, field_name="columns")]
    return layout, []


def _own_name(part: str, purpose: Purpose, present: list[str]) -> str:
    """Return our name of a part; the `text_field` of stories, which answer nothing, is the text itself."""
    if part == "text_field" and purpose in ("sft", "prompts") and not set(NAMES["prompt"]) & set(present):
        return "text"
    return ALIASES.get(part, part)


def _names_for(rule: str | None) -> dict[str, tuple[str, ...]]:
    if rule == "threshold":
        return {"label": (*NAMES["label"], *NAMES["score"])}
    if rule == "probability":
        return {"label": (), "probability": (*NAMES["probability"], *NAMES["label"], *NAMES["score"])}
    return {}


def _bad_mapping(part: str, column: str, present: list[str]) -> Problem | None:
    if part not in ROLES:
        near = next(iter(difflib.get_close_matches(part, ROLES, n=1, cutoff=0.5)), "")
        values = {"part": part, "near": near, "known": ", ".join(ROLES)}
        return Problem(
            "data.unknown_part_near" if near else "data.unknown_part", values, field_name=f"columns.{part}"
        )
    if column not in present:
        near = next(iter(difflib.get_close_matches(column, present, n=1, cutoff=0.5)), "")
        values = {"part": part, "column": column, "near": near, "columns": ", ".join(present)}
        return Problem(
            "data.column_absent_near" if near else "data.column_absent", values, field_name=f"columns.{part}"
        )
    return None


def _choose(
    present: list[str],
    purpose: Purpose,
    mapping: Mapping[str, str],
    format: str | None,  # noqa: A002
    names: Mapping[str, tuple[str, ...]],
) -> Layout:
    free = [name for name in present if name not in mapping.values()]
    found = dict(mapping)

    def look(part: str, *first: str) -> None:
        if part not in found:
            name = next((n for n in (*first, *names[part]) if n in free), None)
            if name is not None:
                found[part] = name
                free.remove(name)

    for part in ("chosen", "rejected") if format in (None, "preference") else ():
        look(part)
    asks = "prompt" in mapping
    if (
        format in (None, "messages", "sharegpt", "preference")
        and not asks
        and not _has_prompt_column(found, free)
    ):
        look("messages")
    if "messages" not in found and format != "text":
        look("prompt", *([_PROMPT_OF_FORMAT[format]] if format in _PROMPT_OF_FORMAT else []))
    partner = _PARTNERS.get(found.get("prompt", ""))
    look("completion", *([partner] if partner else []))
    if found.get("prompt") == "instruction":
        look("input")
    if not {"messages", "prompt", "chosen"} & set(found) or format == "text":
        look("text")
    for part in ("system", "history", "tools", "images", "id"):
        look(part)
    thumbs = "rejected" not in found and (purpose in ("kto", "dpo") or (purpose == "sft" and "chosen" not in found))
    if thumbs or (
        purpose == "heldout" and {"completion", "messages"} & set(found)
    ):
        look("label")
        if purpose != "sft":  # a number there is more often something else
            look("probability")
    if purpose == "kto" or (purpose == "dpo" and thumbs):
        look("weight")
    for part in _HELD_OUT_ONLY if purpose in ("heldout", "prompts") else ():
        look(part)
    return Layout(format or _name(found), found)


def _has_prompt_column(found: Mapping[str, str], free: list[str]) -> bool:
    """Tell whether the prompt has a column of its own beside the conversation, which is then a copy."""
    has_answer = {"chosen", "completion"} & set(found) or "completion" in free
    return "prompt" in free and bool(has_answer)


def _name(found: Mapping[str, str]) -> str:
    if "chosen" in found or "rejected" in found:
        return "preference"
    if "messages" in found:
        return "sharegpt" if found["messages"].startswith("conversation") else "messages"
    if "prompt" in found:
        return _PROMPT_FORMATS.get(found["prompt"], "prompt_completion")
    return "text"


def _missing(layout: Layout, purpose: Purpose) -> str | None:
    """Return the code of what the purpose needs and the layout lacks."""
    has = set(layout.columns)
    pair = "rejected" in has and bool({"chosen", "messages", "completion"} & has)
    answers = bool({"messages", "completion"} & has) and bool({"messages", "prompt"} & has)
    if purpose == "dpo":  # thumbs will do: their answers are paired
        return None if pair or (answers and {"label", "probability"} & has) else "data.no_pair"
    if purpose == "kto":
        if pair:
            return None
        return (
            "data.no_answer_column" if not answers else None if {"label", "probability"} & has else "data.no_label_column"
        )
    if purpose == "sft":
        return None if answers or pair or "text" in has or "chosen" in has else "data.no_answer_column"
    return None if {"messages", "prompt", "text", "chosen"} & has else "data.no_prompt_column"
