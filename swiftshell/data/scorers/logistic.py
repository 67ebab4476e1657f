"""Turn scores into a probability that was learned from labels: logistic regression by Newton's method, in plain Python.

A handful of scores and some thousand labels need no library. Scores are brought to mean 0 and deviation 1, one that is
missing to 0 (its absence says nothing); a small ridge keeps a score that separates the labels from growing without end.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

_RIDGE = 1.0  # in units of one row's evidence
_ROUNDS = 25
_FOLDS = 5
_MOST_ROWS = 5_000  # more labels do not make these few numbers better, only slower

Row = Sequence[float | None]


@dataclass(frozen=True)
class Model:
    """A fitted model.

    Attributes:
        weights: one for each score, of its standardised value; the intercept comes last.
        means, deviations: of each score.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    def probability(self, row: Row) -> float:
        """Return the probability of being desirable."""
        return _sigmoid(sum(w * x for w, x in zip(self.weights, self._standard(row), strict=True)))

    def _standard(self, row: Row) -> list[float]:
        each = zip(row, self.means, self.deviations, strict=True)
        return [*((0.0 if value is None else (value - mean) / spread) for value, mean, spread in each), 1.0]


@dataclass(frozen=True)
class Calibration:
    """A model and how good it is on labels that it was not fitted on.

    Attributes:
        auc: out of fold: how often a desirable answer gets the higher probability; 0.5 is chance.
        auc_low: lower end of its 95 % interval (Hanley and McNeil).
        log_loss: out of fold, nats; `base_loss`: that of always saying the share of desirable ones.
        bins: out of fold: (mean probability, share that is desirable, rows) of ten bins that have rows.
    """

    model: Model
    rows: int
    desirable: int
    auc: float
    auc_low: float
    log_loss: float
    base_loss: float
    bins: tuple[tuple[float, float, int], ...]


def calibrate(rows: Sequence[Row], labels: Sequence[bool], seed: int = 0) -> Calibration:
    """Fit a model on all rows, and measure it by five-fold cross-validation."""
    order = list(range(len(rows)))
    random.Random(seed).shuffle(order)
    order = sorted(order[:_MOST_ROWS], key=lambda i: labels[i])  # every fold has the same share of each label
    out: list[tuple[float, bool]] = []
    for fold in range(_FOLDS):
        held = set(order[fold::_FOLDS])
        train = [i for i in order if i not in held]
        model = fit([rows[i] for i in train], [labels[i] for i in train])
        out += [(model.probability(rows[i]), labels[i]) for i in order[fold::_FOLDS]]
    good = sum(label for _, label in out)
    share = good / len(out)
    auc = auc_of(out)
    return Calibration(
        model=fit([rows[i] for i in order], [labels[i] for i in order]),
        rows=len(out),
        desirable=good,
        auc=auc,
        auc_low=auc - 1.96 * _auc_error(auc, good, len(out) - good),
        log_loss=-sum(math.log(max(1e-9, p if label else 1 - p)) for p, label in out) / len(out),
        base_loss=-(share * math.log(share) + (1 - share) * math.log(1 - share)),
        bins=tuple(_bins(out)),
    )


def fit(rows: Sequence[Row], labels: Sequence[bool]) -> Model:
    """Fit weights and intercept; a score that is the same everywhere gets no weight."""
    columns = [[v for row in rows if (v := row[c]) is not None] for c in range(len(rows[0]))]
    means = tuple(sum(c) / len(c) if c else 0.0 for c in columns)
    spreads = tuple(
        math.sqrt(sum((v - m) ** 2 for v in c) / len(c)) or 1.0 if c else 1.0
        for c, m in zip(columns, means, strict=True)
    )
    empty = Model((0.0,) * (len(means) + 1), means, spreads)
    xs = [empty._standard(row) for row in rows]
    size = len(means) + 1
    weights = [0.0] * size
    for _ in range(_ROUNDS):
        gradient = [-_RIDGE * w for w in weights[:-1]] + [0.0]
        curvature = [[_RIDGE if i == j and i < size - 1 else 0.0 for j in range(size)] for i in range(size)]
        for x, label in zip(xs, labels, strict=True):
            p = _sigmoid(sum(w * v for w, v in zip(weights, x, strict=True)))
            spread = max(p * (1 - p), 1e-9)
            for i in range(size):
                gradient[i] += (label - p) * x[i]
                for j in range(i + 1):
                    curvature[i][j] += spread * x[i] * x[j]
        for i in range(size):
            for j in range(i):
                curvature[j][i] = curvature[i][j]
        step = _solve(curvature, gradient)
        weights = [w + s for w, s in zip(weights, step, strict=True)]
        if max(map(abs, step)) < 1e-8:
            break
    return Model(tuple(weights), means, spreads)


def auc_of(scored: Sequence[tuple[float, bool]]) -> float:
    """Return how often a true one has the higher score; ties count half."""
    good = sum(label for _, label in scored)
    bad = len(scored) - good
    if not good or not bad:
        return 0.5
    ordered = sorted(scored)
    rank_sum, i = 0.0, 0
    while i < len(ordered):
        j = i
        while j < len(ordered) and ordered[j][0] == ordered[i][0]:
            j += 1
        rank_sum += (i + j + 1) / 2 * sum(label for _, label in ordered[i:j])
        i = j
    return (rank_sum - good * (good + 1) / 2) / (good * bad)


def _auc_error(auc: float, good: int, bad: int) -> float:
    q1, q2 = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    variance = auc * (1 - auc) + (good - 1) * (q1 - auc * auc) + (bad - 1) * (q2 - auc * auc)
    return math.sqrt(max(0.0, variance) / (good * bad))


def _bins(scored: Sequence[tuple[float, bool]], number: int = 10) -> list[tuple[float, float, int]]:
    held: list[list[tuple[float, bool]]] = [[] for _ in range(number)]
    for p, label in scored:
        held[min(number - 1, int(p * number))].append((p, label))
    return [(sum(p for p, _ in b) / len(b), sum(label for _, label in b) / len(b), len(b)) for b in held if b]


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-z)) if z >= 0 else math.exp(z) / (1.0 + math.exp(z)) if z > -700 else 0.0


def _solve(matrix: list[list[float]], right: list[float]) -> list[float]:
    """Solve a small positive definite system by Gaussian elimination with pivoting."""
    size = len(right)
    rows = [[*matrix[i], right[i]] for i in range(size)]
    for i in range(size):
        pivot = max(range(i, size), key=lambda r: abs(rows[r][i]))
        rows[i], rows[pivot] = rows[pivot], rows[i]
        for r in range(i + 1, size):
            factor = rows[r][i] / rows[i][i]
            for c in range(i, size + 1):
                rows[r][c] -= factor * rows[i][c]
    found = [0.0] * size
    for i in reversed(range(size)):
        found[i] = (rows[i][size] - sum(rows[i][c] * found[c] for c in range(i + 1, size))) / rows[i][i]
    return found
