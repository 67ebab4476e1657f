"""The envelope every operation returns: data for fronts to render, notes, problems and the exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from swiftshell.errors import EXIT_OK, Problem

Data = TypeVar("Data")


@dataclass
class Result(Generic[Data]):
    """What an operation found or did. `data` is JSON-ready when `as_json` is used by a front."""

    data: Data
    notes: list[Problem] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    exit_code: int = EXIT_OK

    def as_json(self, verb: str) -> dict[str, Any]:
        """Return the one stable object `--json` prints."""
        return {
            "v": 1,
            "verb": verb,
            "exit_code": self.exit_code,
            "data": self.data,
            "notes": [n.as_json() for n in self.notes],
            "problems": [p.as_json() for p in self.problems],
        }
