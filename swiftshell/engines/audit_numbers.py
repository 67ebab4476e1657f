"""The arithmetic of a label audit: has a detector learned, how noisy are the labels, and which of them.

Everything rests on one picture. Answers called good are a mixture of truly good ones and of wrong ones that look like those
called bad. Where truly good answers are rare, in the lower part of the scores, the mixture's share is plain to see: the
number of answers called good there, against the number of those called bad (mixture proportion estimation, after Scott,
"A rate of convergence for mixture proportion estimation", AISTATS 2015). A single answer is wrong with the probability that
it comes from the second part of the mixture (a local false discovery rate).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

_Z_95 = 1.959964
# A detector counts if the lower end of its AUC's interval is above this,
LEARNED_AUC = 0.6
# and labels are called wrong only where it is above this for all detectors together. Weaker ones tell hard prompts from easy
# ones, or long answers from short ones: right and wrong solutions of school arithmetic reach 0.66 by such facts alone.
SURE_AUC = 0.7
# Assumed share of wrong labels where it cannot be estimated: it only orders the review.
PRIOR = 0.1
_QUANTILES = (0.3, 0.4, 0.5, 0.6, 0.7)  # of the other class's scores: enough of them on both sides
_RESAMPLES = 200
_LEAST_BLOCK = 20  # answers of one level of probability, at least

_MOST = 0.99  # nothing is certain

Array = Any  # numpy array


@dataclass(frozen=True)
class Auc:
    """How often a row of label true scores above one of label false, with its 95 % interval (Hanley and McNeil)."""

    value: float
    low: float
    high: float

    @property
    def learned(self) -> bool:
        """Tell whether the scores go along with the labels well enough to question one by them."""
        return self.low > LEARNED_AUC

    @property
    def sure(self) -> bool:
        """Tell whether the scores tell the classes apart well enough to call labels wrong."""
        return self.low > SURE_AUC

    def as_json(self) -> dict[str, Any]:
        return {
            "auc": round(self.value, 4),
            "low": round(self.low, 4),
            "high": round(self.high, 4),
            "learned": self.learned,
        }


def auc(scores: Array, labels: Array) -> Auc:
    """Return the area under the ROC curve; ties count half. NaN scores are left out."""
    known = ~np.isnan(scores)
    good, bad = np.sort(scores[known & labels]), np.sort(scores[known & ~labels])
    if not len(good) or not len(bad):
        return Auc(0.5, 0.0, 1.0)
    wins = np.searchsorted(bad, good, "left").sum() + np.searchsorted(bad, good, "right").sum()
    a = float(wins) / (2.0 * len(good) * len(bad))
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    variance = (a * (1 - a) + (len(good) - 1) * (q1 - a * a) + (len(bad) - 1) * (q2 - a * a)) / (
        len(good) * len(bad)
    )
    half = _Z_95 * math.sqrt(max(variance, 0.0))
    return Auc(a, max(0.0, a - half), min(1.0, a + half))


def normal_scores(values: Array, folds: Array) -> Array:
    """Return values as normal quantiles of their ranks within each fold: probes of different folds have different scales.

    NaN becomes 0, the middle.
    """
    from statistics import NormalDist

    out = np.zeros(len(values))
    inverse = NormalDist().inv_cdf
    for fold in np.unique(folds):
        at = np.flatnonzero((folds == fold) & ~np.isnan(values))
        if len(at):
            ranks = _mean_ranks(values[at])
            out[at] = [inverse(r / (len(at) + 1)) for r in ranks]
    return out


def _mean_ranks(values: Array) -> Array:
    """Return ranks from 1; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[inverse]


def levels(scores: Array, labels: Array) -> Array:
    """Return P(label is true) for every score, rising with the scores (isotonic regression in blocks of some size)."""
    order = np.argsort(scores, kind="stable")
    size = max(_LEAST_BLOCK, len(scores) // 50)
    starts = list(range(0, max(1, len(order) - size + 1), size)) or [0]
    blocks: list[list[float]] = []  # hits, rows
    for number, start in enumerate(starts):
        rows = order[start : (starts[number + 1] if number + 1 < len(starts) else len(order))]
        blocks.append([float(labels[rows].sum()), float(len(rows))])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            hits, count = blocks.pop()
            blocks[-1][0] += hits
            blocks[-1][1] += count
    found = np.empty(len(scores))
    at = 0
    for hits, count in blocks:
        found[order[at : at + int(count)]] = (hits + 0.5) / (count + 1.0)
        at += int(count)
    return found


def wrong_share(scores: Array, labels: Array) -> float:
    """Return the share of the rows labelled true that look just like those labelled false, 0 to 1.

    An upper bound that is tight where the scores separate the classes well.
    """
    good, bad = np.sort(scores[labels]), np.sort(scores[~labels])
    if not len(good) or not len(bad):
        return 0.0
    ratios = []
    for q in _QUANTILES:
        limit = np.quantile(bad, q)
        below_bad = np.searchsorted(bad, limit, "right") / len(bad)
        below_good = np.searchsorted(good, limit, "right") / len(good)
        ratios.append(below_good / below_bad if below_bad else 1.0)
    return float(min(1.0, np.median(ratios)))


def interval(scores: Array, labels: Array, seed: int) -> tuple[float, float]:
    """Return the middle 95 % of `wrong_share` over resampled rows.

    It tells how much the figure hangs on these rows, not whether the detector is right.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(_RESAMPLES):
        at = rng.integers(0, len(scores), len(scores))
        found.append(wrong_share(scores[at], labels[at]))
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def p_wrong(chance: Array, labels: Array, shares: tuple[float, float]) -> Array:
    """Return for every row the probability that its label is wrong.

    Args:
        chance: P(label is true | scores), (rows,).
        labels: (rows,) bool.
        shares: wrong share of the rows labelled true, and of those labelled false.
    """
    good, bad = max(1, int(labels.sum())), max(1, int((~labels).sum()))
    like_bad = (1.0 - chance) / np.maximum(chance, 1e-6) * good / bad
    like_good = chance / np.maximum(1.0 - chance, 1e-6) * bad / good
    return np.clip(np.where(labels, shares[0] * like_bad, shares[1] * like_good), 0.0, _MOST)


def confident_counts(chance: Array, labels: Array) -> dict[str, int]:
    """Return how many labels of each class confident learning calls wrong.

    A row counts for a class if its probability reaches the mean of that class's own rows (Northcutt et al., "Confident
    learning", JAIR 2021, the confident joint).
    """
    limit_good, limit_bad = float(chance[labels].mean()), float((1.0 - chance)[~labels].mean())
    as_good = (chance >= limit_good) & (chance >= 0.5 * (limit_good + 1 - limit_bad))
    as_bad = ((1.0 - chance) >= limit_bad) & ~as_good
    return {"desirable": int((labels & as_bad).sum()), "undesirable": int((~labels & as_good).sum())}
