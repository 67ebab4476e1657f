"""Score answers by looking at them: equal to the reference, the same number, not too short or long, not repeating itself."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swiftshell.data.rules import check_rules, judge
from swiftshell.data.scorers.base import Answer, FileFacts
from swiftshell.data.scorers.words import words
from swiftshell.errors import Problem, fail

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?")
_GRAM = 4  # words; shorter repetitions are normal speech
_USUAL = (0.05, 0.95)  # lengths between these quantiles of the file are nothing unusual


def no_reference(name: str, facts: FileFacts) -> Iterable[Problem]:
    """Yield that a scorer lacks a reference column, where no row has one."""
    if not facts.references:
        yield Problem(
            "score.needs_reference", {"scorer": name, "columns": ", ".join(facts.columns)}, file=facts.path
        )


class Exact:
    """1 where the answer is the reference, white space and case aside; else 0."""

    name = "exact"

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        return no_reference(self.name, facts)

    def prepare(self, facts: FileFacts) -> None:
        return

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [None if a.reference is None else float(_even(a.text) == _even(a.reference)) for a in answers]


class Number:
    """1 where the last number of the answer is the last of the reference (sums, measurements); else 0."""

    name = "number"

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        return no_reference(self.name, facts)

    def prepare(self, facts: FileFacts) -> None:
        return

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [self._one(a) for a in answers]

    def _one(self, answer: Answer) -> float | None:
        wanted = None if answer.reference is None else _last_number(answer.reference)
        if wanted is None:
            return None
        found = _last_number(answer.text)
        return float(found is not None and math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-9))


class Length:
    """1 for a length within limits, else the ratio to the nearer limit, in words (Chinese: characters).

    Without `min` and `max` the limits are the file's own 5 % and 95 % quantiles: this finds the unusual, not the bad.
    """

    name = "length"

    def __init__(self, low: int | None = None, high: int | None = None) -> None:
        self.low, self.high = low, high

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        return ()

    def prepare(self, facts: FileFacts) -> None:
        ordered = sorted(facts.lengths)
        if self.low is None and self.high is None and ordered:
            self.low, self.high = (ordered[round(q * (len(ordered) - 1))] for q in _USUAL)

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        low, high = self.low or 0, self.high or math.inf
        return [
            min(1.0, n / low if low else 1.0, high / n if n else 1.0)
            for n in (len(words(a.text)) for a in answers)
        ]


class Repetition:
    """The share of four-word sequences that occur only once: 1 for normal text, towards 0 for a loop."""

    name = "repetition"

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        return ()

    def prepare(self, facts: FileFacts) -> None:
        return

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [self._one(words(a.text)) for a in answers]

    def _one(self, said: list[str]) -> float:
        grams = [tuple(said[i : i + _GRAM]) for i in range(len(said) - _GRAM + 1)]
        return len(set(grams)) / len(grams) if grams else 1.0


class Rules:
    """The share of declared rules that an answer meets: the row's own `rules`, or one set for all from a file."""

    name = "rules"

    def __init__(self, path: str | None = None) -> None:
        self._path = path
        self._all: Mapping[str, Any] | None = None

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        if self._path is not None:
            self._all = _rules_of(Path(self._path))
        elif not facts.rules:
            yield Problem("score.needs_rules", {"columns": ", ".join(facts.columns)}, file=facts.path)

    def prepare(self, facts: FileFacts) -> None:
        return

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [self._one(a) for a in answers]

    def _one(self, answer: Answer) -> float | None:
        rules = self._all if self._all is not None else answer.rules
        if rules is None:
            return None
        try:
            verdict = judge(answer.text, rules)
        except ValueError as error:
            place: dict[str, Any] = {"file": answer.file, "line": answer.line, "row": answer.number}
            raise fail("evaluate.bad_rules", reason=str(error), **place) from None
        number = sum(name != "ignore_case" for name in rules)
        return 1.0 - len(verdict.failed) / number if number else 1.0


def _rules_of(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        text = path.expanduser().read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
        check_rules(found)
    except OSError as error:
        raise fail("score.rules_unreadable", path=str(path), why=error.strerror or str(error)) from None
    except (ValueError, yaml.YAMLError) as error:
        raise fail("score.rules_unreadable", path=str(path), why=" ".join(str(error).split())) from None
    rules: Mapping[str, Any] = found
    return rules


def _even(text: str) -> str:
    return " ".join(text.casefold().split())


def _last_number(text: str) -> float | None:
    found = _NUMBER.findall(text)
    if not found:
        return None
    above, _, below = found[-1].replace(",", "").partition("/")
    return float(above) / (float(below) or math.inf) if below else float(above)
