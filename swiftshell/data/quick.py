"""Judge the rows that are as they should be at a glance, which nearly all are: a tenth of the time of converting them.

A judge says True after counting a row exactly as conversion would have, and False for every row that it does not know
to be plain: that one is then converted, which finds what is wrong with it. So a judge may refuse what it likes, but
never accept what conversion would complain of. `tests/data/test_scale.py` holds both to the same report.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import xxhash

from swiftshell.data import inside
from swiftshell.data.detect import Layout
from swiftshell.data.row import Purpose
from swiftshell.data.stretch import Stretch

Judge = Callable[[dict[str, Any]], bool]
Said = tuple[str, list[str], int]  # role of the last turn, pieces of the key, characters

_ROLES = {"system": "system", "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant"}
# Who may speak after whom, for a conversation that no chat template minds.
_BEFORE = {"system": ("",), "user": ("", "system", "assistant"), "assistant": ("user",)}
_EMPTY_OR_SLOW = ("history", "tools")
_NO_QUICK = ("images", "reference", "rules", "lang")
_LARGEST_WEIGHT = 1e300
_digest = xxhash.xxh3_64_digest


def quick_judge(
    layout: Layout, purpose: Purpose, stretch: Stretch, sample: Mapping[str, Any], *, judged: bool
) -> Judge | None:
    """Return the judge of a layout's rows that counts into a stretch; None for layouts that are always converted.

    Args:
        layout: which column plays which part.
        purpose: sft, kto or dpo; others are always converted.
        stretch: where rows are counted.
        sample: a row, for the keys of its turns.
        judged: the rows carry labels.
    """
    columns = layout.columns
    if purpose not in ("sft", "kto", "dpo") or any(part in columns for part in _NO_QUICK):
        return None
    if any(inside.is_path(column) for column in columns.values()):
        return None
    if "text" in columns:
        return _texts(columns, stretch) if purpose == "sft" else None
    turns = _Turns(columns, sample)
    count = _counter(columns, stretch, judged=judged)
    if "chosen" in columns or "rejected" in columns:
        whole = "chosen" in columns and "prompt" in columns and ("rejected" in columns or purpose == "sft")
        if whole and "probability" not in columns:
            return _pairs(turns, columns, purpose, count)
        return None
    if "completion" in columns:
        return _prompted(turns, columns, count) if {"prompt", "messages"} & set(columns) else None
    if "messages" in columns:
        return _whole(turns, columns, stretch) if purpose == "sft" else _talks(turns, columns, count)
    return None


class _Turns:
    """Read values as plain turns; None for whatever is not that plain."""

    def __init__(self, columns: Mapping[str, str], sample: Mapping[str, Any]) -> None:
        self._must_be_empty = tuple(columns[part] for part in _EMPTY_OR_SLOW if part in columns)
        self._system = columns.get("system")
        self._input = columns.get("input")
        self._role, self._content = _keys_of(sample, columns)

    def start(self, row: dict[str, Any], part: str) -> tuple[str, list[str], int] | None:
        """Return what stands before the first turn: nothing, or the system prompt of its column."""
        for column in self._must_be_empty:
            if row.get(column):
                return None
        if self._system is None:
            return "", [part], 0
        system = row.get(self._system)
        if not system:
            return ("", [part], 0) if system in (None, "") else None
        return ("system", [part, "system", system], len(system)) if type(system) is str else None

    def conversation(self, row: dict[str, Any], column: str, part: str) -> tuple[str, list[str], int, int] | None:
        """Return the last role, the pieces, all characters, and those of the last turn."""
        turns = row.get(column)
        begun = self.start(row, part)
        if type(turns) is not list or begun is None:
            return None
        before, pieces, chars = begun
        role_key, content_key = self._role, self._content
        last = 0
        try:
            for turn in turns:
                if len(turn) != 2:
                    return None
                role = _ROLES[turn[role_key]]
                if before not in _BEFORE[role]:
                    return None
                before = role
                content = turn[content_key]
                pieces += (role, content)
                last = len(content)
                chars += last
        except (KeyError, TypeError):
            return None
        return before, pieces, chars, last

    def question(self, row: dict[str, Any], column: str) -> tuple[list[str], int] | None:
        """Return the pieces and characters of a prompt: a text, with the alpaca form's input, or turns."""
        value = row.get(column)
        if type(value) is not str:
            if self._input is not None and row.get(self._input):
                return None
            found = self.conversation(row, column, "prompt")
            if found is None or found[0] != "user" or not _plain(found[1][-1]):
                return None
            return found[1], found[2]
        if self._input is not None and (more := row.get(self._input)) not in (None, ""):
            if type(more) is not str or not value:
                return None
            value = f"{value}\n{more}"
        begun = self.start(row, "prompt")
        if begun is None or not _plain(value):
            return None
        _, pieces, chars = begun
        pieces += ("user", value)
        return pieces, chars + len(value)

    def answer(self, row: dict[str, Any], column: str, prompt: list[str]) -> str | None:
        """Return the text of an answer: a string, one assistant turn, or the prompt's own turns and one more."""
        value = row.get(column)
        if type(value) is list:
            found = self._last(value, prompt)
            return found if found is not None and type(found) is str and found and not found.isspace() else None
        return value if type(value) is str and _plain(value) else None

    def _last(self, turns: list[Any], prompt: list[str]) -> Any:
        try:
            said = [(_ROLES[turn[self._role]], turn[self._content]) for turn in turns if len(turn) == 2]
        except (KeyError, TypeError):
            return None
        if len(said) != len(turns) or not said or said[-1][0] != "assistant":
            return None
        before = [piece for pair in said[:-1] for piece in pair]
        return said[-1][1] if not before or before == prompt[1:] else None


def _keys_of(sample: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[str, str]:
    """Return the names of a turn's role and content in a sample row."""
    for part in ("messages", "prompt", "completion", "chosen", "rejected"):
        value = sample.get(columns.get(part, ""))
        if isinstance(value, list) and value and isinstance(value[0], dict) and "from" in value[0]:
            return "from", "value"
    return "role", "content"


def _plain(text: Any) -> bool:
    """Tell whether a text is one, says something, and holds no turns as JSON."""
    return type(text) is str and bool(text) and not text.isspace() and not text.startswith("[{")


def _encodable(text: str) -> bool:
    """Tell whether a text holds no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _counter(columns: Mapping[str, str], stretch: Stretch, *, judged: bool) -> Callable[..., bool]:
    """Return what counts one converted row: its key's pieces, lengths, and label (from the row, or as given)."""
    label_column, soft, weight_column = columns.get("label"), columns.get("probability"), columns.get("weight")
    number, add_label = stretch.values.number, stretch.labels.append
    keys, prompt_chars, answer_chars = stretch.keys, stretch.prompt_chars, stretch.answer_chars

    def count(
        row: dict[str, Any], pieces: list[str], asked: int, answered: tuple[int, ...], given: bool | None = None
    ) -> bool:
        probability = weight = 1.0
        if soft is not None:
            probability = row.get(soft)  # type: ignore[assignment]
            if type(probability) is not float or not 0.0 <= probability <= 1.0:
                return False
        if weight_column is not None:
            weight = row.get(weight_column)  # type: ignore[assignment]
            if type(weight) not in (float, int) or not 0.0 <= weight < _LARGEST_WEIGHT:
                return False
        try:
            key = _digest("\0".join(pieces).encode())
        except (TypeError, UnicodeEncodeError):
            return False
        keys.extend(key)
        stretch.usable += 1
        if judged:
            add_label(number(given if given is not None else row.get(label_column) if label_column else None))
        if soft is not None:
            stretch.weigh(stretch.probabilities, probability)
        if weight_column is not None:
            stretch.weigh(stretch.weights, weight)
        prompt_chars.append(asked)
        for length in answered:
            answer_chars.append(length)
        return True

    return count


def _texts(columns: Mapping[str, str], stretch: Stretch) -> Judge:
    """Texts that answer nothing."""
    column = columns["text"]

    def judge(row: dict[str, Any]) -> bool:
        text = row.get(column)
        if type(text) is not str or not text or text.isspace():
            return False
        try:
            stretch.keys.extend(_digest(f"text\0{text}".encode()))
        except UnicodeEncodeError:
            return False
        stretch.usable += 1
        stretch.answer_chars.append(len(text))
        return True

    return judge


def _whole(turns: _Turns, columns: Mapping[str, str], stretch: Stretch) -> Judge:
    """SFT on whole conversations."""
    column, conversation = columns["messages"], turns.conversation
    keys, prompt_chars, answer_chars = stretch.keys, stretch.prompt_chars.append, stretch.answer_chars.append

    def judge(row: dict[str, Any]) -> bool:
        found = conversation(row, column, "messages")
        if found is None or found[0] != "assistant":
            return False
        _, pieces, chars, last = found
        answer = pieces[-1]
        try:
            if not answer or answer.isspace():
                return False
            keys.extend(_digest("\0".join(pieces).encode()))
        except (TypeError, AttributeError, UnicodeEncodeError):
            return False
        stretch.usable += 1
        prompt_chars(chars - last)
        answer_chars(last)
        return True

    return judge


def _talks(turns: _Turns, columns: Mapping[str, str], count: Callable[..., bool]) -> Judge:
    """Conversations whose last answer was judged."""
    column = columns["messages"]

    def judge(row: dict[str, Any]) -> bool:
        found = turns.conversation(row, column, "prompt")
        if found is None or found[0] != "assistant":
            return False
        _, pieces, chars, last = found
        answer = pieces[-1]
        if type(answer) is not str or not answer or answer.isspace():
            return False
        pieces.insert(-2, "completion")
        return count(row, pieces, chars - last, (last,))

    return judge


def _prompted(turns: _Turns, columns: Mapping[str, str], count: Callable[..., bool]) -> Judge:
    """Prompt and completion in columns of their own."""
    asked, answered = columns.get("prompt") or columns["messages"], columns["completion"]

    def judge(row: dict[str, Any]) -> bool:
        question = turns.question(row, asked)
        if question is None:
            return False
        pieces, chars = question
        answer = turns.answer(row, answered, pieces)
        if answer is None:
            return False
        pieces += ("completion", "assistant", answer)
        return count(row, pieces, chars, (len(answer),))

    return judge


def _pairs(turns: _Turns, columns: Mapping[str, str], purpose: Purpose, count: Callable[..., bool]) -> Judge:
    """A prompt and two answers, of which SFT imitates one and KTO judges both."""
    asked, good, bad = columns["prompt"], columns["chosen"], columns.get("rejected", "")

    def judge(row: dict[str, Any]) -> bool:
        question = turns.question(row, asked)
        if question is None:
            return False
        pieces, chars = question
        chosen = turns.answer(row, good, pieces)
        if chosen is None:
            return False
        if purpose == "sft":
            return count(row, [*pieces, "completion", "assistant", chosen], chars, (len(chosen),))
        rejected = turns.answer(row, bad, pieces)
        if rejected is None or rejected == chosen:
            return False
        if purpose == "dpo":
            both = [*pieces, "chosen", "assistant", chosen, "rejected", "assistant", rejected]
            return count(row, both, chars, (len(chosen), len(rejected)))
        sides = [[*pieces, "completion", "assistant", text] for text in (chosen, rejected)]
        if not _encodable(rejected) or not count(row, sides[0], chars, (len(chosen),), True):
            return False
        return count(row, sides[1], chars, (len(rejected),), False)

    return judge
