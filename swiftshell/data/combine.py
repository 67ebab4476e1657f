"""Bring several scores of an answer to one probability of being desirable: by thresholds, or learned from labels.

By thresholds nothing is known of how sure a score is, so its rank decides: one half at the threshold, 0.9 for the best
answer of the file, 0.1 for the worst; several scores are averaged as log-odds. From labels (200 at least) the probability
is calibrated, measured out of fold, and refused where the scores do not tell the labels apart.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from swiftshell.data.scorers.logistic import Calibration, calibrate
from swiftshell.errors import SwiftshellError, fail

LEAST_LABELS = 200
LEAST_OF_A_KIND = 20
_REACH = 0.4  # a rank says at most 0.5 ± this


def by_threshold(
    scores: Mapping[str, Sequence[float]], thresholds: Mapping[str, float]
) -> list[float | None]:
    """Return a probability for each answer; None where it has none of the scores."""
    ranked = {name: _Ranks(scores[name], threshold) for name, threshold in thresholds.items()}
    found: list[float | None] = []
    for i in range(len(next(iter(scores.values())))):
        odds = [
            _logit(ranks.probability(v))
            for name, ranks in ranked.items()
            if not math.isnan(v := scores[name][i])
        ]
        found.append(1.0 / (1.0 + math.exp(-sum(odds) / len(odds))) if odds else None)
    return found


def enough_labels(labels: Sequence[bool | None], path: str) -> SwiftshellError | None:
    """Return why labels do not suffice to calibrate by, if so."""
    good = sum(label is True for label in labels)
    bad = sum(label is False for label in labels)
    if good + bad >= LEAST_LABELS and min(good, bad) >= LEAST_OF_A_KIND:
        return None
    values: dict[str, Any] = {"good": good, "bad": bad, "least": LEAST_LABELS, "each": LEAST_OF_A_KIND}
    return fail("score.few_labels", path=path, **values)


def by_labels(
    scores: Mapping[str, Sequence[float]], labels: Sequence[bool | None]
) -> tuple[list[float | None], Calibration]:
    """Return a calibrated probability for each answer (None without any score), and how good it is."""
    columns = list(scores.values())
    rows = [[None if math.isnan(v) else v for v in row] for row in zip(*columns, strict=True)]
    has_any = [any(v is not None for v in row) for row in rows]
    judged = [i for i, label in enumerate(labels) if label is not None and has_any[i]]
    found = calibrate([rows[i] for i in judged], [labels[i] is True for i in judged])
    return [
        found.model.probability(row) if some else None for row, some in zip(rows, has_any, strict=True)
    ], found


def parse_thresholds(texts: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Read `NAME=NUMBER` for scorers that are in the chain.

    Raises:
        SwiftshellError: one is not of this form, or of a scorer that is not asked for.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, _, value = text.partition("=")
        name = name.strip().removeprefix("score_").replace("-", "_")
        if name not in names:
            raise fail("score.threshold_unknown", text=text, names=", ".join(names))
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise fail("score.threshold_not_number", text=text, name=name)
        found[name] = number
    return found


class _Ranks:
    """Where a value stands among those on its side of the threshold."""

    def __init__(self, values: Sequence[float], threshold: float) -> None:
        ordered = sorted(v for v in values if not math.isnan(v))
        cut = bisect_left(ordered, threshold)
        self._threshold, self._below, self._above = threshold, ordered[:cut], ordered[cut:]

    def probability(self, value: float) -> float:
        if value >= self._threshold:
            return 0.5 + _REACH * bisect_right(self._above, value) / len(self._above)
        return 0.5 - _REACH * (1.0 - bisect_left(self._below, value) / len(self._below))


def _logit(p: float) -> float:
    return math.log(p / (1.0 - p))
