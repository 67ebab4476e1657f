"""Turn log-ratios of held-out answers into numbers: how well the reward ranks, and how far it is only length."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from swiftshell.engines import metrics
from swiftshell.engines.rows import Example

Asked = tuple[tuple[int, ...], tuple[str, ...]]  # a prompt's tokens and its images

MOST_ANSWERS = 512  # measured at most, whole prompts; an AUC of 512 answers is known to about 0.05


@dataclass(frozen=True)
class Answer:
    """One held-out answer in token ids, and what was said of it; `images` are the files its prompt shows."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    desirable: bool
    images: tuple[str, ...] = ()

    @property
    def asked(self) -> Asked:
        """Return what tells prompts apart: images of one size have the same tokens."""
        return self.prompt_ids, self.images


def answers_of(examples: Sequence[Example], seed: int, most: int = MOST_ANSWERS) -> list[Answer]:
    """Return the different answers of held-out rows, prompts together; a seeded choice of whole prompts beyond `most`."""
    by_prompt: dict[Asked, dict[Answer, None]] = {}
    for example in examples:
        sides = [True, False] if len(example.answers) > 1 else [bool(example.data.get("label", True))]
        for ids, desirable in zip(example.answers, sides, strict=True):
            if ids and example.prompt_ids:
                images = tuple(example.data.get("images") or ())
                answer = Answer(tuple(example.prompt_ids), tuple(ids), desirable, images)
                by_prompt.setdefault(answer.asked, {})[answer] = None
    prompts = list(by_prompt)
    if sum(map(len, by_prompt.values())) > most:
        random.Random(f"held-out/{seed}").shuffle(prompts)
    kept: list[Answer] = []
    for prompt in prompts:
        if len(kept) + len(by_prompt[prompt]) <= most:
            kept += by_prompt[prompt]
    return kept


class Groups:
    """The answers of each prompt: what is resampled, and what can be compared in pairs."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        rows: dict[Asked, tuple[list[int], list[int]]] = {}
        for i, answer in enumerate(answers):
            rows.setdefault(answer.asked, ([], []))[0 if answer.desirable else 1].append(i)
        self.all = list(rows.values())
        self.paired = [(good, bad) for good, bad in self.all if good and bad]
        self.has_both = any(good for good, _ in self.all) and any(bad for _, bad in self.all)

    def auc(self, scores: Sequence[float]) -> metrics.Statistic:
        """Return the area under the ROC curve over prompts."""
        good, bad = ([[scores[i] for i in group[side]] for group in self.all] for side in (0, 1))
        return metrics.auc_of(good, bad)

    def accuracy(self, scores: Sequence[float]) -> metrics.Statistic:
        """Return the share of pairs in the right order over prompts that have both kinds; a tie counts half."""
        return metrics.mean_of(
            [_in_order([scores[i] for i in good], [scores[i] for i in bad]) for good, bad in self.paired]
        )


def _in_order(good: Sequence[float], bad: Sequence[float]) -> float:
    points = [1.0 if g > b else 0.5 if g == b else 0.0 for g in good for b in bad]
    return sum(points) / len(points)


def numbers_of(
    answers: Sequence[Answer], ratios: Sequence[float], beta: float, z0: float | None = None
) -> dict[str, float]:
    """Return every number that one measurement gives.

    Args:
        answers: what was scored.
        ratios: log-ratios, nats per answer.
        beta: turns them into rewards.
        z0: the unclamped KL estimate (nats per sequence) that KTO compares a log-ratio with; None leaves that out.
    """
    groups = Groups(answers)
    rewards = beta * np.asarray(ratios, dtype=float)
    tokens = np.array([len(a.completion_ids) for a in answers], dtype=float)
    good = np.array([a.desirable for a in answers], dtype=bool)
    found: dict[str, float] = {}
    for side, mask in (("chosen", good), ("rejected", ~good)):
        if mask.any():
            found[f"reward_{side}"] = float(rewards[mask].mean())
            found[f"tokens_{side}"] = float(tokens[mask].mean())
    if groups.has_both:
        found["preference_auc"] = metrics.over_all(len(groups.all), groups.auc(list(rewards)))
        found["length_auc"] = metrics.over_all(len(groups.all), groups.auc(list(tokens)))
        found["preference_auc_per_token"] = metrics.over_all(
            len(groups.all), groups.auc(list(rewards / tokens))
        )
    if groups.paired:
        found["preference_accuracy"] = metrics.over_all(len(groups.paired), groups.accuracy(list(rewards)))
    if z0 is not None:
        found["threshold_accuracy"] = float(np.mean((rewards > beta * z0) == good))
    correlation = spearman(list(rewards), list(tokens))
    if correlation is not None:
        found["reward_length_correlation"] = correlation
    return found


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return the rank correlation, ties sharing their rank; None where one of both does not vary."""
    one, other = (_ranks(np.asarray(values, dtype=float)) for values in (first, second))
    if len(one) < 3 or one.std() == 0 or other.std() == 0:
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: np.ndarray = ((last - counts + 1 + last) / 2)[where]
    return ranks
