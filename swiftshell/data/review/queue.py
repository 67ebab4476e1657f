"""Decide which answer a reviewer sees next: the most informative first, with a uniformly random tenth among them.

The random tenth is what makes an unbiased estimate of the noise possible: doubtful answers are wrong more often than others
by construction. It is drawn by the digests of the answers, so every reviewer gets the same ones, in every sitting.
"""

from __future__ import annotations

import hashlib
import unicodedata
import zlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from swiftshell.data.review.items import Item
from swiftshell.data.row import Turn, text_of

Order = Literal["informative", "file", "random"]
ORDERS: tuple[Order, ...] = ("informative", "file", "random")
SAMPLE_EVERY = 10
_CONFLICT_BONUS = 0.5
_POSITIVES_FOR_A_NEGATIVE = 3
_NEAR_HEAD = 3000  # items looked at for near-copies: nobody reviews more in one go
_NEAR_SIMILARITY = 0.85
_SHINGLE = 4


@dataclass(frozen=True)
class Shown:
    """An item in the queue; `sample`: it is there by chance, not by doubt."""

    item: Item
    sample: bool


def doubt(item: Item) -> float:
    """Return how much is to be learned: P(label is wrong) times weight, more where copies contradict each other."""
    p = item.doubt.p_wrong if item.doubt else 0.0
    return p * item.weight * (1.0 + (_CONFLICT_BONUS if item.conflict else 0.0))


def random_order(found: Sequence[Item]) -> list[Item]:
    """Return the items in an order that is uniformly random and always the same for the same answers."""
    return sorted(found, key=lambda item: chance(item.hash))


def chance(digest: str) -> bytes:
    """Return what the random order sorts by."""
    return hashlib.blake2b(b"review/" + digest.encode(), digest_size=8).digest()


def queue(found: Sequence[Item], order: Order, done: Collection[str] = ()) -> list[Shown]:
    """Return what is still to be shown to a reviewer who is `done` with some answers."""
    if order == "random":
        return [Shown(item, True) for item in random_order(found) if item.hash not in done]
    ranked = list(found) if order == "file" else _once(_interleaved(_ranked(found)))
    return [shown for shown in _with_sample(ranked, random_order(found)) if shown.item.hash not in done]


def _ranked(found: Sequence[Item]) -> list[Item]:
    return sorted(found, key=lambda item: (-doubt(item), chance(item.hash)))


def _interleaved(ranked: Sequence[Item]) -> list[Item]:
    """Put one answer called bad after every few called good: wrong negatives are rarer and hurt less, but exist."""
    good = iter([item for item in ranked if item.label is not False])
    bad = iter([item for item in ranked if item.label is False])
    merged: list[Item] = []
    while True:
        several = list(islice(good, _POSITIVES_FOR_A_NEGATIVE))
        one = list(islice(bad, 1))
        if not several and not one:
            return merged
        merged += [*several, *one]


def _with_sample(ranked: Sequence[Item], sample: Sequence[Item]) -> Iterator[Shown]:
    """Let every tenth place be taken by the next answer of the random order that was not shown yet."""
    shown: set[str] = set()
    by_rank, by_chance = iter(ranked), iter(sample)
    for place in range(1, len(ranked) + 1):
        from_sample = place % SAMPLE_EVERY == 0
        item = next(i for i in (by_chance if from_sample else by_rank) if i.hash not in shown)
        shown.add(item.hash)
        yield Shown(item, from_sample)


def _once(ranked: Sequence[Item]) -> list[Item]:
    """Move near-copies of an answer with the same label behind everything else: one look at them is worth most."""
    head, rest = ranked[:_NEAR_HEAD], list(ranked[_NEAR_HEAD:])
    kept: list[Item] = []
    later: list[Item] = []
    holders: dict[int, list[int]] = {}
    parts: list[frozenset[int]] = []
    for item in head:
        shingles = _shingles(item)
        near = _candidates(shingles, holders)
        if any(kept[i].label == item.label and _similar(parts[i], shingles) for i in near):
            later.append(item)
            continue
        for key in _keys(shingles):
            holders.setdefault(key, []).append(len(kept))
        kept.append(item)
        parts.append(shingles)
    return [*kept, *rest, *later]


def _shingles(item: Item) -> frozenset[int]:
    """Return the overlapping pieces of four characters of prompt and answer, digits and letters only."""
    said = " ".join(_words(turn) for turn in (*item.prompt, *item.completion))
    return frozenset(
        zlib.crc32(said[i : i + _SHINGLE].encode()) for i in range(max(1, len(said) - _SHINGLE + 1))
    )


def _words(turn: Turn) -> str:
    text = unicodedata.normalize("NFKC", text_of(turn.get("content"))).casefold()
    return "".join(c if c.isalnum() else " " for c in text)


def _keys(shingles: frozenset[int]) -> list[int]:
    """Return the few smallest pieces: sets as alike as we look for share at least one of them, nearly always."""
    return sorted(shingles)[:8]


def _candidates(shingles: frozenset[int], holders: dict[int, list[int]]) -> list[int]:
    found = {i for key in _keys(shingles) for i in holders.get(key, ())}
    return sorted(found)[:64]


def _similar(one: frozenset[int], other: frozenset[int]) -> bool:
    return len(one & other) >= _NEAR_SIMILARITY * len(one | other)
