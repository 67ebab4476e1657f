"""Hold what became of a feedback log: its rows, what each rule brought, who was capped, how dwell time goes with length."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from swiftshell.errors import Problem


@dataclass
class Contribution:
    """What one rule brought.

    Attributes:
        fired: rows it spoke of; `alone`: rows of which no other rule did.
        counted: rows whose verdict it carried; `overruled`: rows where another outranked or outweighed it.
        weight: the sum of the verdicts it carried, in explicit labels, before users are capped.
        agrees, compared: of the rows that were also judged explicitly, those where both say the same.
    """

    fired: int = 0
    alone: int = 0
    counted: int = 0
    overruled: int = 0
    weight: float = 0.0
    agrees: int = 0
    compared: int = 0


@dataclass
class LogReport:
    """What became of a log; `as_json` is the stable form."""

    path: str
    rows: int = 0
    bad_rows: int = 0
    outside: int = 0
    no_verdict: int = 0
    edits: int = 0
    verdicts: int = 0
    replaced: int = 0
    anonymous: int = 0
    users: int = 0
    answers: int = 0
    ties: int = 0
    desirable: int = 0
    undesirable: int = 0
    suggested: bool = False
    columns: dict[str, str] = field(default_factory=dict)
    rules: list[dict[str, Any]] = field(default_factory=list)
    capped: list[dict[str, Any]] = field(default_factory=list)
    cap: float | None = None
    dwell: dict[str, float] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"v": 1, **{k: v for k, v in vars(self).items() if k != "problems"},
                "problems": [p.as_json() for p in self.problems]}  # fmt: skip
