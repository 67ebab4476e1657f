"""Means over seeds with Student's 95 % interval: three seeds are few, and the interval says so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

# Two-sided 95 % quantiles of Student's t by degrees of freedom.
_T_95 = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}

Seeds = Mapping[int, Mapping[str, Mapping[str, float]]]  # seed -> arm -> metric -> value


def interval(values: Sequence[float]) -> dict[str, Any]:
    """Return mean, ends of the 95 % interval over seeds (None for a single seed) and the values themselves."""
    mean = sum(values) / len(values)
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None, "per_seed": list(values)}
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    half = _T_95.get(len(values) - 1, 1.96) * spread / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half, "per_seed": list(values)}


def table(seeds: Seeds) -> dict[str, dict[str, Any]]:
    """Return arm -> metric -> interval, for metrics that every seed measured."""
    first = next(iter(seeds.values()))
    return {
        arm: {
            metric: interval([found[arm][metric] for found in seeds.values()])
            for metric in metrics
            if all(metric in found.get(arm, {}) for found in seeds.values())
        }
        for arm, metrics in first.items()
    }


def difference(seeds: Seeds, later: str, earlier: str, metric: str) -> dict[str, Any]:
    """Return later minus earlier, paired by seed: both started from the same SFT model and saw the same rows."""
    values = [found[later][metric] - found[earlier][metric] for found in seeds.values()]
    return {"later": later, "earlier": earlier, "metric": metric, **interval(values)}


def auc(good: Any, bad: Any) -> float:
    """Return the share of pairs in which the good one scores higher (arrays); ties count half."""
    return float(((good[:, None] > bad[None]) + 0.5 * (good[:, None] == bad[None])).mean())


def auc_within(scores: Any, good: Any, groups: Any) -> float:
    """Return the same share over the pairs whose two members belong to one group."""
    won = pairs = 0.0
    for group in set(groups.tolist()):
        ups, downs = scores[(groups == group) & good], scores[(groups == group) & ~good]
        if len(ups) and len(downs):
            won += auc(ups, downs) * len(ups) * len(downs)
            pairs += len(ups) * len(downs)
    return won / pairs
