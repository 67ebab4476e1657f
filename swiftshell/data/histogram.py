"""Count numbers into bins, with a threshold among the edges, so that what it cuts off can be seen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

_BINS = 16


def histogram(values: Iterable[float], threshold: float | None = None, bins: int = _BINS) -> dict[str, Any]:
    """Return counts over even bins, and how many lie below the threshold and at or above it.

    Returns:
        `edges` (one more than `counts`), `counts`, `total`, and with a threshold `threshold`, `below`, `above`. NaN and
        infinities are left out.
    """
    kept = sorted(v for v in values if math.isfinite(v))
    found: dict[str, Any] = {"edges": [], "counts": [], "total": len(kept)}
    if threshold is not None:
        below = sum(v < threshold for v in kept)
        found |= {"threshold": threshold, "below": below, "above": len(kept) - below}
    if not kept:
        return found
    distinct = sorted({_shown(v) for v in kept})
    if len(distinct) <= bins:  # stars, zero and one: a bin for each value
        found["edges"] = [*distinct, distinct[-1]]
        counts = dict.fromkeys(distinct, 0)
        for v in kept:
            counts[_shown(v)] += 1
        found["counts"] = list(counts.values())
        return found
    low, width = kept[0], (kept[-1] - kept[0]) / bins
    if threshold is not None and low < threshold <= kept[-1]:
        low = threshold - math.ceil((threshold - low) / width - 1e-9) * width  # an edge lies on the threshold
    number = max(1, math.ceil((kept[-1] - low) / width - 1e-9))
    found["edges"] = [*(_shown(low + i * width) for i in range(number)), kept[-1]]
    found["counts"] = [0] * number
    for v in kept:
        at = min(number - 1, max(0, math.floor((v - low) / width + 1e-9)))
        found["counts"][at] += 1
    return found


def _shown(value: float) -> float:
    return float(f"{value:.4g}")
