"""Score the answers of a file and bring the scores to one probability: the same for every front."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from swiftshell.data.combine import by_labels, by_threshold, enough_labels, parse_thresholds
from swiftshell.data.histogram import histogram
from swiftshell.data.scorers.base import COLUMN, Scorer
from swiftshell.data.scorers.catalog import NAMES, chain
from swiftshell.data.scorers.endpoint import MODEL_VARIABLE, URL_VARIABLE
from swiftshell.data.scorers.judge import Judge, JudgeOptions
from swiftshell.data.scorers.logistic import Calibration
from swiftshell.data.scores import AnswerFile, Progress, check, score, scored_rows
from swiftshell.data.write import target, write_rows
from swiftshell.errors import Problem, SwiftshellError, fail
from swiftshell.i18n import what

Combine = Literal["thresholds", "labels"]
ByModel = Callable[[list[str]], Path]  # runs the stage `score` and returns its output's folder


@dataclass(frozen=True)
class ScoreOptions:
    """What is asked for.

    Attributes:
        scorers: names with their options, in the order of their columns.
        columns: our names of columns to the file's.
        combine: bring all scores to one probability, by thresholds or learned from labels.
        thresholds: `NAME=NUMBER`.
    """

    scorers: Sequence[str]
    columns: Mapping[str, str] = field(default_factory=dict)
    judge: JudgeOptions = field(default_factory=JudgeOptions)
    combine: Combine | None = None
    thresholds: Sequence[str] = ()


class Scoring:
    """A chain of scorers and the file it is for, checked; `run` does the work.

    Attributes:
        by_model: names of the scorers that the stage `score` runs.
        judge: the judge, if there is one in the chain: what would be sent where.
    """

    def __init__(
        self, path: Path, out: Path, options: ScoreOptions, planned: Callable[[list[str]], None]
    ) -> None:
        """Check everything; nothing is computed, sent or started.

        Args:
            path: the answers.
            out: the file to write.
            options: what is asked for.
            planned: plans the stage `score`, so that what it lacks is said with all the rest.

        Raises:
            SwiftshellError: everything that is missing, with what to use instead.
        """
        self.path, self.out = path, target(out, path)
        self.options = replace(options, judge=replace(options.judge, log=options.judge.log or _log_of(out)))
        if not options.scorers:
            raise fail("score.no_scorers")
        self.scorers, self.by_model = chain(options.scorers, self.options.judge)
        self.judge = next((s for s in self.scorers if isinstance(s, Judge)), None)
        names = [*(s.name for s in self.scorers), *self.by_model]
        self.thresholds = parse_thresholds(options.thresholds, names)
        self.file = AnswerFile(path, options.columns)
        problems = check(self.file, self.scorers)
        if self.by_model:
            try:
                planned(self.by_model)
            except SwiftshellError as error:
                problems += error.problems
        self._labels = self._labels_wanted(problems)
        if problems:
            raise SwiftshellError(problems)

    def _labels_wanted(self, problems: list[Problem]) -> list[bool | None]:
        if self.options.combine is None:
            return []
        labels = self.file.labels()
        if self.options.combine == "labels" and (short := enough_labels(labels, str(self.path))) is not None:
            problems += short.problems
        return labels

    def run(self, by_model: ByModel | None, progress: Progress) -> dict[str, Any]:
        """Score, combine, write; return what came of it.

        Raises:
            SwiftshellError: a judge or the stage failed, or no threshold was given (the histograms are its values).
        """
        scores: dict[str, array[float]] = {}
        if self.by_model:
            assert by_model is not None
            scores |= read_scores(by_model(self.by_model) / "scored.jsonl", self.by_model)
        try:
            scores |= score(self.file, self.scorers, progress)
        finally:
            if self.judge is not None:
                self.judge.close()
        ordered = {name: scores[name] for name in _in_order(self.options.scorers, scores)}
        combined, calibration, notes = self._combined(ordered)
        written = write_rows(self.out, scored_rows(self.file, ordered, combined, self._labels))
        return {
            "out": str(self.out),
            "written": written,
            "labelled": self.file.facts.labels,
            "scores": {name: self._facts(name, numbers) for name, numbers in ordered.items()},
            "combined": _combined_facts(combined),
            "calibration": None if calibration is None else _calibration_facts(calibration, list(ordered)),
            "judge": self._judge_facts(),
            "notes": notes,
        }

    def _combined(
        self, scores: Mapping[str, array[float]]
    ) -> tuple[list[float | None] | None, Calibration | None, list[str]]:
        if self.options.combine == "labels":
            probabilities, found = by_labels(scores, self._labels)
            if found.auc_low <= 0.5:  # better no probabilities than ones that say nothing
                return None, found, ["score.not_telling"]
            return probabilities, found, []
        if self.options.combine == "thresholds" and self.thresholds:
            return by_threshold(scores, self.thresholds), None, []
        return None, None, ["score.no_threshold"] if self.options.combine else []

    def _facts(self, name: str, numbers: Sequence[float]) -> dict[str, Any]:
        kept = [v for v in numbers if v == v]  # NaN is not itself
        mean = sum(kept) / len(kept) if kept else None
        facts: dict[str, Any] = {"rows": len(kept), "without": len(numbers) - len(kept), "mean": mean}
        return facts | {"histogram": histogram(kept, self.thresholds.get(name))}

    def _judge_facts(self) -> dict[str, Any] | None:
        judge = self.judge
        if judge is None:
            return None
        return {
            "asked": judge.asked,
            "unreadable": judge.unreadable,
            "inconsistent": judge.inconsistent,
            "log": str(judge.options.log),
        }


def available(path: Path) -> tuple[dict[str, str], bool]:
    """Return every scorer with why it cannot be used on a file (empty: it can), and whether labels suffice to calibrate.

    Raises:
        SwiftshellError: the file's answers cannot be used.
    """
    file = AnswerFile(path)
    judge = JudgeOptions(os.environ.get(URL_VARIABLE, ""), os.environ.get(MODEL_VARIABLE, ""))
    found: dict[str, str] = {}
    for name in NAMES:
        scorers, _ = chain([name], judge)
        problems = check(file, scorers)
        problems += [
            Problem("score.elsewhere", {"host": s.endpoint.host})
            for s in scorers
            if isinstance(s, Judge) and not problems and not s.endpoint.is_here
        ]
        found[name] = what(problems[0]) if problems else ""
    return found, file.facts.labels > 0 and enough_labels(file.labels(), str(path)) is None


def read_scores(path: Path, names: Sequence[str]) -> dict[str, array[float]]:
    """Return the columns that the stage `score` wrote, NaN where a row has none."""
    found = {name: array("d") for name in names}
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            for name, numbers in found.items():
                value = row.get(COLUMN + name)
                numbers.append(float("nan") if value is None else float(value))
    return found


def _log_of(out: Path) -> Path:
    return out.with_name(out.name + ".judge.jsonl")


def _in_order(specs: Sequence[str], scores: Mapping[str, Any]) -> list[str]:
    asked = [spec.partition(":")[0].strip().lower().replace("-", "_") for spec in specs]
    return sorted(scores, key=lambda name: asked.index(name) if name in asked else len(asked))


def _combined_facts(combined: Sequence[float | None] | None) -> dict[str, Any] | None:
    if combined is None:
        return None
    kept = [p for p in combined if p is not None]
    return {"rows": len(kept), "desirable": sum(p >= 0.5 for p in kept), "histogram": histogram(kept, 0.5)}


def _calibration_facts(found: Calibration, names: Sequence[str]) -> dict[str, Any]:
    weights = dict(zip([*names, "intercept"], (round(w, 4) for w in found.model.weights), strict=True))
    numbers = {k: round(getattr(found, k), 4) for k in ("auc", "auc_low", "log_loss", "base_loss")}
    bins = [[round(p, 3), round(share, 3), rows] for p, share, rows in found.bins]
    return {"rows": found.rows, "desirable": found.desirable, **numbers, "weights": weights, "bins": bins}


__all__ = ["ByModel", "Combine", "Judge", "JudgeOptions", "ScoreOptions", "Scorer", "Scoring", "read_scores"]
