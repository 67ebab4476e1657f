"""Hold what a check of a data set found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data.row import Purpose
from swiftshell.errors import Problem

SHOWN_PER_CODE = 20
MORE = "data.and_more"


@dataclass
class DataReport:
    """What a check found.

    Attributes:
        path, purpose: what was checked, and for what.
        rows: rows read from the source, bad ones included.
        usable: rows after conversion (a pair read for KTO gives two).
        bad_rows: source rows with an error.
        format: name of the layout found, None if there is none.
        columns: part → column as found; `unused` are the columns without a part.
        label_rule: how labels were read (see `labels.Rule.kind`), None without labels.
        classes: KTO: number of desirable and undesirable rows.
        thumbs: KTO: rows with a probability between 0 and 1 (`soft`) and of weight 0 (`weightless`), the range of the
            weights, the classes' expected weighted numbers, and the class weights that KTO would set by itself.
        pairing: DPO from thumbs: pairs made, rows that found a partner and rows that did not (see `pairs.Pairs.facts`).
        counts: problem code → number of times, also beyond those listed.
        problems: the first `SHOWN_PER_CODE` of every code as they were found, then for every code with more of
            them one `data.and_more` with their number.
        images: number of rows with pictures and of different picture files; empty without any.
        images_mark: changes when one of these files does; not part of the JSON form.
        scores: a label column of numbers that are no plain yes and no: {"edges", "counts", "threshold"}.
        tokens: lengths in tokens (see `swiftshell.data.lengths`), if a tokenizer was given.
        deep: what a deep check found (see `swiftshell.data.deep`).
        remembered: the file was not read again: it is as it was at an earlier check.
        on_problem: called with every problem that is listed, when it is found; not part of the JSON form.
        characters: part (prompt, answer) → {"edges", "counts", "max", "mean"}.
    """

    path: str
    purpose: Purpose
    rows: int = 0
    usable: int = 0
    bad_rows: int = 0
    format: str | None = None
    columns: dict[str, str] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    label_rule: str | None = None
    classes: dict[str, int] = field(default_factory=dict)
    thumbs: dict[str, Any] = field(default_factory=dict)
    pairing: dict[str, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    characters: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, int] = field(default_factory=dict)
    images_mark: str = ""
    scores: dict[str, Any] = field(default_factory=dict)
    remembered: bool = False
    tokens: dict[str, Any] = field(default_factory=dict)
    deep: dict[str, Any] = field(default_factory=dict)
    on_problem: Callable[[Problem], None] | None = field(default=None, repr=False, compare=False)

    @property
    def errors(self) -> list[Problem]:
        """Return the problems that refuse the data set."""
        return [p for p in self.problems if p.severity == "error"]

    @property
    def ok(self) -> bool:
        """Tell whether nothing refuses the data set."""
        return not self.errors

    def add(self, problem: Problem) -> None:
        """Count a problem, and list it unless enough of its kind are listed."""
        seen = self.counts[problem.code] = self.counts.get(problem.code, 0) + 1
        if seen <= SHOWN_PER_CODE:
            self.problems.append(problem)
            if self.on_problem is not None:
                self.on_problem(problem)

    def more(self, code: str, times: int) -> None:
        """Count further problems of a code that is listed."""
        if times:
            self.counts[code] = self.counts.get(code, 0) + times

    def close(self) -> None:
        """Say of every code how many more there are than those listed."""
        listed = Counter(p.code for p in self.problems)
        severity = {p.code: p.severity for p in self.problems}
        for code, total in self.counts.items():
            if (more := total - listed[code]) > 0:
                values = {"more": more, "code": code, "total": total}
                self.problems.append(Problem(MORE, values, file=self.path, severity=severity[code]))

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        problems = [p.as_json() for p in self.problems]
        facts = {name: getattr(self, name) for name in _JSON_NAMES}
        return {"v": 1, **facts, "ok": self.ok, "remembered": self.remembered, "problems": problems}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DataReport:
        """Rebuild a report from `as_json` output.

        Raises:
            KeyError: something is missing.
        """
        problems = [Problem.from_json(p) for p in data["problems"]]
        return cls(**{name: data[name] for name in _JSON_NAMES}, problems=problems)


_JSON_NAMES = (
    "path",
    "purpose",
    "rows",
    "usable",
    "bad_rows",
    "format",
    "columns",
    "unused",
    "label_rule",
    "classes",
    "thumbs",
    "pairing",
    "counts",
    "characters",
    "tokens",
    "images",
    "scores",
    "deep",
)
