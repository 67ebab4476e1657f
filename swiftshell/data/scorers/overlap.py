"""Score answers by what they share with a reference: ROUGE (rouge-score), BLEU and chrF (sacrebleu), all from 0 to 1.

rouge-score's own tokenizer knows ASCII only, so that Chinese would score 0; it is given ours. BLEU counts Chinese text by
characters, other text by its usual rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from swiftshell.data.rules import language_of
from swiftshell.data.scorers.base import Answer, FileFacts
from swiftshell.data.scorers.plain import no_reference
from swiftshell.data.scorers.words import words
from swiftshell.errors import Problem

ROUGES = {"rouge": "rougeL", "rouge1": "rouge1", "rouge2": "rouge2"}


class _Words:
    def tokenize(self, text: str) -> list[str]:
        return words(text)


class Rouge:
    """F1 of shared words (rouge1), word pairs (rouge2), or the longest common subsequence (rouge)."""

    def __init__(self, name: str = "rouge") -> None:
        self.name = name
        self._scorer: Any = None

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        yield from no_reference(self.name, facts)
        yield from _not_installed(self.name, "rouge_score", "rouge-score")

    def prepare(self, facts: FileFacts) -> None:
        from rouge_score.rouge_scorer import RougeScorer

        self._scorer = RougeScorer([ROUGES[self.name]], tokenizer=_Words())

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        kind = ROUGES[self.name]
        return [
            None if a.reference is None else float(self._scorer.score(a.reference, a.text)[kind].fmeasure)
            for a in answers
        ]


class Bleu:
    """Sentence BLEU with effective order: short answers are not punished for lacking four-word sequences."""

    name = "bleu"

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        yield from no_reference(self.name, facts)
        yield from _not_installed(self.name, "sacrebleu", "sacrebleu")

    def prepare(self, facts: FileFacts) -> None:
        from sacrebleu.metrics.bleu import BLEU

        self._by_language = {"zh": BLEU(tokenize="zh", effective_order=True)}
        self._other = BLEU(effective_order=True)

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [None if a.reference is None else self._one(a.text, a.reference) for a in answers]

    def _one(self, text: str, reference: str) -> float:
        metric = self._by_language.get(language_of(reference) or "", self._other)
        return float(metric.sentence_score(text, [reference]).score) / 100.0


class Chrf:
    """Character n-gram F-score: the same for every language, and kind to word forms."""

    name = "chrf"

    def missing(self, facts: FileFacts) -> Iterable[Problem]:
        yield from no_reference(self.name, facts)
        yield from _not_installed(self.name, "sacrebleu", "sacrebleu")

    def prepare(self, facts: FileFacts) -> None:
        from sacrebleu.metrics.chrf import CHRF

        self._metric = CHRF()

    def score(self, answers: Sequence[Answer]) -> list[float | None]:
        return [
            None
            if a.reference is None
            else float(self._metric.sentence_score(a.text, [a.reference]).score) / 100.0
            for a in answers
        ]


def _not_installed(name: str, module: str, package: str) -> Iterable[Problem]:
    if find_spec(module) is None:
        yield Problem("score.needs_package", {"scorer": name, "package": package})
