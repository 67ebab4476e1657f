"""Add up what people said of every answer, and decide: desirable or not, how sure, and how much it weighs.

A verdict is what one impression (one person shown one answer) says. The newest verdict of a user on an answer replaces
their older ones; nobody counts for more than their share (`swiftshell.data.users.cap_of`). Verdicts of explicit rules and
of implicit ones are added apart, and behaviour can weaken what people said explicitly by half at most, never overturn it.

The probability is the sigmoid of the verdicts' summed log-odds: one alone gives `TRUST`, two that agree more, two that
disagree one half, which is no verdict. The weight says what kind of evidence it is: that of the strongest verdict on the
winning side (1 for a thumb, 0.3 for behaviour), so that a hundred copies never become a thumb.

Some hundred bytes a verdict are kept, and no text.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field

from swiftshell.data.users import cap_of

TRUST = 0.9  # how often one explicit verdict is right
_LOG_ODDS = math.log(TRUST / (1.0 - TRUST))
_MOST = 0.99
_IMPLICIT_LIMIT = 0.5  # of the explicit evidence that it contradicts
_NOBODY = -1
_TIE = 1e-9


@dataclass(frozen=True)
class Verdict:
    """What one impression says of its answer.

    Attributes:
        answer: digest of prompt and answer.
        user: who, None if nobody knows.
        desirable, weight, explicit: what is said, how much it counts, and whether it was meant as a judgement.
        at: when, in seconds since 1970; 0 where nobody knows.
        exposure: one over the probability that the answer was shown at all, at most 5.
    """

    answer: bytes
    user: str | None
    desirable: bool
    weight: float
    explicit: bool
    at: float = 0.0
    exposure: float = 1.0


@dataclass(frozen=True)
class Decision:
    """What all verdicts on one answer come to."""

    label: bool
    probability: float
    weight: float
    verdicts: int
    users: int
    explicit: int
    first: float
    last: float


@dataclass
class _Sum:
    """Evidence on one answer: signed sums, the strongest verdict of each side, and who and when."""

    explicit: float = 0.0
    implicit: float = 0.0
    strongest: dict[bool, float] = field(default_factory=lambda: {True: 0.0, False: 0.0})
    verdicts: int = 0
    meant: int = 0
    anonymous: int = 0
    users: set[int] = field(default_factory=set)
    exposure: float = 0.0
    first: float = math.inf
    last: float = 0.0


@dataclass
class Caps:
    """What capping did: the cap in explicit labels, and who met it (user → the weight they had, and verdicts)."""

    cap: float = math.inf
    users: dict[str, tuple[float, int]] = field(default_factory=dict)


class Ledger:
    """Take verdicts one by one; `decide` when all are in."""

    def __init__(self) -> None:
        self._answers: dict[bytes, int] = {}
        self._names: dict[str, int] = {}
        self._place: dict[tuple[int, int], int] = {}
        self._answer, self._user = array("L"), array("l")
        self._weight, self._at, self._exposure = array("d"), array("d"), array("d")
        self._explicit = array("b")
        self.replaced = 0
        self.anonymous = 0

    def __len__(self) -> int:
        return len(self._weight)

    @property
    def users(self) -> int:
        """Return how many users are known by name."""
        return len(self._names)

    def add(self, verdict: Verdict) -> None:
        """Take a verdict; an older one of the same user on the same answer gives way to it."""
        answer = self._answers.setdefault(verdict.answer, len(self._answers))
        user = _NOBODY if verdict.user is None else self._names.setdefault(verdict.user, len(self._names))
        signed = verdict.weight if verdict.desirable else -verdict.weight
        if user == _NOBODY:
            self.anonymous += 1
        elif (at := self._place.get((answer, user))) is not None:
            self.replaced += 1
            newer = verdict.at >= self._at[at]
            outranks = verdict.explicit >= bool(self._explicit[at])
            if newer and outranks:
                self._weight[at], self._at[at] = signed, verdict.at
                self._explicit[at], self._exposure[at] = verdict.explicit, verdict.exposure
            elif verdict.explicit and not self._explicit[at]:
                self._weight[at], self._explicit[at] = signed, True
            return
        else:
            self._place[answer, user] = len(self._weight)
        self._answer.append(answer)
        self._user.append(user)
        self._weight.append(signed)
        self._at.append(verdict.at)
        self._exposure.append(verdict.exposure)
        self._explicit.append(verdict.explicit)

    def decide(self, share: float) -> tuple[dict[bytes, Decision | None], Caps]:
        """Return what each answer's verdicts come to (None: they cancel out), and what capping users did."""
        caps, scale = self._capped(share)
        sums = [_Sum() for _ in self._answers]
        for i, signed in enumerate(self._weight):
            user, total = self._user[i], sums[self._answer[i]]
            weight = signed * (scale[user] if user != _NOBODY else 1.0)
            if self._explicit[i]:
                total.explicit += weight
            else:
                total.implicit += weight
            total.strongest[signed > 0] = max(total.strongest[signed > 0], abs(weight))
            total.verdicts += 1
            total.meant += bool(self._explicit[i])
            total.exposure += self._exposure[i]
            if user == _NOBODY:
                total.anonymous += 1
            else:
                total.users.add(user)
            if self._at[i]:
                total.first, total.last = min(total.first, self._at[i]), max(total.last, self._at[i])
        return {answer: _decided(sums[n]) for answer, n in self._answers.items()}, caps

    def _capped(self, share: float) -> tuple[Caps, list[float]]:
        totals, verdicts = [0.0] * len(self._names), Counter[int]()
        for user, weight in zip(self._user, self._weight, strict=True):
            if user != _NOBODY:
                totals[user] += abs(weight)
                verdicts[user] += 1
        cap = cap_of(totals, share)
        over = {name: (totals[n], verdicts[n]) for name, n in self._names.items() if totals[n] > cap}
        return Caps(cap, over), [min(1.0, cap / total) if total else 1.0 for total in totals]


def _decided(found: _Sum) -> Decision | None:
    implicit = found.implicit
    if found.explicit * implicit < 0:
        limit = _IMPLICIT_LIMIT * abs(found.explicit)
        implicit = max(-limit, min(limit, implicit))
    net = found.explicit + implicit
    if abs(net) < _TIE:
        return None
    label = net > 0
    unit = found.strongest[label]
    sure = 1.0 / (1.0 + math.exp(-_LOG_ODDS * abs(net) / unit))
    probability = min(_MOST, sure) if label else 1.0 - min(_MOST, sure)
    weight = unit * found.exposure / found.verdicts
    first = 0.0 if math.isinf(found.first) else found.first
    users = len(found.users) + found.anonymous
    return Decision(
        label, round(probability, 4), round(weight, 4), found.verdicts, users, found.meant, first, found.last
    )
