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
_MOST_GRAMS = 600  # of one answer: its beginning says what its wording is like
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


def fold_of(hashes: Sequence[str], labels: Array, folds: int) -> Array:
    """Return a fold for each row: copies stay together, and each fold has its share of both labels."""
    placed: dict[str, int] = {}
    counts = [[0] * folds, [0] * folds]
    order = sorted(range(len(hashes)), key=lambda i: zlib.crc32(b"fold" + hashes[i].encode()))
    for i in order:
        if hashes[i] not in placed:
            side = counts[int(labels[i])]
            placed[hashes[i]] = side.index(min(side))
        counts[int(labels[i])][placed[hashes[i]]] += 1
    return np.array([placed[h] for h in hashes])


def text_scores(texts: Sequence[str], labels: Array, folds: Array) -> Array:
    """Return how much each answer's wording is like that of desirable ones: hashed character pieces, logistic."""
    features = [_grams(text) for text in texts]
    return _out_of_fold(lambda rows: _sparse([features[i] for i in rows]), labels, folds, _BUCKETS)


def rule_scores(prompts: Sequence[str], texts: Sequence[str], labels: Array, folds: Array) -> Array:
    """Return the same by plain facts: length, language, refusals, repetition, a cut-off end, an echo of the prompt."""
    return dense_scores(np.array([_facts(p, a) for p, a in zip(prompts, texts, strict=True)]), labels, folds)


def dense_scores(features: Array, labels: Array, folds: Array) -> Array:
    """Return out-of-fold scores of a logistic probe on features (rows, n), standardised; NaN rows get NaN."""
    known = ~np.isnan(features).any(axis=1)
    scale = features[known].std(axis=0)
    plain = (
        (features - features[known].mean(axis=0))
        / np.where(scale > 1e-9, scale, 1.0)
        / math.sqrt(features.shape[1])
    )
    scores = np.full(len(labels), np.nan)
    table = torch.tensor(plain[known], dtype=torch.float32)
    places = np.flatnonzero(known)
    at = {int(p): n for n, p in enumerate(places)}
    scores[places] = _out_of_fold(
        lambda rows: table[[at[int(places[r])] for r in rows]],
        labels[places],
        folds[places],
        features.shape[1],
    )
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


def _grams(text: str) -> dict[int, float]:
    said = f" {' '.join(text.casefold().split())} "
    counts: Counter[int] = Counter()
    for size in _GRAMS:
        for i in range(min(_MOST_GRAMS, max(0, len(said) - size + 1))):
            counts[zlib.crc32(said[i : i + size].encode()) % _BUCKETS] += 1
    weights = {bucket: 1.0 + math.log(n) for bucket, n in counts.items()}
    norm = math.sqrt(sum(w * w for w in weights.values())) or 1.0
    return {bucket: w / norm for bucket, w in weights.items()}


def _sparse(rows: Sequence[dict[int, float]]) -> torch.Tensor:
    places = [[i for i, r in enumerate(rows) for _ in r], [c for r in rows for c in r]]
    values = [v for r in rows for v in r.values()]
    table = torch.sparse_coo_tensor(
        torch.tensor(places),
        torch.tensor(values, dtype=torch.float32),
        (len(rows), _BUCKETS),
        check_invariants=False,
    )
    return table.coalesce()


def _out_of_fold(features: Any, labels: Array, folds: Array, width: int) -> Array:
    scores = np.zeros(len(labels))
    for fold in np.unique(folds):
        others, own = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        if len(others) > _MOST_TRAINED:
            others = np.sort(np.random.default_rng(0).choice(others, _MOST_TRAINED, replace=False))
        weights, bias = _logistic(features(others), torch.tensor(labels[others], dtype=torch.float32), width)
        scores[own] = torch.mm(features(own), weights).squeeze(-1).numpy() + bias
    return scores


def _logistic(table: torch.Tensor, labels: torch.Tensor, width: int) -> tuple[torch.Tensor, float]:
    """Fit a logistic model in which both classes count alike; return weights (width, 1) and bias."""
    weights = torch.zeros(width, 1, requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    good = float(labels.mean().clamp(1e-3, 1 - 1e-3))
    share = torch.where(labels > 0.5, 0.5 / good, 0.5 / (1 - good))
    penalty = 0.5 / (_STRENGTH * len(labels))
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = torch.mm(table, weights).squeeze(-1) + bias
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels, weight=share)
        value = value + penalty * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return weights.detach(), float(bias.detach())
