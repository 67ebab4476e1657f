"""Say what reviews tell: how noisy the labels are, how far reviewers agree, and when to stop."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from swiftshell.data.review.items import Item
from swiftshell.data.review.log import ReviewLog, Said
from swiftshell.data.review.queue import random_order

_Z_95 = 1.959964
STOP_AFTER = 50
STOP_BELOW = 0.2
_BREAK_S = 120.0  # longer between two keys was a break, and says nothing of the pace


@dataclass(frozen=True)
class Share:
    """A share with its 95 % interval (Wilson); the interval is everything where nothing was counted."""

    hits: int
    total: int

    @property
    def value(self) -> float | None:
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float]:
        """Return the ends of Wilson's interval, which stays within 0 and 1 and is honest for few answers."""
        if not self.total:
            return 0.0, 1.0
        n, p, zz = self.total, self.hits / self.total, _Z_95**2
        middle = (p + zz / (2 * n)) / (1 + zz / n)
        half = _Z_95 / (1 + zz / n) * math.sqrt(p * (1 - p) / n + zz / (4 * n * n))
        return (0.0 if not self.hits else max(0.0, middle - half)), (
            1.0 if self.hits == n else min(1.0, middle + half)
        )

    def as_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {"hits": self.hits, "total": self.total, "share": self.value, "low": low, "high": high}


@dataclass(frozen=True)
class Agreement:
    """How far two reviewers agree on the answers that both judged (skipped ones left out).

    Attributes:
        kappa: Cohen's; None where it is not defined (both only ever said one thing).
        disagree: digests of the answers they judge differently.
    """

    one: str
    other: str
    both: int
    same: int
    kappa: float | None
    disagree: tuple[str, ...]


def agreement(log: ReviewLog) -> list[Agreement]:
    """Return the agreement of every pair of reviewers who judged an answer in common."""
    found = []
    for one, other in combinations(sorted(log.said), 2):
        mine, theirs = log.of(one), log.of(other)
        both = [h for h in mine if h in theirs and mine[h].label is not None and theirs[h].label is not None]
        if both:
            pairs = [(bool(mine[h].label), bool(theirs[h].label)) for h in both]
            differ = tuple(h for h, (a, b) in zip(both, pairs, strict=True) if a != b)
            found.append(Agreement(one, other, len(both), len(both) - len(differ), kappa(pairs), differ))
    return found


def kappa(pairs: Sequence[tuple[bool, bool]]) -> float | None:
    """Return Cohen's κ: agreement beyond what chance gives two people with these habits; None where chance gives 1."""
    n = len(pairs)
    if not n:
        return None
    observed = sum(a == b for a, b in pairs) / n
    one, other = sum(a for a, _ in pairs) / n, sum(b for _, b in pairs) / n
    expected = one * other + (1 - one) * (1 - other)
    return None if expected >= 1.0 else (observed - expected) / (1 - expected)


def noise(found: Sequence[Item], log: ReviewLog) -> dict[str, Share]:
    """Return the share of wrong labels, estimated without bias from the uniformly random answers.

    These are the answers up to the last one of the random order that was shown as such, whichever way they came to be
    judged; skipped ones are left out. Keys: `all`, and `desirable` and `undesirable` by the label that is questioned.
    """
    order = random_order(found)
    sampled = {s.hash for said in log.said.values() for s in said.values() if s.sample}
    last = max((place for place, item in enumerate(order) if item.hash in sampled), default=-1)
    verdicts = settled(log)
    judged = [
        (item.label, verdicts[item.hash])
        for item in order[: last + 1]
        if item.label is not None and verdicts.get(item.hash) is not None
    ]
    sides = {
        "all": judged,
        "desirable": [j for j in judged if j[0]],
        "undesirable": [j for j in judged if not j[0]],
    }
    return {name: Share(sum(was != now for was, now in side), len(side)) for name, side in sides.items()}


def settled(log: ReviewLog) -> dict[str, bool | None]:
    """Return the label of every judged answer by majority; None where as many say this as that."""
    votes: dict[str, list[bool]] = {}
    for said in log.said.values():
        for digest, verdict in said.items():
            if verdict.label is not None:
                votes.setdefault(digest, []).append(verdict.label)
    return {h: None if 2 * sum(v) == len(v) else 2 * sum(v) > len(v) for h, v in votes.items()}


def recent_errors(said: Iterable[Said]) -> Share:
    """Return the share of wrong labels among the last `STOP_AFTER` doubtful answers, the random ones left out."""
    last = [s for s in said if s.label is not None and not s.sample][-STOP_AFTER:]
    return Share(sum(s.is_error for s in last), len(last))


def is_time_to_stop(recent: Share) -> bool:
    """Tell whether going on is hardly worth it: of the last `STOP_AFTER` doubtful labels fewer than a fifth were wrong."""
    return recent.total >= STOP_AFTER and (recent.value or 0.0) < STOP_BELOW


def per_hour(took_s: Sequence[float]) -> float | None:
    """Return verdicts per hour from the seconds each took; breaks count as `_BREAK_S`, None before anything was judged."""
    spent = sum(min(s, _BREAK_S) for s in took_s)
    return len(took_s) * 3600.0 / spent if spent > 0 else None


def report(found: Sequence[Item], log: ReviewLog) -> dict[str, Any]:
    """Return everything that the verdicts say about a data set, JSON-ready."""
    at = {item.hash: item for item in found}
    reviewers = []
    for by in sorted(log.said):
        mine = [s for s in log.of(by).values() if s.hash in at]
        counts = {v: sum(s.verdict == v for s in mine) for v in ("desirable", "undesirable", "edit", "skip")}
        rate = per_hour([s.took_s for s in mine if s.took_s > 0])
        reviewers.append(
            {
                "by": by,
                **counts,
                "errors": sum(s.is_error for s in mine),
                "gone": len(log.of(by)) - len(mine),
                "per_hour": None if rate is None else round(rate, 1),
            }
        )
    pairs = []
    for pair in agreement(log):
        rows = sorted(at[h].rows[0] for h in pair.disagree if h in at)
        pairs.append(
            {
                "one": pair.one,
                "other": pair.other,
                "both": pair.both,
                "same": pair.same,
                "kappa": None if pair.kappa is None else round(pair.kappa, 4),
                "disagree_rows": rows,
            }
        )
    judged = settled(log)
    wrong = [
        i
        for i in found
        if i.label is not None and judged.get(i.hash) is not None and judged[i.hash] != i.label
    ]
    notes = [{"row": at[h].rows[0], "by": by, "note": text} for (by, h), text in log.notes.items() if h in at]
    return {
        "v": 1,
        "answers": len(found),
        "judged": sum(h in at for h in judged),
        "wrong": len(wrong),
        "wrong_rows": [i.rows[0] for i in wrong],
        "unsettled_rows": sorted(at[h].rows[0] for h, label in judged.items() if label is None and h in at),
        "reviewers": reviewers,
        "agreement": pairs,
        "noise": {k: s.as_json() for k, s in noise(found, log).items()},
        "notes": sorted(notes, key=lambda n: (n["row"], n["by"])),
        "unreadable_lines": log.unreadable,
    }
