"""The order of KTO's rows and the weights of its classes (no model needed)."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections import Counter
from pathlib import Path

import pytest

from swiftshell.engines import kto_batches, kto_labels
from swiftshell.errors import SwiftshellError


@pytest.mark.parametrize("batch", [2, 3, 4, 8, 16])
@pytest.mark.parametrize("share", [0.5, 0.4, 0.2, 0.75])
@pytest.mark.parametrize("total", [64, 65, 101, 200])
def test_every_batch_holds_both_classes_where_there_are_enough(total: int, share: float, batch: int) -> None:
    labels = [i < total * share for i in range(total)]  # sorted by class, as unpaired pairs come
    arranged = kto_batches.arrange(list(range(total)), labels, batch, seed=3)
    assert len(arranged.rows) % batch == 0
    assert arranged.repeated == -total % batch
    assert set(arranged.rows) == set(range(total)), "no row is lost"
    rare = min(sum(labels), total - sum(labels))
    sides = [
        {labels[i] for i in arranged.rows[at : at + batch]} for at in range(0, len(arranged.rows), batch)
    ]
    one_sided = sum(len(s) == 1 for s in sides)
    assert arranged.one_sided == one_sided
    if rare * batch >= total and arranged.repeated == 0:
        assert one_sided == 0


def test_rare_classes_are_spread_and_counted() -> None:
    labels = [True] * 5 + [False] * 95
    arranged = kto_batches.arrange(list(range(100)), labels, 4, seed=0)
    places = [at for at, row in enumerate(arranged.rows) if row < 5]
    gaps = [b - a for a, b in itertools.pairwise(places)]
    assert all(18 <= gap <= 22 for gap in gaps)
    assert arranged.one_sided == 20


def test_the_order_depends_on_the_seed_alone() -> None:
    labels = [random.Random(1).random() < 0.5 for _ in range(50)]
    one, same, other = (kto_batches.arrange(list(range(50)), labels, 4, seed=s).rows for s in (1, 1, 2))
    assert one == same != other


def _thumbs(total: int, share: float, seed: int) -> tuple[list[bool], list[tuple[int, int]]]:
    """Return labels and lengths as in real thumbs: very unequal, undesirable answers longer."""
    rng = random.Random(seed)
    labels = [rng.random() < share for _ in range(total)]
    lengths = [
        (int(rng.lognormvariate(4, 0.8)) + 1, int(rng.lognormvariate(5 if x else 5.4, 0.7)) + 1)
        for x in labels
    ]
    return labels, lengths


def _batches(rows: list[int], batch: int) -> list[list[int]]:
    return [rows[at : at + batch] for at in range(0, len(rows), batch)]


@pytest.mark.parametrize("batch", [2, 4, 8, 16])
@pytest.mark.parametrize("share", [0.5, 0.38, 0.1, 0.02, 0.9])
@pytest.mark.parametrize("total", [3, 64, 65, 301, 1000])
def test_batches_by_length_keep_every_row_and_both_classes(total: int, share: float, batch: int) -> None:
    labels, lengths = _thumbs(total, share, seed=total)
    arranged = kto_batches.arrange(list(range(total)), labels, batch, seed=3, lengths=lengths)
    seen = Counter(arranged.rows)
    assert len(arranged.rows) % batch == 0
    assert set(seen) == set(range(total)), "no row is lost"
    assert sum(seen.values()) - total == arranged.repeated == -total % batch
    assert max(seen.values()) <= math.ceil(batch / total) + 1
    groups = _batches(arranged.rows, batch)
    desirable = [sum(labels[i] for i in g) for g in groups]
    expected = sum(desirable) / len(groups)
    slack = batch // 8
    assert all(math.floor(expected) - slack <= d <= math.ceil(expected) + slack for d in desirable)
    if 1 <= expected <= batch - 1:
        assert arranged.one_sided == 0
    assert arranged.one_sided == sum(d in (0, batch) for d in desirable)


def test_batches_by_length_pad_little_and_the_longest_comes_first() -> None:
    labels, lengths = _thumbs(1000, 0.4, seed=5)
    by_length = kto_batches.arrange(list(range(1000)), labels, 8, seed=3, lengths=lengths)
    random_order = kto_batches.arrange(list(range(1000)), labels, 8, seed=3)
    assert (random_order.padding, random_order.kl_padding) == (None, None)
    before = kto_batches.padding([lengths[i] for i in random_order.rows], 8)
    assert by_length.padding is not None
    assert by_length.kl_padding is not None
    assert by_length.padding < 1.1 < 1.5 < before[0]
    assert by_length.kl_padding < 1.2 < 1.5 < before[1]
    widths = [_widths(g, lengths) for g in _batches(by_length.rows, 8)]
    assert max(widths[0]) == max(max(w) for w in widths)
    # Otherwise the order of the batches says nothing about their length.
    half = len(widths) // 2
    first, second = (sum(w[0] for w in part) / len(part) for part in (widths[1:half], widths[half:]))
    assert 0.6 < first / second < 1.6


def _widths(group: list[int], lengths: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the longest row and the longest KL sequence of a batch, as TRL makes them (answers rotated by one)."""
    rotated = [group[-1], *group[:-1]]
    return (
        max(sum(lengths[i]) for i in group),
        max(lengths[i][0] + lengths[j][1] for i, j in zip(group, rotated, strict=True)),
    )


def test_padding_is_counted_as_trl_pads() -> None:
    lengths = [(3, 5), (2, 4), (10, 1), (4, 8)]
    real = 8 + 6 + 11 + 12
    of_rows, of_kl = kto_batches.padding(lengths, 2)
    assert of_rows == pytest.approx((2 * 8 + 2 * 12) / real)
    assert of_kl == pytest.approx((2 * max(3 + 4, 2 + 5) + 2 * max(10 + 8, 4 + 1)) / real)


@pytest.mark.parametrize("answers", [40, 3])
def test_neighbours_differ_in_prompt_and_answer(answers: int) -> None:
    """As gsm8k's four answers to every question, and as shrugs that are all the same: both lie close by length."""
    rng = random.Random(2)
    prompts = [rng.randint(20, 200) for _ in range(100)]
    texts = [(i // 4, f"answer {rng.randrange(answers)}") for i in range(400)]
    lengths = [(prompts[prompt], 30 + int(str(answer).split()[1])) for prompt, answer in texts]
    labels = [rng.random() < 0.5 for _ in texts]
    plain, apart = (
        kto_batches.arrange(list(range(400)), labels, 8, seed=1, lengths=lengths, texts=t).rows
        for t in (None, texts)
    )
    assert _clashes(plain, texts) > 20
    assert _clashes(apart, texts) <= (2 if answers == 40 else _clashes(plain, texts) / 4)
    assert Counter(apart) == Counter(plain)


def _clashes(rows: list[int], texts: list[tuple[int, str]]) -> int:
    pairs = [(g[at], g[at - 1]) for g in _batches(rows, 8) for at in range(8)]
    return sum(texts[a][0] == texts[b][0] or texts[a][1] == texts[b][1] for a, b in pairs)


def test_rows_all_alike_are_arranged_too() -> None:
    arranged = kto_batches.arrange(
        list(range(20)), [True] * 10 + [False] * 10, 8, seed=0, lengths=[(3, 4)] * 20, texts=[("a", "b")] * 20
    )
    assert arranged.padding == arranged.kl_padding == 1.0
    assert set(arranged.rows) == set(range(20))


def test_rows_of_equal_length_fall_to_batches_by_the_seed() -> None:
    labels, lengths = [i % 2 == 0 for i in range(64)], [(10, 10)] * 64
    met = [
        {
            frozenset(g)
            for g in _batches(
                kto_batches.arrange(list(range(64)), labels, 8, seed=s, lengths=lengths).rows, 8
            )
        }
        for s in (1, 1, 2)
    ]
    assert met[0] == met[1]
    assert not met[0] & met[2]


@pytest.mark.parametrize("accumulation", [1, 2, 3, 8])
@pytest.mark.parametrize("epochs", [0.25, 1.0, 1.5, 3.0])
@pytest.mark.parametrize("batches", [1, 5, 12])
def test_the_whole_order_is_epochs_of_whole_batches(batches: int, epochs: float, accumulation: int) -> None:
    order = kto_batches.whole_order(batches * 4, 4, accumulation, epochs, 0, seed=9)
    groups = [tuple(g) for g in _batches(order, 4)]
    assert all(g == tuple(range(g[0], g[0] + 4)) and g[0] % 4 == 0 for g in groups), "batches stay together"
    assert len(groups) == math.ceil(epochs * batches)
    counts = Counter(groups)
    assert (
        max(counts.values()) - min(counts.get(tuple(range(a, a + 4)), 0) for a in range(0, batches * 4, 4))
        <= 1
    )
    for at in range(0, len(groups), batches):
        assert len(set(groups[at : at + batches])) == len(groups[at : at + batches]), (
            "an epoch repeats nothing"
        )
    assert order[: batches * 4] == list(range(min(batches * 4, len(order)))), "the first epoch is as arranged"


@pytest.mark.parametrize("accumulation", [1, 3])
def test_max_steps_decides_however_many_epochs_that_takes(accumulation: int) -> None:
    order = kto_batches.whole_order(20, 4, accumulation, 1.0, 7, seed=9)
    assert len(order) == 7 * 4 * accumulation
    again = kto_batches.whole_order(20, 4, accumulation, 5.0, 7, seed=9)
    assert order == again
    if accumulation == 3:
        assert order[20:40] != order[:20]
        assert sorted(order[20:40]) == sorted(order[:20])


@pytest.mark.parametrize("name", ["kto-mix-test", "gsm8k_kto"])
def test_real_thumbs_are_padded_by_five_percent_at_most(name: str, shared_data: Path) -> None:
    """The issue's measure: batch 8, Qwen2 tokenizer; lengths of the plain texts stand for the rendered ones here."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(shared_data / "real" / "tokenizers" / "qwen2" / "tokenizer.json"))
    rows = _real_rows(shared_data / "real" / "data", name)
    prompts, answers = (tokenizer.encode_batch([r[at] for r in rows]) for at in (0, 1))
    lengths = [(len(p) + 10, len(a) + 2) for p, a in zip(prompts, answers, strict=True)]
    labels = [r[2] for r in rows]
    arranged = kto_batches.arrange(
        list(range(len(rows))), labels, 8, seed=1, lengths=lengths, texts=[(r[0], r[1]) for r in rows]
    )
    shuffled = kto_batches.arrange(list(range(len(rows))), labels, 8, seed=1).rows
    before = kto_batches.padding([lengths[i] for i in shuffled], 8)
    assert arranged.padding is not None
    assert arranged.padding <= 1.05
    assert arranged.kl_padding is not None
    assert arranged.kl_padding <= 1.2
    assert before[0] > 1.4
    assert before[1] > 1.35


def _real_rows(folder: Path, name: str) -> list[tuple[str, str, bool]]:
    if name == "gsm8k_kto":
        lines = (folder / "gsm8k_kto.jsonl").read_text(encoding="utf-8").splitlines()
        return [(r["prompt"], r["completion"], r["label"]) for r in map(json.loads, lines)]
    read = json.loads((folder / "kto-mix-test.json").read_text(encoding="utf-8"))
    return [(r["instruction"], r["output"], r["tag"]) for r in read]


@pytest.mark.parametrize(
    ("desirable", "undesirable", "expected"),
    [
        (100, 100, (1.0, 0.8696)),
        (200, 100, (1.0, 1.7391)),
        (100, 200, (2.3, 1.0)),
        (10, 1000, (15.0, 1.0)),
        (1000, 10, (1.0, 15.0)),
    ],
)
def test_auto_weights_bring_the_classes_to_1_15(
    desirable: int, undesirable: int, expected: tuple[float, float]
) -> None:
    found = kto_labels.weights(desirable, undesirable, "auto", "auto")
    assert found == expected
    if 15.0 not in found:
        assert found[0] * desirable / (found[1] * undesirable) == pytest.approx(1.15, rel=1e-3)


def test_a_given_weight_is_kept_and_the_other_follows() -> None:
    assert kto_labels.weights(100, 50, 1.0, 1.0) == (1.0, 1.0)
    assert kto_labels.weights(100, 50, 2.0, "auto") == (2.0, round(200 / 57.5, 4))
    assert kto_labels.weights(100, 50, "auto", 2.0) == (1.15, 2.0)


def test_one_class_is_refused() -> None:
    with pytest.raises(SwiftshellError) as refused:
        kto_labels.class_counts([True] * 4, "thumbs.jsonl")
    problem = refused.value.problems[0]
    assert problem.code == "train.one_class"
    assert problem.values["missing"] == "label: false"
