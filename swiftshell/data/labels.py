"""Read labels by a rule that is decided over the whole column and can be shown, never by accident.

{0, 1} and {1, -1} look alike row by row; over the column they do not. Words (yes/no, good/bad, 👍/👎, 是/否 …)
have a fixed table. Numbers that are neither are scores: they need a `label_rule` with a threshold. Everything
else is refused with its rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data.row import shown
from swiftshell.errors import Problem, fail

DESIRABLE_WORDS = frozenset(
    [
        "true",
        "yes",
        "y",
        "t",
        "good",
        "desirable",
        "positive",
        "pos",
        "like",
        "liked",
        "up",
        "thumbs_up",
        "thumbsup",
        "thumb_up",
        "accept",
        "accepted",
        "chosen",
        "preferred",
        "correct",
        "right",
        "win",
        "👍",
        "✅",
        "✔",
        "✓",
        "是",
        "好",
        "对",
        "真",
        "正",
        "赞",
        "喜欢",
        "满意",
        "正确",
        "好评",
        "点赞",
        "有用",
        "接受",
    ]
)
UNDESIRABLE_WORDS = frozenset(
    [
        "false",
        "no",
        "n",
        "f",
        "bad",
        "undesirable",
        "negative",
        "neg",
        "dislike",
        "disliked",
        "down",
        "thumbs_down",
        "thumbsdown",
        "thumb_down",
        "reject",
        "rejected",
        "incorrect",
        "wrong",
        "lose",
        "👎",
        "❌",
        "✘",
        "✗",
        "否",
        "坏",
        "差",
        "错",
        "假",
        "负",
        "踩",
        "不好",
        "不喜欢",
        "不满意",
        "错误",
        "差评",
        "没用",
        "拒绝",
    ]
)


@dataclass(frozen=True)
class Rule:
    """How the values of one label column are read.

    Attributes:
        kind: boolean, zero_one, plus_minus_one, words, threshold, listed, mixed, or probability (the column then
            plays the part `probability`, so nothing is read by the rule itself).
        threshold: with kind threshold, the least score of a desirable answer.
        table: with kind listed, normalised value → label.
    """

    kind: str
    threshold: float | None = None
    table: Mapping[Any, bool] = field(default_factory=dict)

    def read(self, value: Any) -> bool | Problem:
        """Return the label, or the problem (without a place) that this value is."""
        plain = normalise(value)
        if plain is None:
            return Problem("data.label_missing")
        if self.kind == "listed":
            found = self.table.get(plain)
            return found if found is not None else Problem("data.label_not_listed", {"value": shown(value)})
        if self.kind == "threshold":
            if isinstance(plain, bool) or not isinstance(plain, int | float):
                return Problem("data.label_not_score", {"value": shown(value)})
            return plain >= (self.threshold or 0.0)
        if isinstance(plain, bool):
            return plain
        if isinstance(plain, str):
            if plain in DESIRABLE_WORDS or plain in UNDESIRABLE_WORDS:
                return plain in DESIRABLE_WORDS
            return Problem("data.label_unknown", {"value": shown(value)})
        return self._number(plain, value)

    def _number(self, plain: float, value: Any) -> bool | Problem:
        if plain == 1:
            return True
        negative = -1 if self.kind == "plus_minus_one" else 0
        if plain == negative:
            return False
        if self.kind == "plus_minus_one" and plain == 0:
            return Problem("data.label_neither", {"value": shown(value)})
        return Problem("data.label_score", {"value": shown(value)})


def normalise(value: Any) -> Any:
    """Return a label without accidents of storage: "1.0" → 1, " Yes" → "yes", NaN, "" and null → None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        text = value.strip().casefold()
        number = _number(text)
        return number if number is not None else (text.replace("️", "") or None)
    if isinstance(value, int | float):
        if not math.isfinite(value):
            return None if math.isnan(value) else shown(value)
        return int(value) if value == int(value) else value
    return shown(value)  # a list or an object: never a label


def _number(text: str) -> int | float | None:
    if not text or not (text[-1].isdigit() or text[-1] == "."):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    if not math.isfinite(number):
        return None
    return int(number) if number == int(number) else number


def parse_rule(label_rule: Mapping[str, Any] | None) -> Rule | None:
    """Return the rule that a person wrote.

    One of {"threshold": 3.5}, {"probability": true} and {"desirable": […], "undesirable": […]}.

    Raises:
        SwiftshellError: the rule is neither, or contradicts itself.
    """
    if not label_rule:
        return None
    keys = set(label_rule)
    if keys == {"probability"} and label_rule["probability"] is True:
        return Rule("probability")
    if keys == {"threshold"}:
        threshold = label_rule["threshold"]
        if (
            isinstance(threshold, bool)
            or not isinstance(threshold, int | float)
            or not math.isfinite(threshold)
        ):
            raise fail(
                "data.bad_label_rule", value=shown(dict(label_rule)), field_name="label_rule.threshold"
            )
        return Rule("threshold", threshold=float(threshold))
    sides = {side: label_rule.get(side) for side in ("desirable", "undesirable")}
    if keys != set(sides) or not all(
        isinstance(values, list | tuple) and values for values in sides.values()
    ):
        raise fail("data.bad_label_rule", value=shown(dict(label_rule)), field_name="label_rule")
    table: dict[Any, bool] = {}
    for side, values in sides.items():
        for value in values or ():
            plain = normalise(value)
            if plain is None or table.setdefault(plain, side == "desirable") != (side == "desirable"):
                raise fail(
                    "data.bad_label_rule", value=shown(dict(label_rule)), field_name=f"label_rule.{side}"
                )
    return Rule("listed", table=table)


def read_probability(value: Any) -> float | Problem | None:
    """Return a probability from 0 to 1, None where there is none, or the problem (without a place) that it is."""
    plain = _soft(value)
    if plain is None or isinstance(plain, Problem):
        return plain
    if not 0.0 <= plain <= 1.0:
        percent = 1.0 < plain <= 100.0
        code = "data.probability_percent" if percent else "data.probability_range"
        return Problem(code, {"value": shown(value)})
    return plain


def read_weight(value: Any) -> float | Problem | None:
    """Return a weight, 0 or more, None where there is none, or the problem (without a place) that it is."""
    plain = _soft(value)
    if plain is None or isinstance(plain, Problem):
        return plain if plain is None else Problem("data.weight_not_number", plain.values)
    return plain if plain >= 0.0 else Problem("data.weight_negative", {"value": shown(value)})


def _soft(value: Any) -> float | Problem | None:
    """Return a number; NaN and infinity are no numbers here, though storage may hold them."""
    plain = value.strip() if isinstance(value, str) else value
    if plain is None or plain == "":
        return None
    number = _number(plain.casefold()) if isinstance(plain, str) else plain
    if isinstance(number, bool):
        number = int(number)
    if not isinstance(number, int | float) or not math.isfinite(number):
        return Problem("data.probability_not_number", {"value": shown(value)})
    return float(number)


def infer_rule(values: Iterable[Any]) -> Rule:
    """Return the rule that the column's distinct values speak for. What it cannot read it will refuse row by row."""
    plain = {(type(v) is bool, v) for v in map(normalise, values) if v is not None}
    has_booleans = any(is_bool for is_bool, _ in plain)
    numbers = {v for is_bool, v in plain if not is_bool and isinstance(v, int | float)}
    has_words = any(isinstance(v, str) for _, v in plain)
    if -1 in numbers:
        return Rule("plus_minus_one")
    kinds = [
        k
        for k, there in (("boolean", has_booleans), ("zero_one", bool(numbers)), ("words", has_words))
        if there
    ]
    return Rule(kinds[0] if len(kinds) == 1 else "mixed" if kinds else "boolean")
