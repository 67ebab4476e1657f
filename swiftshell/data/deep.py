"""Look deeper into rows than their structure: near-duplicates, languages, personal data, boilerplate, leaks.

What each row shows by itself is found where it is read (`DeepReader`, in several processes); what shows only in all of
them together is added up by `DeepTotals`.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import xxhash

from swiftshell.data import near
from swiftshell.data.boilerplate import boilerplate
from swiftshell.data.compact import Earliest, Numbers, Places
from swiftshell.data.language import UNKNOWN, language
from swiftshell.data.leaks import LeakIndex
from swiftshell.data.personal import personal_data
from swiftshell.data.report import SHOWN_PER_CODE, DataReport
from swiftshell.data.row import Row, Turn, shown, text_of
from swiftshell.data.stretch import Stretch
from swiftshell.errors import Problem

_BATCH_ROWS = 512
_REPEATED_ROWS = 5  # an answer given so often, to different questions, is no answer to them
_REPEATED_SHARE = 0.002
_COMMON_KEYS = 1 << 15
_REPEATED_SHOWN = 5
_ANSWERS = ("completion", "chosen", "rejected")


@dataclass(frozen=True)
class DeepTask:
    """What a deep check looks for.

    Attributes:
        looks: near-duplicates, languages, personal data and boilerplate are looked for; else leaks alone.
        language_every: one row in so many has its language told.
        judged: rows are answers to compare, so that near-duplicates are answers and not whole conversations.
        against: prompts of another data set, which are not to be here.
    """

    looks: bool = True
    language_every: int = 1
    judged: bool = False
    against: LeakIndex | None = None


class DeepPart:
    """What a stretch shows only together with others: positions count from its beginning."""

    def __init__(self) -> None:
        self.which = array("Q")
        self.signatures = bytearray()
        self.answers = bytearray()  # 8 bytes a row
        self.languages: Counter[str] = Counter()
        self.short = 0


class DeepReader:
    """Look at rows one by one."""

    def __init__(self, task: DeepTask) -> None:
        self._task = task
        self._begin()

    def _begin(self) -> None:
        self._part = DeepPart()
        self._position = 0
        self._waiting: list[tuple[int, list[str]]] = []

    def read(self, row: Row, data: Mapping[str, Any], stretch: Stretch) -> None:
        """Look at what a source row became."""
        if self._task.against is not None:
            for problem in self._task.against.leaks(row, data):
                stretch.note(problem)
        if self._task.looks:
            self._look(row, data, stretch)
        self._position += 1

    def end(self, stretch: Stretch) -> None:
        """Hand over what was found in a stretch."""
        self._sign()
        stretch.deep = self._part
        self._begin()

    def _look(self, row: Row, data: Mapping[str, Any], stretch: Stretch) -> None:
        asked, answers = parts_of(data)
        said = "\n".join(answers)
        for problem in _of_texts(row, asked, answers):
            stretch.note(problem)
        key = xxhash.xxh3_64_digest(" ".join(said.split()).encode("utf-8", "replace"))
        self._part.answers += key
        if int.from_bytes(key, "little") % self._task.language_every == 0:
            self._part.languages[language(said or asked)] += 1
        found = near.shingles(said if self._task.judged else f"{asked}\n{said}")
        if len(found) < near.FEWEST_SHINGLES:
            self._part.short += 1
            return
        self._waiting.append((self._position, found))
        if len(self._waiting) >= _BATCH_ROWS:
            self._sign()

    def _sign(self) -> None:
        for (position, _), signature in zip(
            self._waiting, near.signatures([found for _, found in self._waiting]), strict=True
        ):
            self._part.which.append(position)
            self._part.signatures += signature
        self._waiting = []


def parts_of(data: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return what is asked and what is answered in a converted row, as texts; system prompts belong to neither."""
    if "text" in data:
        return "", [str(data["text"])]
    turns = data.get("messages")
    if turns is not None:
        return _said(turns, "user"), [_said(turns, "assistant")]
    return _said(data.get("prompt") or [], "user"), [_said(data[part], "assistant") for part in _ANSWERS if part in data]


def _said(turns: list[Turn], role: str) -> str:
    return "\n".join(text_of(turn["content"]) for turn in turns if turn["role"] == role)


def _of_texts(row: Row, asked: str, answers: list[str]) -> list[Problem]:
    """Return what one row shows by itself, every kind once."""
    problems: dict[str, Problem] = {}
    for text in (asked, *answers):
        for found in personal_data(text):
            code = f"deep.{found.kind}"
            problems.setdefault(code, _warning(code, row, {"found": found.masked}))
    for answer in answers:
        if (found_words := boilerplate(answer)) is not None:
            kind, words = found_words
            problems.setdefault(kind, _warning(f"deep.{kind}", row, {"words": shown(words)}))
    return list(problems.values())


def _warning(code: str, row: Row, values: dict[str, Any]) -> Problem:
    return Problem(code, values, row.file, row.line, None, row.number, severity="warning")


class DeepTotals:
    """Add up what stretches show, and say what all rows together show."""

    def __init__(self, task: DeepTask) -> None:
        self._task = task
        self._signatures = near.Signatures()
        self._answers = Numbers("Q")
        self._languages: Counter[str] = Counter()
        self._short = 0

    def join(self, part: DeepPart, before: int) -> None:
        """Append a stretch that so many converted rows stand before."""
        self._signatures.join(part.which, bytes(part.signatures), before)
        answers = array("Q")
        answers.frombytes(bytes(part.answers))
        self._answers.extend(answers)
        self._languages.update(part.languages)
        self._short += part.short

    def finish(self, report: DataReport, keys: Numbers, places: Places) -> None:
        """Put everything into the report."""
        facts: dict[str, Any] = {}
        if self._task.against is not None:
            facts["against"] = self._task.against.facts()
        if self._task.looks:
            told = sum(self._languages.values())
            facts |= {
                "languages": {name: n for name, n in self._languages.most_common() if name != UNKNOWN},
                "language_unknown": self._languages[UNKNOWN],
                "language_rows": told,
                "near_duplicates": self._near(report, keys, places),
                "too_short_to_compare": self._short,
                "repeated_answers": self._repeated(report, places),
            }
        report.deep = facts

    def _near(self, report: DataReport, keys: Numbers, places: Places) -> int:
        """Report rows that are nearly another, exact copies left out; return their number."""
        found = Earliest(SHOWN_PER_CODE)
        for later, first, share in self._signatures.pairs():
            place, other = places[later], places[first]
            if keys[later] != keys[first] and (place.file, place.number) != (other.file, other.number):
                found.add(later, (first, share))
        for later, (first, share) in found.first():
            place = places[later]
            values = {"first": places[first].number, "percent": round(100 * share)}
            report.add(Problem("deep.near_duplicate", values, place.file, place.line, None, place.number,
                               severity="warning"))
        report.more("deep.near_duplicate", found.number - len(found.first()))
        return found.number

    def _repeated(self, report: DataReport, places: Places) -> list[dict[str, Any]]:
        """Report answers that many rows share; return the most common, with the place of the first."""
        counted: Counter[int] = Counter()
        for chunk in self._answers.chunks():
            counted.update(chunk)
            if len(counted) > 2 * _COMMON_KEYS:  # what is rare so far makes room
                counted = Counter(dict(counted.most_common(_COMMON_KEYS)))
        least = max(_REPEATED_ROWS, round(_REPEATED_SHARE * len(self._answers)))
        wanted = {key: n for key, n in counted.most_common(_REPEATED_SHOWN) if n >= least}
        first: dict[int, int] = {}
        for position, key in enumerate(k for chunk in self._answers.chunks() for k in chunk):
            if key in wanted:
                first.setdefault(key, position)
                if len(first) == len(wanted):
                    break
        made = []
        for key, position in sorted(first.items(), key=lambda item: item[1]):
            place = places[position]
            report.add(Problem("deep.repeated_answer", {"times": wanted[key]}, place.file, place.line, None,
                               place.number, severity="warning"))
            made.append({"times": wanted[key], "row": place.number, "file": place.file})
        return made
