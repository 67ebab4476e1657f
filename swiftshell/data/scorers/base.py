"""Name what scorers get and what they are asked."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from swiftshell.data.row import Turn, text_of
from swiftshell.errors import Problem

COLUMN = "score_"  # a scorer's column is named after it


@dataclass(frozen=True)
class Answer:
    """One answer to score, and where it stands.

    Attributes:
        text: of its last turn.
        reference: what would have been right, if the row says so.
        rules: declared rules of the row (see `swiftshell.data.rules`).
        label: what a person said of it; None where nobody did.
    """

    number: int
    line: int | None
    file: str
    prompt: tuple[Turn, ...]
    completion: tuple[Turn, ...]
    tools: str | None = None
    reference: str | None = None
    rules: Mapping[str, Any] | None = None
    label: bool | None = None

    @property
    def text(self) -> str:
        """Return what is scored."""
        return text_of(self.completion[-1]["content"])


@dataclass
class FileFacts:
    """What a look at a whole file tells, before anything is scored.

    Attributes:
        answers: rows with an answer; `references`, `rules`, `labels`: those that also have such a thing.
        characters: of all prompts, answers and references, for what a judge would be sent.
        lengths: of the answers, in words (Chinese: characters).
        columns: names of the file's columns.
    """

    path: str
    answers: int = 0
    references: int = 0
    rules: int = 0
    labels: int = 0
    characters: int = 0
    lengths: array[int] = field(default_factory=lambda: array("L"))
    columns: list[str] = field(default_factory=list)


class Scorer(Protocol):
    """Give every answer a number, higher for better."""

    name: str

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        """Yield what is not there, with what to use instead; nothing was computed or sent."""
        ...

    def prepare(self, facts: FileFacts) -> None:
        """Get ready, once, after nothing is missing."""
        ...

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        """Return one number for each answer."""
        ...
