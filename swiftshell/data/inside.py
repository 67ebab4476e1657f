"""Look at what stands in columns: whether it fits a part that a name alone does not prove, and what lies deeper.

A column may be reached into: `input.messages` is the key `messages` of the objects in `input`, `output[0]` the first
item of the lists in `output`. A column of exactly that name comes first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from swiftshell.data.labels import infer_rule

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_LOOKED_AT = 50
# Objects beside the rows' own matter; what lies in them is about the row.
_ABOUT = ("meta", "metadata", "info", "extra", "extra_info")
_NESTED = ("messages", "prompt", "completion", "response", "chosen", "rejected", "label", "system", "tools",
           "question", "answer", "instruction", "output", "input", "query")
_PICTURES = (".jpg", ".jpeg", ".png", ".gif", ".webp", ".bmp")
# Names that mean something else in many files: such a column plays the part only if what stands in it fits.
_DOUBTFUL: Mapping[str, frozenset[str]] = {
    "messages": frozenset({"chat", "turns", "contents", "data"}),
    "prompt": frozenset({"inputs", "user", "human", "problem"}),
    "completion": frozenset({"target", "targets", "assistant", "solution", "caption", "captions"}),
    "chosen": frozenset({"accepted", "preferred", "better", "response_j", "preferred_output"}),
    "rejected": frozenset({"dispreferred", "worse", "response_k", "non_preferred_output"}),
    "label": frozenset({"tag", "preferred", "feedback", "liked", "thumb", "thumbs", "desirable"}),
    "images": frozenset({"file_name", "img", "image_path", "image_paths"}),
}


def plausible(part: str, wanted: str, column: str, head: Sequence[Mapping[str, Any]]) -> bool:
    """Tell whether a column may play a part: always, unless its name is doubtful and its values speak against it."""
    if wanted not in _DOUBTFUL.get(part, ()) or not head:
        return True
    values = [v for row in head[:_LOOKED_AT] if (v := value(row, column)) is not None]
    return bool(values) and _FITS[part](values)


def value(row: Mapping[str, Any], column: str) -> Any:
    """Return what a row has in a column, or deeper in one; None where there is nothing."""
    if column in row:
        return row[column]
    return _deeper(row, column)


def is_path(column: str) -> bool:
    """Tell whether a column's name may reach into another."""
    return "." in column or column.endswith("]")


def base_of(column: str) -> str:
    """Return the column that a path starts in."""
    return re.split(r"[.\[]", column, maxsplit=1)[0]


def _deeper(row: Mapping[str, Any], column: str) -> Any:
    base = base_of(column)
    found: Any = row.get(base)
    at = len(base)
    while at < len(column) and found is not None:
        step = _STEP.match(column, at)
        if step is None:
            return None
        at = step.end()
        if step[1] is not None:
            found = found.get(step[1]) if isinstance(found, Mapping) else None
        else:
            number = int(step[2])
            found = found[number] if isinstance(found, list) and number < len(found) else None
    return found


def columns(head: Sequence[Mapping[str, Any]], present: Sequence[str]) -> list[str]:
    """Return `column.key` for keys, of the objects that columns hold, that may play a part."""
    found: dict[str, None] = {}
    for name in present:
        if name.lower() in _ABOUT:
            continue
        for row in head[:_LOOKED_AT]:
            held = row.get(name)
            if isinstance(held, Mapping) and not {"role", "from"} & set(held):
                found |= {f"{name}.{k}": None for k, v in held.items() if k.lower() in _NESTED and v is not None}
    return list(found)


def two_answers(head: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str | None:
    """Return the column whose values are all lists of two texts: the better answer and the worse one."""
    for name in names:
        values = [v for row in head[:_LOOKED_AT] if (v := row.get(name)) is not None]
        if values and all(isinstance(v, list) and len(v) == 2 and all(isinstance(a, str) for a in v) for v in values):
            return name
    return None


def _spoken(values: list[Any]) -> bool:
    """Tell whether values are texts, turns or lists of turns."""
    return all(isinstance(v, str | list | Mapping) for v in values)


def _conversations(values: list[Any]) -> bool:
    """Tell whether values are lists of turns, of rounds or of sentences said in turn."""
    return all(
        isinstance(v, list) and v and (all(isinstance(x, Mapping | list) for x in v)
                                       or (len(v) > 1 and all(isinstance(x, str) for x in v)))
        for v in values
    )


def _verdicts(values: list[Any]) -> bool:
    """Tell whether values can be read as true and false, at least some."""
    plain = [v for v in values if not isinstance(v, list | Mapping)]
    rule = infer_rule(plain)
    return any(isinstance(rule.read(v), bool) for v in plain)


def _picture_names(values: list[Any]) -> bool:
    names = [n for v in values for n in (v if isinstance(v, list) else [v])]
    return all(isinstance(n, str) and n.lower().endswith(_PICTURES) for n in names)


_FITS: Mapping[str, Callable[[list[Any]], bool]] = {
    "messages": _conversations,
    "prompt": _spoken,
    "completion": _spoken,
    "chosen": _spoken,
    "rejected": _spoken,
    "label": _verdicts,
    "images": _picture_names,
}
