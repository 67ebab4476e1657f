"""Say what a feedback log's columns tell about an answer: rules that a person wrote, or those that its columns suggest.

A rule is *explicit* where somebody meant to judge (a thumb, stars, an edit) and *implicit* where they only did something
(copied, read on, asked again). Only explicit ones are worth a whole label: behaviour follows position, habit and chance
too, and a wrong "desirable" does the most harm.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.data.expression import Expression, parse
from swiftshell.errors import fail

EXPLICIT_WEIGHT = 1.0
IMPLICIT_WEIGHT = 0.3  # measured gains from behaviour are a fraction of those from thumbs
_WEIGHT_LIMIT = 10.0
_WITH_WEIGHT = re.compile(
    r"^(?P<test>.*\S)\s*:\s*(?P<weight>[+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?)\s*$", re.DOTALL
)
EXPLICIT_COLUMNS = frozenset((
    "thumb", "thumbs", "thumb_up", "thumbs_up", "thumb_down", "thumbs_down", "vote", "votes", "upvote", "upvoted",
    "downvote", "downvoted", "rating", "stars", "like", "liked", "dislike", "disliked", "feedback", "reaction", "label",
    "is_preferred", "kto_tag", "评分", "评价", "点赞", "点踩", "赞", "踩",
))  # fmt: skip
_UP = ("['up', 'thumbs_up', 'thumbsup', 'thumb_up', 'like', 'liked', 'good', 'positive', 'upvote', '+1', "
       "'👍', '赞', '好', true, 1]")  # fmt: skip
_DOWN = ("['down', 'thumbs_down', 'thumbsdown', 'thumb_down', 'dislike', 'disliked', 'bad', 'negative', 'downvote', "
         "'👎', '踩', '差', false, 0, -1]")  # fmt: skip
_THUMBS = ("thumb", "thumbs", "vote", "feedback", "reaction", "评价")
_STARS = ("rating", "stars", "评分")
# Column → what it says by itself: the test, desirable, weight (None: the usual one).
_PLAIN: tuple[tuple[tuple[str, ...], bool, float | None], ...] = (
    (("thumbs_up", "thumb_up", "liked", "like", "upvoted", "upvote", "点赞", "赞"), True, None),
    (
        ("thumbs_down", "thumb_down", "disliked", "dislike", "downvoted", "downvote", "点踩", "踩"),
        False,
        None,
    ),
    (("copied", "copy", "copies", "复制"), True, None),
    (("saved", "bookmarked", "shared", "inserted", "accepted", "收藏"), True, None),
    (("clicked", "clicks", "click", "点击"), True, 0.2),
    (("regenerated", "regenerate", "regenerations", "retried", "retry", "重新生成"), False, None),
    (("reformulated", "rephrased", "abandoned", "stopped", "放弃"), False, None),
)
DWELL_Z = "dwell_z"
DWELL_ADJUSTED = "dwell_adjusted_s"
_LONG_READ = 0.5  # standard deviations above what is usual for an answer of that length


@dataclass(frozen=True)
class Signal:
    """One rule.

    Attributes:
        test: which rows it speaks of.
        desirable: what it says of their answers.
        weight: how much, in explicit labels.
        explicit: somebody meant to judge.
        name: what the report calls it; by default the test as written.
    """

    test: Expression
    desirable: bool
    weight: float
    explicit: bool
    name: str = ""

    @property
    def title(self) -> str:
        """Return what the report calls it."""
        return self.name or self.test.text


@dataclass(frozen=True)
class RulesFile:
    """What a mapping file says: rules, and our names of columns to the file's."""

    signals: tuple[Signal, ...]
    columns: Mapping[str, str] = field(default_factory=dict)


def signal_of(text: str, *, desirable: bool, flag: str, explicit: Collection[str] = ()) -> Signal:
    """Read `TEST` or `TEST : WEIGHT`.

    Args:
        text: what a person wrote.
        desirable: what the rule says of the rows it fits.
        flag: where they wrote it.
        explicit: columns that hold judgements, beside those known as such.

    Raises:
        SwiftshellError: it cannot be read.
    """
    weighed = _WITH_WEIGHT.match(text)
    test = parse(weighed["test"] if weighed else text, flag=flag)
    return _signal(test, desirable, weighed["weight"] if weighed else None, None, flag, explicit)


def rules_file(path: Path, explicit: Collection[str] = ()) -> RulesFile:
    """Read a mapping file (YAML or JSON): `columns:` and a list `rules:` of `{if, label, weight, explicit, name}`.

    Raises:
        SwiftshellError: it cannot be read, or holds something else; the entry is named.
    """
    import yaml

    try:
        held = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail("logs.rules_unreadable", path=str(path), why=error.strerror or str(error)) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise fail("logs.rules_unreadable", path=str(path), why=" ".join(str(error).split())) from None
    if not isinstance(held, Mapping) or not isinstance(held.get("rules"), list) or not held["rules"]:
        raise fail("logs.rules_shape", path=str(path))
    _only_known(held, ("rules", "columns"), path, "")
    columns = held.get("columns") or {}
    if not isinstance(columns, Mapping):
        raise fail("logs.rules_shape", path=str(path))
    signals = tuple(_entry(entry, n, path, explicit) for n, entry in enumerate(held["rules"], 1))
    return RulesFile(signals, {str(k): str(v) for k, v in columns.items()})


def suggested(present: Iterable[str], *, dwell: bool, values: Mapping[str, Sequence[Any]]) -> list[Signal]:
    """Return the rules that a log's columns suggest.

    Args:
        present: names of columns.
        dwell: it tells how long answers were looked at.
        values: some values of every column: numbers from 1 to 5 are stars.
    """
    names = list(present)
    found: list[Signal] = []

    def add(text: str, desirable: bool, weight: float | None, title: str = "") -> None:
        found.append(_signal(parse(text, flag="--rule"), desirable, weight, None, "--rule", (), title))

    for name in names:
        if not name.replace(".", "_").isidentifier():
            continue
        last = name.rpartition(".")[2].lower()
        if last in _THUMBS and not any(isinstance(v, dict | list) for v in values.get(name, ())):
            add(f"{name} in {_UP}", True, None, f"{name} 👍")
            add(f"{name} in {_DOWN}", False, None, f"{name} 👎")
        elif last in _STARS and _is_stars(values.get(name, ())):
            add(f"{name} >= 4", True, None)
            add(f"{name} <= 2", False, None)
        for known, desirable, weight in _PLAIN:
            if last in known and _is_yes_or_no(values.get(name, ())):
                add(name, desirable, weight)
    if dwell:
        add(f"{DWELL_Z} >= {_LONG_READ}", True, 0.2)
    return found


def _is_stars(values: Sequence[Any]) -> bool:
    try:
        return bool(values) and all(1 <= float(value) <= 5 for value in values)
    except (TypeError, ValueError):
        return False


def _is_yes_or_no(values: Sequence[Any]) -> bool:
    return all(isinstance(v, bool | int | float) or str(v).strip().casefold() in ("true", "false", "yes", "no", "0", "1", "")
               for v in values)  # fmt: skip


def _entry(entry: Any, number: int, path: Path, explicit: Collection[str]) -> Signal:
    flag = f"{path.name}: rules[{number}]"
    if not isinstance(entry, Mapping):
        raise fail("logs.rule_entry", flag=flag, found=type(entry).__name__)
    _only_known(entry, ("if", "label", "weight", "explicit", "name"), path, f"rules[{number}]")
    label = {"desirable": True, "undesirable": False, True: True, False: False}.get(
        entry.get("label", "desirable")
    )
    if label is None or not isinstance(entry.get("if"), str):
        raise fail("logs.rule_entry", flag=flag, found=", ".join(map(str, entry)))
    said = entry.get("explicit")
    if said is not None and not isinstance(said, bool):
        raise fail("logs.rule_entry", flag=flag, found=f"explicit: {said}")
    test = parse(entry["if"], flag=flag)
    return _signal(test, label, entry.get("weight"), said, flag, explicit, str(entry.get("name") or ""))


def _signal(test: Expression, desirable: bool, weight: Any, explicit: bool | None, flag: str,
            columns: Collection[str], name: str = "") -> Signal:  # fmt: skip
    judged = all(n in columns or n.rpartition(".")[2].lower() in EXPLICIT_COLUMNS for n in test.names)
    meant = judged if explicit is None else explicit
    if weight is None:
        return Signal(test, desirable, EXPLICIT_WEIGHT if meant else IMPLICIT_WEIGHT, meant, name)
    try:
        number = float(weight)
    except (TypeError, ValueError):
        number = 0.0
    if isinstance(weight, bool) or not 0.0 < number <= _WEIGHT_LIMIT:
        raise fail("logs.rule_weight", flag=flag, text=test.text, weight=weight, limit=f"{_WEIGHT_LIMIT:g}")
    return Signal(test, desirable, number, meant, name)


def _only_known(held: Mapping[Any, Any], known: Sequence[str], path: Path, where: str) -> None:
    from difflib import get_close_matches

    for name in held:
        if name not in known:
            near = get_close_matches(str(name), known, n=1)
            raise fail(
                "logs.rules_name", path=str(path), where=where or "-", name=name, near=(near or known)[0]
            )
