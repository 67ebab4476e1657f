"""Turn per-row results into numbers with 95 % intervals.

Shares get Wilson's score interval; everything else a percentile bootstrap over rows with a fixed seed. A comparison of
two models resamples the same rows for both, so what the rows have in common cancels out.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

Z_95 = 1.959963984540054
RESAMPLES = 1000
_SEED = 20240201

Statistic = Callable[[np.ndarray], np.ndarray]  # row indices (samples, rows) -> values (samples,)


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share; (0, 1) when there is nothing to count."""
    if n == 0:
        return 0.0, 1.0
    share, square = successes / n, Z_95 * Z_95
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = Z_95 * math.sqrt(share * (1 - share) / n + square / (4 * n * n)) / (1 + square / n)
    return max(0.0, middle - half) if successes else 0.0, min(1.0, middle + half) if successes < n else 1.0


def over_all(n: int, statistic: Statistic) -> float:
    """Return a statistic over all n rows."""
    return float(statistic(np.arange(n)[None, :])[0])


def bootstrap(n: int, statistic: Statistic) -> tuple[float, float]:
    """Return the percentile bootstrap's 95 % interval of a statistic over n rows."""
    return _middle_95(statistic(_resampled(n)))


def paired_difference(n: int, later: Statistic, earlier: Statistic) -> tuple[float, float, float]:
    """Return later minus earlier on the same rows, with its 95 % interval."""
    rows = _resampled(n)
    return over_all(n, later) - over_all(n, earlier), *_middle_95(later(rows) - earlier(rows))


def _middle_95(values: np.ndarray) -> tuple[float, float]:
    if np.isnan(values).all():
        return math.nan, math.nan
    low, high = np.nanpercentile(values, [2.5, 97.5])
    return float(low), float(high)


def _resampled(n: int) -> np.ndarray:
    """Return row indices (RESAMPLES, n), the same for every call with the same n."""
    return np.random.default_rng(_SEED).integers(0, n, size=(RESAMPLES, n))


def mean_of(values: Sequence[float]) -> Statistic:
    """Return the mean over rows."""
    array = np.asarray(values, dtype=float)
    return lambda rows: array[rows].mean(axis=1)


def perplexity_of(log_probs: Sequence[float], tokens: Sequence[int]) -> Statistic:
    """Return token-weighted perplexity: exp of minus the summed log-probability per token."""
    sums, counts = np.asarray(log_probs, dtype=float), np.asarray(tokens, dtype=float)
    return lambda rows: np.exp(np.minimum(700.0, -sums[rows].sum(axis=1) / np.maximum(1, counts[rows].sum(axis=1))))


def auc_of(good: Sequence[Sequence[float]], bad: Sequence[Sequence[float]]) -> Statistic:
    """Return the area under the ROC curve of scores pooled over rows.

    Row i has `good[i]` scores of desirable and `bad[i]` of undesirable completions (either may be empty). Ties count
    half. nan when a class is missing.
    """
    owners = np.array([i for side in (good, bad) for i, row in enumerate(side) for _ in row], dtype=int)
    scores = np.array([s for side in (good, bad) for row in side for s in row], dtype=float)
    is_good = np.array([True] * sum(map(len, good)) + [False] * sum(map(len, bad)), dtype=bool)
    order = np.argsort(scores, kind="stable")
    owners, scores, is_good = owners[order], scores[order], is_good[order]
    tie = np.concatenate([[0], np.cumsum(np.diff(scores) > 0)]).astype(int)  # completions with one score share a number

    def one(rows: np.ndarray) -> float:
        weight = np.bincount(rows, minlength=len(good))[owners].astype(float)
        ups = np.bincount(tie, weights=weight * is_good)
        downs = np.bincount(tie, weights=weight * ~is_good)
        total = ups.sum() * downs.sum()
        return float((ups * (np.cumsum(downs) - downs / 2)).sum() / total) if total else math.nan

    return lambda samples: np.array([one(rows) for rows in samples])


def normalised(text: str) -> str:
    """Return a text as exact match compares it: full and half width alike, no case, single spaces, no outer stops."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"\s+", " ", folded).strip(" \t\r\n.。!！")


def finite(value: float) -> float | None:
    """Return a number that JSON can hold, or None."""
    return float(value) if math.isfinite(value) else None
