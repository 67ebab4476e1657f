"""Hear every rule on one impression and give one verdict, keeping count of what each rule contributed.

Explicit rules silence the others. The heavier side wins; at equal weight it is "undesirable", because a wrong desirable
row harms more than a missing one. The more an edit changed, the less was the original what was wanted.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swiftshell.data.log_report import Contribution
from swiftshell.data.signals import EXPLICIT_WEIGHT, Signal

EDITED = "edited"
_COMPARED_WORDS = 2000
_LEAST_CHANGE = 0.1


@dataclass(frozen=True)
class Opinion:
    """What one impression says of its answer; `rules` has bit n set for rule n behind it, and bit 0 for an edit."""

    desirable: bool
    weight: float
    explicit: bool
    rules: int


class Jury:
    """Apply a log's rules, row by row."""

    def __init__(self, signals: Sequence[Signal]) -> None:
        self.signals = list(signals)
        self.brought = [Contribution() for _ in self.signals]

    def hear(self, row: Mapping[str, Any]) -> Opinion | None:
        """Return what the rules say of a row's answer as it was shown, if anything.

        Raises:
            BadRow: a column's value is not what a rule does with it.
        """
        fired = [n for n, signal in enumerate(self.signals) if signal.test.holds(row)]
        if not fired:
            return None
        meant = [n for n in fired if self.signals[n].explicit]
        heard = meant or fired
        best = {True: 0.0, False: 0.0}
        for n in heard:
            signal = self.signals[n]
            best[signal.desirable] = max(best[signal.desirable], signal.weight)
        label = best[True] > best[False]
        behind = [n for n in heard if self.signals[n].desirable is label]
        carrier = next(n for n in behind if self.signals[n].weight == best[label])
        for n in fired:
            self._count(n, label, carrier=n == carrier, alone=len(fired) == 1, judged=bool(meant))
        self.brought[carrier].weight += best[label]
        return Opinion(label, best[label], bool(meant), sum(2 << n for n in behind))

    def of_edit(self, own: Opinion | None, original: str, edited: str) -> Opinion | None:
        """Return what an edit says of the original answer, beside what the same person said of it explicitly."""
        signed, rules = -EXPLICIT_WEIGHT * _changed(original, edited), 1
        if own is not None and own.explicit:
            signed += own.weight if own.desirable else -own.weight
            rules |= own.rules
        return Opinion(signed > 0, min(EXPLICIT_WEIGHT, abs(signed)), True, rules) if signed else None

    def names(self, rules: int) -> list[str]:
        """Return the names of the rules that an opinion's bits stand for."""
        found = [signal.title for n, signal in enumerate(self.signals) if rules & (2 << n)]
        return [*([EDITED] if rules & 1 else []), *found]

    def as_json(self) -> list[dict[str, Any]]:
        """Return every rule with what it contributed."""
        return [
            {
                "rule": signal.title,
                "test": signal.test.text,
                "desirable": signal.desirable,
                "explicit": signal.explicit,
                "rule_weight": signal.weight,
                **vars(found),
                "weight": round(found.weight, 3),
            }
            for signal, found in zip(self.signals, self.brought, strict=True)
        ]

    def _count(self, n: int, label: bool, *, carrier: bool, alone: bool, judged: bool) -> None:
        mine, signal = self.brought[n], self.signals[n]
        mine.fired += 1
        mine.alone += alone
        mine.counted += carrier
        mine.overruled += signal.desirable is not label or (judged and not signal.explicit)
        if judged and not signal.explicit:
            mine.compared += 1
            mine.agrees += signal.desirable is label


def _changed(original: str, edited: str) -> float:
    """Return the share of an answer's words that an edit changed, 0.1 at least."""
    a, b = original.split()[:_COMPARED_WORDS], edited.split()[:_COMPARED_WORDS]
    if len(a) < 4 and len(b) < 4:  # a language without spaces
        a, b = list(original[:_COMPARED_WORDS]), list(edited[:_COMPARED_WORDS])
    same = difflib.SequenceMatcher(None, a, b, autojunk=False).ratio()
    return max(_LEAST_CHANGE, 1.0 - same)
