"""Compose KTO's batches: which rows train together, in what order.

TRL trains KTO rows in the order given, pads a batch to its longest row, and estimates the KL term inside each batch by
putting every prompt before its neighbour's answer: (x_1, y_n), (x_2, y_1), … Hence the order decides three things here:

- *classes*: every batch holds the whole's mix of desirable and undesirable rows, as evenly as the counts allow;
- *padding*: rows of a batch are about equally long, and inside it answers go from long to short, because the KL sequence
  of row i is as long as its own plus the difference of two neighbouring answers, and no other order has a smaller
  largest difference;
- *mismatch*: neighbours have different prompts and different answers, or the "mismatched" pair would be a real one.

No row is favoured: each is seen once in every epoch (fewer than one batch are repeated to fill the last), rows of equal
length fall to batches by the seed, and the batches come in random order. Only the longest comes first, so that memory
that does not suffice shows in the first step. What length does decide is who shares a batch, and so the KL term: long
rows are measured against the KL of long rows.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

Item = TypeVar("Item")
Lengths = Sequence[tuple[int, int]]  # tokens of a row's prompt and of its answer
Texts = Sequence[tuple[Hashable, Hashable]]  # a row's prompt and answer, or what stands for them

JITTER = 0.01  # of a row's length: rows of nearly the same length may change places
WINDOW = 0.06  # batches whose lengths differ by less share their rows out by the length of the answer
SWEEPS = 3  # times a batch is gone through for neighbours that clash
NEIGHBOURS = 3  # batches on either side that a row may move to, away from its own prompt


@dataclass(frozen=True)
class Arranged:
    """Rows in training order.

    Attributes:
        rows: a multiple of the batch size.
        repeated: rows that occur twice, to fill the last batch.
        one_sided: batches that hold one class only (the rarer class has fewer rows than there are batches).
        padding, kl_padding: tokens computed over real ones, of the rows and of the KL sequences; None if the lengths
            are not known.
    """

    rows: list[Any]
    repeated: int
    one_sided: int
    padding: float | None = None
    kl_padding: float | None = None


def arrange(
    rows: Sequence[Item],
    labels: Sequence[bool],
    batch: int,
    seed: int,
    *,
    lengths: Lengths | None = None,
    texts: Texts | None = None,
) -> Arranged:
    """Put the rows into batches: by length and class, or, without `lengths`, shuffled with the classes interleaved."""
    shuffled = _interleaved(labels, seed)
    missing = -len(shuffled) % batch
    filled = [shuffled[i % len(shuffled)] for i in range(len(shuffled) + missing)]
    if lengths is not None:
        filled = _by_length(filled, labels, batch, seed, lengths, texts)
    sides = [{labels[i] for i in filled[at : at + batch]} for at in range(0, len(filled), batch)]
    padded = padding([lengths[i] for i in filled], batch) if lengths is not None else (None, None)
    return Arranged([rows[i] for i in filled], missing, sum(1 for s in sides if len(s) == 1), *padded)


def padding(lengths: Lengths, batch: int) -> tuple[float, float]:
    """Return computed over real tokens, of rows in training order and of their KL sequences."""
    real = padded = kl_padded = 0
    for at in range(0, len(lengths), batch):
        group = lengths[at : at + batch]
        real += sum(p + a for p, a in group)
        padded += len(group) * max(p + a for p, a in group)
        kl_padded += len(group) * _kl_width(group)
    return padded / max(real, 1), kl_padded / max(real, 1)


def _kl_width(group: Lengths) -> int:
    return max(prompt + group[at - 1][1] for at, (prompt, _) in enumerate(group))


def _interleaved(labels: Sequence[bool], seed: int) -> list[int]:
    """Return indices with the rarer class at even distances: a batch as long as the distance holds both classes."""
    rng = random.Random(seed)
    rare = [i for i, label in enumerate(labels) if label]
    common = [i for i, label in enumerate(labels) if not label]
    if len(rare) > len(common):
        rare, common = common, rare
    rng.shuffle(rare)
    rng.shuffle(common)
    total = len(labels)
    places = {int((i + 0.5) * total / len(rare)) for i in range(len(rare))} if rare else set()
    rares, commons = iter(rare), iter(common)
    return [next(rares) if at in places else next(commons) for at in range(total)]


def _by_length(
    filled: Sequence[int],
    labels: Sequence[bool],
    batch: int,
    seed: int,
    lengths: Lengths,
    texts: Texts | None,
) -> list[int]:
    """Return the order of rows (a multiple of `batch`) that pads little; see the module for what it keeps."""
    rng = random.Random(f"{seed}/length")
    totals = {i: sum(lengths[i]) for i in filled}
    place = {i: total * (1 + rng.uniform(-JITTER, JITTER)) for i, total in totals.items()}
    desirable, undesirable = (
        sorted((i for i in filled if bool(labels[i]) is side), key=place.__getitem__)
        for side in (True, False)
    )
    counts = _counts(desirable, undesirable, batch, totals)
    groups = _dealt(desirable, undesirable, batch, counts, lengths)
    if texts is not None:
        _move_apart(groups, labels, texts)
    ordered = [_inside(group, lengths, texts) for group in groups]
    share = len(desirable) / max(len(groups), 1)
    rich = [sum(bool(labels[i]) for i in group) > share for group in ordered]
    turn = [ordered[at] for at in _interleaved(rich, seed)]
    longest = max(turn, key=lambda g: max(*(totals[i] for i in g), _kl_width([lengths[i] for i in g])))
    turn.remove(longest)
    return [i for group in (longest, *turn) for i in group]


def _counts(
    desirable: Sequence[int], undesirable: Sequence[int], batch: int, totals: dict[int, int]
) -> list[int]:
    """Return how many desirable rows each batch takes, shortest batch first.

    That is the whole's share, plus or minus one row in eight: where one class is longer, a batch that takes the shortest
    rows left pads far less than one that holds exactly the share.
    """
    batches = (len(desirable) + len(undesirable)) // batch
    low, high = _bounds(len(desirable) / max(batches, 1), batch)
    counts: list[int] = []
    taken = 0
    for at in range(batches):
        wanted = _shortest(desirable, taken, undesirable, at * batch - taken, batch, totals)
        rest, left = len(desirable) - taken, batches - at - 1
        counts.append(min(max(wanted, low, rest - left * high), high, rest - left * low))
        taken += counts[-1]
    return counts


def _bounds(share: float, batch: int) -> tuple[int, int]:
    """Return the fewest and the most desirable rows of a batch; both classes are in it wherever there are enough."""
    low, high, slack = math.floor(share), math.ceil(share), batch // 8
    if slack:
        low, high = low - slack + (share - low > 0.5), high + slack - (high - share > 0.5)
    return max(low, min(1, math.floor(share))), min(high, batch - min(1, math.floor(batch - share)))


def _shortest(
    one: Sequence[int], at: int, other: Sequence[int], other_at: int, count: int, totals: dict[int, int]
) -> int:
    """Return how many of the `count` shortest rows left are of the class `one` (both sorted, from their places on)."""
    start = at
    for _ in range(count):
        ended = other_at >= len(other)
        if ended or (at < len(one) and totals[one[at]] <= totals[other[other_at]]):
            at += 1
        else:
            other_at += 1
    return at - start


def _dealt(
    desirable: Sequence[int], undesirable: Sequence[int], batch: int, counts: Sequence[int], lengths: Lengths
) -> list[list[int]]:
    """Return the batches. Within a window of lengths, rows are dealt by the length of the answer, for the KL sequences."""
    groups: list[list[int]] = []
    for first, last, good, bad in _windows(desirable, undesirable, batch, counts, lengths):
        goods, bads = (iter(sorted(side, key=lambda i: -lengths[i][1])) for side in (good, bad))
        for count in counts[first:last]:
            groups.append([next(goods) for _ in range(count)] + [next(bads) for _ in range(batch - count)])
    return groups


def _windows(
    desirable: Sequence[int], undesirable: Sequence[int], batch: int, counts: Sequence[int], lengths: Lengths
) -> Iterator[tuple[int, int, Sequence[int], Sequence[int]]]:
    """Yield runs of batches of nearly the same length: first, last + 1, and the rows of each class in them."""
    tops, ends, taken = [], [0], 0
    for at, count in enumerate(counts):
        good = desirable[taken : taken + count]
        bad = undesirable[at * batch - taken : (at + 1) * batch - taken - count]
        tops.append(max(sum(lengths[i]) for i in (*good, *bad)))
        taken += count
        ends.append(taken)
    tops = list(accumulate(tops, max))
    first = 0
    while first < len(counts):
        last = max(bisect_right(tops, tops[first] * (1 + WINDOW), first), first + 1)
        good = desirable[ends[first] : ends[last]]
        bad = undesirable[first * batch - ends[first] : last * batch - ends[last]]
        yield first, last, good, bad
        first = last


def _inside(group: Sequence[int], lengths: Lengths, texts: Texts | None) -> list[int]:
    """Return the rows of a batch from the longest answer to the shortest, with exchanges where neighbours clash."""
    order = sorted(group, key=lambda i: -lengths[i][1])
    if texts is None:
        return order
    for at in [*range(len(order))] * SWEEPS:
        if _clash(order[at - 1], order[at], texts):
            turns = [_exchanged(order, at, other) for other in range(len(order))]
            order = min(turns, key=lambda o: (_clashes(o, texts), _kl_width([lengths[i] for i in o])))
    return order


def _exchanged(order: Sequence[int], one: int, other: int) -> list[int]:
    turn = list(order)
    turn[one], turn[other] = turn[other], turn[one]
    return turn


def _clash(one: int, other: int, texts: Texts) -> bool:
    """Tell whether two rows make no mismatched pair: the same prompt, or the same answer."""
    return texts[one][0] == texts[other][0] or texts[one][1] == texts[other][1]


def _clashes(order: Sequence[int], texts: Texts) -> int:
    return sum(_clash(order[at - 1], order[at], texts) for at in range(len(order)))


def _move_apart(groups: list[list[int]], labels: Sequence[bool], texts: Texts) -> None:
    """Exchange rows with batches of about the same length where half a batch has the same prompt, or the same answer.

    Up to half, an order exists in which no two of them are neighbours.
    """
    for at, group in enumerate(groups):
        near = [g for g in groups[max(0, at - NEIGHBOURS) : at + NEIGHBOURS + 1] if g is not group]
        for part in (0, 1):
            while (crowd := _crowd(group, texts, part)) is not None:
                if not any(_exchange(group, other, crowd, part, labels, texts) for other in near):
                    break


def _crowd(group: Sequence[int], texts: Texts, part: int) -> Hashable | None:
    """Return the prompt (0) or answer (1) that more than half of a batch has, if there is one."""
    text, count = Counter(texts[i][part] for i in group).most_common(1)[0]
    return text if count > len(group) / 2 else None


def _exchange(
    group: list[int], other: list[int], crowd: Hashable, part: int, labels: Sequence[bool], texts: Texts
) -> bool:
    """Swap one of the crowd for a row of the same class in another batch that stays without a crowd of it."""
    if sum(texts[i][part] == crowd for i in other) + 1 > len(other) / 2:
        return False
    for at, mine in enumerate(group):
        if texts[mine][part] != crowd:
            continue
        for there, theirs in enumerate(other):
            if labels[theirs] == labels[mine] and texts[theirs][part] != crowd:
                group[at], other[there] = theirs, mine
                return True
    return False


def whole_order(
    rows: int, batch: int, accumulation: int, epochs: float, max_steps: int, seed: int
) -> list[int]:
    """Return row positions for all of training: `epochs` times every batch, or `max_steps` optimizer steps.

    The batches of later epochs come in another order; the rows inside a batch stay together, so that the KL pairs TRL
    made, and what the reference says of them, hold in every epoch. The epochs follow each other without a gap: only the
    very last optimizer step may have fewer than `accumulation` batches.
    """
    groups = [range(at, at + batch) for at in range(0, rows, batch)]
    wanted = max_steps * accumulation if max_steps > 0 else math.ceil(round(epochs * len(groups), 6))
    order: list[range] = []
    epoch = 0
    while len(order) < wanted:
        turn = list(groups)
        if epoch:
            random.Random(f"{seed}/{epoch}").shuffle(turn)
        order += turn
        epoch += 1
    return [i for group in order[:wanted] for i in group]
