"""Find out which columns play which part: by their names, and by what stands in them where a name says little.

A `Layout` is decided once for a data set, from its first rows; rows that do not fit it are problems with a
place, never guesses. `columns:` and `format:` of a person come before everything found here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data import inside
from swiftshell.data.parts import (
    ALIASES,
    CORE,
    FEW,
    FORMATS,
    HELD_OUT_ONLY,
    MAY_COME_LATE,
    NAMES,
    ONE_PICTURE,
    PARTNERS,
    PROMPT_FORMATS,
    PROMPT_OF_FORMAT,
    ROLES,
)
from swiftshell.data.row import Purpose
from swiftshell.errors import Problem


@dataclass(frozen=True)
class Layout:
    """The column of every part that a data set has, by part; `format` is the name of the whole.

    `known` are the columns that were looked at; a row further down that brings another is looked at anew.
    """

    format: str
    columns: Mapping[str, str] = field(default_factory=dict)
    known: frozenset[str] = frozenset()

    def get(self, part: str) -> str | None:
        """Return the column that plays a part, or None."""
        return self.columns.get(part)


def overlooked(layout: Layout, row: Mapping[str, Any], purpose: Purpose) -> tuple[str, str] | None:
    """Return the column of a row, and its part, that plays one and was not there when the layout was decided."""
    parts = [part for part in MAY_COME_LATE if part not in layout.columns]
    parts += ["weight"] if purpose == "kto" and "weight" not in layout.columns else []
    for name in row.keys() - layout.known:
        if row[name] in (None, "", []):
            continue
        for part in parts:
            if name.lower() in NAMES[part] and (part != "input" or layout.columns.get("prompt") == "instruction"):
                return name, part
    return None


def may_come_late(name: str) -> bool:
    """Tell whether a column that is empty so far could play a part once it is filled."""
    return any(name.lower() in NAMES[part] for part in (*MAY_COME_LATE, "weight"))


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
    head: Sequence[Mapping[str, Any]] = (),
) -> tuple[Layout | None, list[Problem]]:
    """Decide the layout of a data set.

    Args:
        present: columns that the rows have.
        purpose: what the rows are for; labels are looked for where they mean something.
        columns: part → column, said by a person; these come first. `name.key` and `name[0]` reach into a column.
        format: one of `FORMATS`, said by a person; narrows what is looked for.
        rule: the kind of label rule that was given. With a threshold a column of scores may be the label; with
            "probability" the label column is one of probabilities.
        head: the first rows. With them a column whose name may mean several things is looked at, and so are the
            insides of columns that hold objects.

    Returns:
        the layout, or None with the problems that stand in its way.
    """
    mapping = {_own_name(part, purpose, present): name for part, name in (columns or {}).items()}
    if rule == "probability" and "probability" not in mapping and "label" in mapping:
        mapping["probability"] = mapping.pop("label")
    problems = [p for p in (_bad_mapping(part, name, present, head) for part, name in mapping.items()) if p]
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
    # A stray row of another kind does not decide what the others are.
    layout = _Choice(present, purpose, mapping, format, names, head, rare=_rare(head, present)).layout()
    if _missing(layout, purpose):
        layout = _Choice(present, purpose, mapping, format, names, head).layout()
    missing = _missing(layout, purpose)
    if missing and (nested := inside.columns(head, present)):
        deeper = _Choice(present, purpose, mapping, format, names, head, nested).layout()
        if _missing(deeper, purpose) is None:
            return deeper, []
    if missing:
        values = {"purpose": purpose, "columns": ", ".join(present), "format": layout.format}
        return None, [Problem(missing, values, field_name="columns")]
    return layout, []


def find_purpose(
    present: list[str],
    *,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,  # noqa: A002
    rule: str | None = None,
    head: Sequence[Mapping[str, Any]] = (),
) -> Purpose:
    """Return what rows are most likely for: pairs for DPO, labels for KTO, answers for SFT, else prompts."""
    options: dict[str, Any] = {"columns": columns, "format": format, "rule": rule, "head": head}
    layout, _ = detect(present, "kto", **options)
    if layout is not None:
        return "dpo" if layout.get("rejected") else "kto"
    layout, _ = detect(present, "sft", **options)
    if layout is not None and not (layout.get("messages") and _only_asks(layout, head)):
        return "sft"
    layout, _ = detect(present, "heldout", **options)
    if layout is None:
        return "sft"  # whose complaint names the columns
    return "heldout" if {"reference", "rules"} & set(layout.columns) else "prompts"


def _rare(head: Sequence[Mapping[str, Any]], present: Sequence[str]) -> frozenset[str]:
    """Return the columns that few of the first rows have."""
    least = len(head) * FEW
    return frozenset(name for name in present if sum(row.get(name) is not None for row in head) < least)


def _only_asks(layout: Layout, head: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether the first conversations all end with a question."""
    if "completion" in layout.columns or "chosen" in layout.columns:
        return False
    talks = [inside.value(row, layout.columns["messages"]) for row in head]
    lists = [talk for talk in talks if isinstance(talk, list) and talk and isinstance(talk[-1], dict)]
    asks = [str(talk[-1].get("role", talk[-1].get("from"))).lower() in ("user", "human") for talk in lists]
    return bool(asks) and all(asks)


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


def _bad_mapping(part: str, column: str, present: list[str], head: Sequence[Mapping[str, Any]]) -> Problem | None:
    if part not in ROLES:
        near = next(iter(difflib.get_close_matches(part, ROLES, n=1, cutoff=0.5)), "")
        values = {"part": part, "near": near, "known": ", ".join(ROLES)}
        return Problem(
            "data.unknown_part_near" if near else "data.unknown_part", values, field_name=f"columns.{part}"
        )
    if column not in present and not any(inside.value(row, column) is not None for row in head):
        near = next(iter(difflib.get_close_matches(column, present, n=1, cutoff=0.5)), "")
        values = {"part": part, "column": column, "near": near, "columns": ", ".join(present)}
        return Problem(
            "data.column_absent_near" if near else "data.column_absent", values, field_name=f"columns.{part}"
        )
    return None


class _Choice:
    """Give every part its column; a column plays one part."""

    def __init__(
        self,
        present: list[str],
        purpose: Purpose,
        mapping: Mapping[str, str],
        format: str | None,  # noqa: A002
        names: Mapping[str, tuple[str, ...]],
        head: Sequence[Mapping[str, Any]],
        nested: Sequence[str] = (),
        rare: frozenset[str] = frozenset(),
    ) -> None:
        self.rare, self.present = rare, frozenset(present)
        self.nested = [name for name in nested if name not in mapping.values()]
        self.purpose, self.format, self.names, self.head = purpose, format, names, head
        self.found = dict(mapping)
        self.free = [name for name in present if name not in mapping.values()]

    def layout(self) -> Layout:
        """Return what was found."""
        self._pairs()
        self._question_and_answer()
        for part in ("system", "history", "tools", "images", "id"):
            self._look(part)
        self._captions()
        self._verdicts()
        for part in HELD_OUT_ONLY if self.purpose in ("heldout", "prompts") else ():
            self._look(part)
        return Layout(self.format or _name(self.found), self.found, self.present)

    def _look(self, part: str, *first: str) -> None:
        if part in self.found:
            return
        for wanted in (*first, *self.names[part]):
            name = self._free(wanted, part in CORE)
            if name is not None and inside.plausible(part, wanted, name, self.head):
                self.found[part] = name
                (self.free if name in self.free else self.nested).remove(name)
                return

    def _free(self, wanted: str, core: bool = False) -> str | None:
        """Return the column of a name that plays no part yet: as it is, in other letters, inside of another."""
        left_out = self.rare if core else frozenset()
        if wanted in self.free and wanted not in left_out:
            return wanted
        same = (name for name in self.free if name.lower() == wanted and name not in left_out)
        return next(same, next((name for name in self.nested if name.lower().endswith(f".{wanted}")), None))

    def _pairs(self) -> None:
        if self.format not in (None, "preference"):
            return
        for part in ("chosen", "rejected"):
            self._look(part)
        if not {"chosen", "rejected"} & set(self.found):
            both = inside.two_answers(self.head, [n for n in self.free if n.lower() in NAMES["completion"]])
            if both is not None:
                self.free.remove(both)
                self.found |= {"chosen": f"{both}[0]", "rejected": f"{both}[1]"}

    def _question_and_answer(self) -> None:
        found, format_ = self.found, self.format
        asks = "prompt" in found or _has_prompt_column(found, [n for n in self.free if n not in self.rare])
        if format_ in (None, "messages", "sharegpt", "preference") and not asks:
            self._look("messages")
        if "messages" not in found and format_ != "text":
            first = [PROMPT_OF_FORMAT[format_]] if format_ in PROMPT_OF_FORMAT else []
            # "user" is a name or a number in most files; beside "assistant" it is what was asked.
            self._look("prompt", *first, *(("user", "human") if self._free("assistant") else ()))
        prompt = found.get("prompt", "").lower()
        partner = PARTNERS.get(prompt)
        self._look("completion", *([partner] if partner else []))
        if prompt == "instruction":
            self._look("input")
        if not {"messages", "prompt", "chosen"} & set(found) or format_ == "text":
            self._look("text")

    def _captions(self) -> None:
        """Take the text beside a picture for what is said of it, where nothing is asked."""
        found = self.found
        if found.get("images") in ONE_PICTURE and "text" in found and "completion" not in found:
            found["completion"] = found.pop("text")
        elif "text" in found and "images" not in found and not {"messages", "prompt", "chosen"} & set(found):
            found.pop("completion", None)  # an answer to nothing

    def _verdicts(self) -> None:
        found, purpose = self.found, self.purpose
        thumbs = "rejected" not in found and (purpose in ("kto", "dpo") or (purpose == "sft" and "chosen" not in found))
        if thumbs or (purpose == "heldout" and {"completion", "messages"} & set(found)):
            self._look("label")
            if purpose != "sft":  # a number there is more often something else
                self._look("probability")
        if purpose == "kto" or (purpose == "dpo" and thumbs):
            self._look("weight")


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
        return PROMPT_FORMATS.get(found["prompt"].lower(), "prompt_completion")
    return "captions" if {"images", "completion"} <= set(found) else "text"


def _missing(layout: Layout, purpose: Purpose) -> str | None:
    """Return the code of what the purpose needs and the layout lacks."""
    has = set(layout.columns)
    pair = "rejected" in has and bool({"chosen", "messages", "completion"} & has)
    asked = {"messages", "prompt"} & has or {"images", "completion"} <= has
    answers = bool({"messages", "completion"} & has) and bool(asked)
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
