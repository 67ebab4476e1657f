"""Write converted rows in the forms of other tools, and lose nothing: every row is read back before it counts.

| form | sft | kto | dpo |
|---|---|---|---|
| messages | `messages` | `messages`, `label` | `messages`, `chosen`, `rejected` |
| sharegpt | `conversations`, `system` | and `kto_tag` | and `chosen`, `rejected` |
| alpaca | `instruction`, `input`, `output`, `system`, `history` | and `kto_tag` | `chosen` and `rejected` for `output` |
| kto, dpo | | `prompt`, `completion`, `label` | `prompt`, `chosen`, `rejected` |

What a form has no place for (a tool's turn in alpaca) refuses the row. Weights, probabilities, tools, images, ids and the
columns without a part keep their names; such a column whose name would be taken for a part becomes `source_<name>`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swiftshell.data.convert import Converter
from swiftshell.data.detect import detect, present_columns
from swiftshell.data.images import PLACEHOLDER, Pictures
from swiftshell.data.row import BadRow, Purpose, Row, Turn
from swiftshell.errors import Problem

Data = dict[str, Any]
FORMS = ("alpaca", "sharegpt", "messages", "kto", "dpo")
_SPEAKERS = {"user": "human", "assistant": "gpt", "tool": "observation", "system": "system"}
_HEAD_ROWS = 200  # what is looked at when a file is read
_EMPTY: Mapping[str, Any] = {"tools": [], "images": [], "system": "", "history": []}
_PASSED = ("weight", "probability", "id")
_PLAIN_TURN = {"role", "content"}


class NoPlace(Exception):
    """Say what of a row a form has no place for."""


class Exporter:
    """Write the rows of one data set in one form; `problems` are the rows that the form cannot hold."""

    def __init__(self, form: str, purpose: Purpose, folder: Path) -> None:
        self.problems: list[Problem] = []
        self._form, self._purpose, self._folder = form, purpose, folder
        makers: Mapping[str, Callable[[Data], Data]] = {
            "messages": _messages, "sharegpt": _sharegpt, "alpaca": _alpaca, "kto": _as_it_is, "dpo": _as_it_is,
        }
        self._make = makers[form]

    def rows(self, rows: Sequence[Row]) -> list[Data]:
        """Return the rows in the form; one that would not be the same when read again is a problem instead."""
        made = [(row, data) for row in rows if (data := self._row(row)) is not None]
        names = self._names([data for _, data in made], [row.extra for row, _ in made])
        written = [(row, {**data, **{names[k]: v for k, v in row.extra.items()}}) for row, data in made]
        _announce([data for _, data in written])
        converter, pictures = self._reader([data for _, data in written])
        kept = []
        for row, data in written:
            lost = "-" if converter is None else self._lost(row, data, converter, pictures)
            if lost is None:
                kept.append(data)
            else:
                self._complain(row, lost)
        return kept

    def _row(self, row: Row) -> Data | None:
        try:
            made = self._make(row.data)
        except NoPlace as error:
            self._complain(row, str(error))
            return None
        made |= {k: row.data[k] for k in _PASSED if k in row.data}
        if "tools" in row.data:
            made["tools"] = row.data["tools"] if self._form == "sharegpt" else json.loads(row.data["tools"])
        if "images" in row.data:
            made["images"] = [self._near(path) for path in row.data["images"]]
        return made

    def _near(self, path: str) -> str:
        """Return a picture's path as the new file can name it: relative where it lies below."""
        try:
            return str(Path(path).relative_to(self._folder))
        except ValueError:
            return path

    def _names(self, made: Sequence[Data], extras: Sequence[Data]) -> dict[str, str]:
        """Return for every column without a part the name under which it has none in the new file either."""
        own = present_columns(made)
        parts, _ = detect(own, self._purpose, head=made[:_HEAD_ROWS])
        meant = set(parts.columns.values()) if parts is not None else set()
        names = {name: name for extra in extras for name in extra}
        while True:
            both = [{**data, **{names[k]: v for k, v in extra.items()}}
                    for data, extra in zip(made[:_HEAD_ROWS], extras, strict=False)]
            layout, _ = detect([*own, *names.values()], self._purpose, head=both)
            taken = (set(layout.columns.values()) if layout is not None else set()) - meant | set(own)
            wrong = [name for name, new in names.items() if new in taken]
            if not wrong:
                return names
            for name in wrong:
                new = f"source_{names[name]}"
                while new in names.values() or new in own:
                    new = f"source_{new}"
                names[name] = new

    def _reader(self, written: Sequence[Data]) -> tuple[Converter | None, Pictures]:
        """Return what will read the new file."""
        layout, _ = detect(present_columns(written), self._purpose, head=written[:_HEAD_ROWS])
        if layout is None:
            return None, Pictures(None, self._purpose)
        return Converter(layout, self._purpose, lambda *_, **__: None), Pictures(layout.get("images"), self._purpose)

    def _lost(self, row: Row, written: Data, converter: Converter, pictures: Pictures) -> str | None:
        """Read a row back; return the part that is not the same."""
        try:
            read = [pictures.place(data, self._folder) for data in converter.rows(written)]
        except BadRow as bad:
            return bad.field_name or bad.code
        wanted, found = _plain(row.data), _plain(read[0])
        if len(read) != 1:
            return "-"
        return next((part for part in {**wanted, **found} if wanted.get(part) != found.get(part)), None)

    def _complain(self, row: Row, what: str) -> None:
        self.problems.append(
            Problem("detect.no_place", {"form": self._form, "what": what}, row.file, row.line, None, row.number)
        )


def _announce(written: Sequence[Data]) -> None:
    """Let the first row have every column that may be empty: the first rows decide which columns there are."""
    early = set(present_columns(written[:_HEAD_ROWS]))
    for name, empty in _EMPTY.items():
        if name not in early and any(name in data for data in written[_HEAD_ROWS:]):
            written[0][name] = empty


def write_rows(rows: Sequence[Data], path: Path) -> None:
    """Write rows as JSON lines, or as one JSON array where the name ends in .json; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            if path.suffix == ".json":
                json.dump(list(rows), file, ensure_ascii=False, indent=1)
                file.write("\n")
            else:
                file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


# ------------------------------------------------------------------------------------------------- the forms


def _as_it_is(data: Data) -> Data:
    if "prompt" not in data:
        raise NoPlace("text" if "text" in data else "messages")
    return {k: data[k] for k in ("prompt", "completion", "chosen", "rejected", "label") if k in data}


def _messages(data: Data) -> Data:
    if "messages" in data:
        return {"messages": data["messages"]}
    _need_prompt(data)
    prompt = data["prompt"]
    if "chosen" in data:
        return {_held(prompt): prompt, "chosen": data["chosen"], "rejected": data["rejected"]}
    label = {"label": data["label"]} if "label" in data else {}
    if len(data["completion"]) > 1 and label:  # the last turn alone would be read as the answer
        return {"messages": prompt, "completion": data["completion"], **label}
    return {"messages": [*prompt, *data["completion"]], **label}


def _sharegpt(data: Data) -> Data:
    talk = data["messages"] if "messages" in data else _need_prompt(data) + data.get("completion", [])
    system, turns = _system(talk, "chosen" not in data)
    made: Data = {"conversations": [_spoken(turn) for turn in turns], **system}
    for side in ("chosen", "rejected"):
        if side in data:
            said = [_spoken(turn) for turn in data[side]]
            made[side] = said[0] if len(said) == 1 else said
    return {**made, "kto_tag": data["label"]} if "label" in data else made


def _alpaca(data: Data) -> Data:
    talk = data["messages"] if "messages" in data else _need_prompt(data) + data.get("completion", [])
    system, turns = _system(talk, alone=True)
    pair = "chosen" in data
    texts = [_text(turn, ("user", "assistant")[n % 2]) for n, turn in enumerate(turns)]
    if len(texts) % 2 != (1 if pair else 0):
        raise NoPlace("role")
    asked = texts[-1] if pair else texts[-2]
    earlier = texts[:-1] if pair else texts[:-2]
    made: Data = {"instruction": asked, "input": ""}
    if pair:
        for side in ("chosen", "rejected"):
            if len(data[side]) != 1:
                raise NoPlace(side)
            made[side] = _text(data[side][0], "assistant")
    else:
        made["output"] = texts[-1]
    made |= system
    if earlier:
        made["history"] = [list(r) for r in zip(earlier[::2], earlier[1::2], strict=True)]
    return {**made, "kto_tag": data["label"]} if "label" in data else made


def _need_prompt(data: Data) -> list[Turn]:
    if "prompt" not in data:
        raise NoPlace("text")
    turns: list[Turn] = data["prompt"]
    return turns


def _held(prompt: list[Turn]) -> str:
    """Return the column of a prompt: a conversation that ends with an answer would be read as one with its answer."""
    return "prompt" if prompt[-1]["role"] == "assistant" else "messages"


def _system(turns: list[Turn], alone: bool) -> tuple[Data, list[Turn]]:
    """Take the system turn out in front, for a column of its own."""
    first = turns[0]
    if alone and first["role"] == "system" and len(turns) > 1 and set(first) == _PLAIN_TURN and first["content"]:
        return {"system": _text(first, "system")}, turns[1:]
    return {}, turns


def _text(turn: Turn, role: str) -> str:
    """Return what a plain turn of a role says.

    Raises:
        NoPlace: another speaks, or it is more than text.
    """
    if turn["role"] != role:
        raise NoPlace(f"role {turn['role']}")
    if more := set(turn) - _PLAIN_TURN:
        raise NoPlace(", ".join(sorted(more)))
    return _words(turn["content"])


def _words(content: Any) -> str:
    """Return content as text, pictures by their placeholder.

    Raises:
        NoPlace: it cannot be written so.
    """
    if isinstance(content, str):
        return content
    said = ""
    for part in content:
        if part["type"] == "text" and PLACEHOLDER not in part["text"]:
            said += part["text"]
        elif part["type"] == "image" and set(part) == {"type"}:
            said += PLACEHOLDER
        else:
            raise NoPlace(str(part["type"]))
    return said


def _spoken(turn: Turn) -> Data:
    """Return a turn as sharegpt writes it.

    Raises:
        NoPlace: it is more than that can say.
    """
    calls = turn.get("tool_calls")
    if more := set(turn) - _PLAIN_TURN - {"tool_calls"}:
        raise NoPlace(", ".join(sorted(more)))
    if not calls:
        return {"from": _SPEAKERS[turn["role"]], "value": _words(turn["content"])}
    if turn["content"] or any(set(c) != {"type", "function"} or set(c["function"]) != {"name", "arguments"} for c in calls):
        raise NoPlace("tool_calls")
    functions = [call["function"] for call in calls]
    return {"from": "function_call",
            "value": json.dumps(functions[0] if len(functions) == 1 else functions, ensure_ascii=False)}


# ------------------------------------------------------------------------------------------------- comparing


def _plain(data: Data) -> Data:
    """Return a row in the one form that all ways of writing it share: a prompt and its answer are one conversation."""
    plain = dict(data)
    if "messages" not in plain and "completion" in plain and "label" not in plain:
        plain["messages"] = [*plain.pop("prompt"), *plain.pop("completion")]
    if isinstance(plain.get("tools"), str):
        plain["tools"] = json.loads(plain["tools"])
    for part in ("messages", "prompt", "completion", "chosen", "rejected"):
        if part in plain:
            plain[part] = [{**turn, "content": _joined(turn["content"])} for turn in plain[part]]
    return {k: v for k, v in plain.items() if v is not None}


def _joined(content: Any) -> Any:
    """Put neighbouring texts of a turn together; where they were cut says nothing."""
    if not isinstance(content, list):
        return content
    parts: list[Data] = []
    for part in content:
        if parts and part.get("type") == parts[-1].get("type") == "text":
            parts[-1] = {"type": "text", "text": parts[-1]["text"] + part["text"]}
        elif part != {"type": "text", "text": ""}:
            parts.append(part)
    return parts
