"""Small probes for a label audit: linear models on the wording, on plain facts and on what a model sees, out of fold.

Each gives every row a score by a probe that has not seen the row's label.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from swiftshell.data.rules import language_of

Array = Any
_BUCKETS = 1 << 15
_GRAMS = (2, 3, 4, 5)
_MOST_CHARACTERS = 600  # of one answer: its beginning says what its wording is like
_MOST_TRAINED = 40_000  # rows a linear probe learns from
_STRENGTH = 3.0  # inverse of the L2 penalty, as in other libraries' C
_REFUSALS = (
    "as an ai",
    "i cannot",
    "i can't",
    "i'm sorry",
    "i am sorry",
    "作为一个ai",
    "作为ai",
    "作为一个人工智能",
    "很抱歉",
    "抱歉，我",
)
_ENDS = ".!?。！？…)）\"”'`}]"


def fold_of(prompts: Sequence[str], hashes: Sequence[str], labels: Array, folds: int) -> Array:
    """Return a fold for each row, each with its share of both labels.

    All answers to a prompt stay together: a probe that knows another answer to it knows how hard the prompt is, and would
    seem to know the answers. Where a few prompts make up most of the rows, only copies of an answer do.
    """
    most = max(Counter(prompts).values())
    keys = prompts if most <= len(prompts) / (2 * folds) else hashes
    members: dict[str, list[int]] = {}
    for i, key in enumerate(keys):
        members.setdefault(key, []).append(i)
    counts = np.zeros((folds, 2))
    found = np.zeros(len(keys), dtype=int)
    # The largest groups first, so that small ones even things out; then by chance, the same in every run.
    for key in sorted(members, key=lambda k: (-len(members[k]), zlib.crc32(b"fold" + k.encode()))):
        own = np.bincount(labels[members[key]].astype(int), minlength=2)
        fold = int(np.argmin(((counts + own) ** 2).sum(axis=1) - (counts**2).sum(axis=1)))
        counts[fold] += own
        found[members[key]] = fold
    return found


def text_scores(texts: Sequence[str], labels: Array, folds: Array) -> Array:
    """Return how much each answer's wording is like that of desirable ones: hashed character pieces, logistic."""
    return _out_of_fold(_Pieces.of(texts), labels, folds)


def rule_scores(prompts: Sequence[str], texts: Sequence[str], labels: Array, folds: Array) -> Array:
    """Return the same by plain facts: length, language, refusals, repetition, a cut-off end, an echo of the prompt."""
    return dense_scores(np.array([_facts(p, a) for p, a in zip(prompts, texts, strict=True)]), labels, folds)


def dense_scores(features: Array, labels: Array, folds: Array) -> Array:
    """Return out-of-fold scores of a logistic probe on features (rows, n), standardised; NaN rows get NaN."""
    known = ~np.isnan(features).any(axis=1)
    scale = features[known].std(axis=0)
    plain = (features - features[known].mean(axis=0)) / np.where(scale > 1e-9, scale, 1.0)
    scores = np.full(len(labels), np.nan)
    table = _Numbers(plain[known] / math.sqrt(features.shape[1]))
    scores[known] = _out_of_fold(table, labels[known], folds[known])
    return scores


def _facts(prompt: str, answer: str) -> list[float]:
    said, asked = answer.casefold(), prompt.casefold()
    grams = Counter(said[i : i + 12] for i in range(max(0, len(said) - 12)))
    repeated = sum(n - 1 for n in grams.values()) / max(1, sum(grams.values()))
    languages = language_of(prompt), language_of(answer)
    return [
        math.log1p(len(answer)),
        math.log1p(len(answer)) ** 2,
        float(None not in languages and languages[0] != languages[1]),
        float(any(words in said for words in _REFUSALS)),
        repeated,
        float(bool(answer.strip()) and answer.strip()[-1] not in _ENDS),
        float(len(said) > 20 and said.strip() in asked),
        math.log1p(len(answer)) - math.log1p(len(prompt)),
        float("\n" in answer),
        sum(c.isdigit() for c in answer) / max(1, len(answer)),
    ]


class _Numbers:
    """A table of features, (rows, width)."""

    def __init__(self, table: Array) -> None:
        self.width = table.shape[1]
        self._table = table

    def rows(self, at: Array) -> _Numbers:
        """Return some of the rows."""
        return _Numbers(self._table[at])

    def dot(self, weights: Array) -> Array:
        """Return the rows' scores."""
        return self._table @ weights

    def back(self, errors: Array) -> Array:
        """Return what the rows' errors say of each weight."""
        return self._table.T @ errors


class _Pieces:
    """Hashed character pieces of texts: few of very many features each, so only those are kept."""

    width = _BUCKETS

    def __init__(self, counts: Array, buckets: Array, values: Array) -> None:
        self._counts, self._buckets, self._values = counts, buckets, values
        self._starts = np.cumsum(counts) - counts

    @classmethod
    def of(cls, texts: Sequence[str]) -> _Pieces:
        """Cut texts into pieces; every text has at least one."""
        found = [_grams(text) for text in texts]
        return cls(
            np.array([len(f) for f in found]),
            np.fromiter((b for f in found for b in f), dtype=np.int64),
            np.fromiter((v for f in found for v in f.values()), dtype=np.float64),
        )

    def rows(self, at: Array) -> _Pieces:
        """Return the pieces of some of the texts."""
        counts = self._counts[at]
        places = np.repeat(self._starts[at] - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())
        return _Pieces(counts, self._buckets[places], self._values[places])

    def dot(self, weights: Array) -> Array:
        """Return the texts' scores."""
        return np.add.reduceat(self._values * weights[self._buckets], self._starts)

    def back(self, errors: Array) -> Array:
        """Return what the texts' errors say of each weight."""
        spread = self._values * np.repeat(errors, self._counts)
        return np.bincount(self._buckets, weights=spread, minlength=_BUCKETS)


def _grams(text: str) -> dict[int, float]:
    said = f" {' '.join(text.casefold().split())[:_MOST_CHARACTERS]} "
    counts: Counter[int] = Counter()
    for size in _GRAMS:
        counts.update(
            zlib.crc32(said[i : i + size].encode()) % _BUCKETS for i in range(max(0, len(said) - size + 1))
        )
    weights = {bucket: 1.0 + math.log(n) for bucket, n in counts.items()}
    norm = math.sqrt(sum(w * w for w in weights.values())) or 1.0
    return {bucket: w / norm for bucket, w in weights.items()}


def _out_of_fold(table: _Numbers | _Pieces, labels: Array, folds: Array) -> Array:
    scores = np.zeros(len(labels))
    for fold in np.unique(folds):
        others, own = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(others) > _MOST_TRAINED:
            others = np.sort(np.random.default_rng(0).choice(others, _MOST_TRAINED, replace=False))
        weights, bias = _logistic(table.rows(others), labels[others].astype(np.float64))
        scores[own] = table.rows(own).dot(weights) + bias
    return scores


def _logistic(table: _Numbers | _Pieces, labels: Array) -> tuple[Array, float]:
    """Fit a logistic model in which both classes count alike; return weights (width,) and bias."""
    parameters = torch.zeros(
        table.width + 1, dtype=torch.float64, requires_grad=True
    )  # the last one is the bias
    good = float(np.clip(labels.mean(), 1e-3, 1 - 1e-3))
    share = np.where(labels > 0.5, 0.5 / good, 0.5 / (1 - good)) / len(labels)
    penalty = 1.0 / (_STRENGTH * len(labels))
    optimizer = torch.optim.LBFGS(
        [parameters], max_iter=60, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> float:
        weights, bias = parameters.detach().numpy()[:-1], float(parameters.detach()[-1])
        logits = table.dot(weights) + bias
        errors = share * (1.0 / (1.0 + np.exp(-np.clip(logits, -60, 60))) - labels)
        gradient = np.append(table.back(errors) + penalty * weights, errors.sum())
        parameters.grad = torch.from_numpy(gradient)
        return float(
            (share * (np.logaddexp(0.0, logits) - labels * logits)).sum() + 0.5 * penalty * (weights**2).sum()
        )

    optimizer.step(loss)
    found = parameters.detach().numpy()
    return found[:-1], float(found[-1])
