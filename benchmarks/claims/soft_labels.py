"""Calibrated probabilities against hard labels made of the same noisy annotations.

    python -m benchmarks.claims.soft_labels

Each answer gets one vote, from an annotator who is right with a known chance: nearly always, mostly, or hardly more often
than a coin. Hard labels take the vote. Soft labels take what the vote means: the annotator's chance of being right, on the
side the vote names. A second hard arm keeps only the votes of annotators worth trusting.

The second half is about logs: one answer in four has an explicit thumb; of all the others it is only known whether the user
kept the answer or asked for another, and many keep a bad one. Hard labels take "kept" for a thumb up. Soft labels take the
share of thumbs up among the explicitly rated answers that were kept, or were not.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from benchmarks.claims import common, starter_rows
from benchmarks.claims.common import Claim, Lab, Row, Scores
from benchmarks.claims.starter_rows import Drawn

ROWS = 800
RELIABILITY = (0.55, 0.7, 0.95)  # equally frequent
TRUSTED = 0.7
EXPLICIT = 4  # every fourth answer has a thumb
THUMB_RIGHT = 0.95
KEPT = {True: 0.95, False: 0.6}  # chance that a good, and a bad, answer is kept


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    sft = lab.sft(seed)
    drawn = starter_rows.draw(seed, 96 if lab.quick else ROWS, "soft")
    votes = annotated(seed, drawn)
    arms = {
        "truth": [d.row(d.good) for d in drawn],
        "hard": [d.row(vote) for d, (vote, _) in zip(drawn, votes, strict=True)],
        "trusted": [d.row(vote) for d, (vote, right) in zip(drawn, votes, strict=True) if right >= TRUSTED],
        "soft": [soft(d, vote, right) for d, (vote, right) in zip(drawn, votes, strict=True)],
    }
    arms |= dict(zip(("logs_hard", "logs_soft"), logged(seed, drawn), strict=True))
    if lab.quick:
        arms = {name: arms[name] for name in ("hard", "soft")}
    made = {name: lab.kto(seed, rows, sft).out("adapter") for name, rows in arms.items()}
    scores = lab.judge({"sft": sft.out("adapter"), **made}, seed)
    wrong = sum(vote != d.good for d, (vote, _) in zip(drawn, votes, strict=True)) / len(drawn)
    return {**scores, "hard": {**scores["hard"], "wrong_labels": wrong}}


def annotated(seed: int, drawn: Sequence[Drawn]) -> list[tuple[bool, float]]:
    """Return a vote for each answer and the chance that its annotator is right."""
    rng = random.Random(f"claims/soft/{seed}/votes")
    found = []
    for d in drawn:
        right = rng.choice(RELIABILITY)
        found.append((d.good if rng.random() < right else not d.good, right))
    return found


def logged(seed: int, drawn: Sequence[Drawn]) -> tuple[list[Row], list[Row]]:
    """Return the rows of a log with hard and with soft labels; explicit thumbs are hard in both."""
    rng = random.Random(f"claims/soft/{seed}/logs")
    thumbs = [d.good if rng.random() < THUMB_RIGHT else not d.good for d in drawn]
    kept = [rng.random() < KEPT[d.good] for d in drawn]
    rated = range(0, len(drawn), EXPLICIT)
    chance = {}
    for signal in (True, False):
        ups = [thumbs[i] for i in rated if kept[i] == signal]
        chance[signal] = (sum(ups) + 1) / (len(ups) + 2)
    hard = [d.row(thumbs[i] if i in rated else kept[i]) for i, d in enumerate(drawn)]
    calibrated = [
        soft(d, thumbs[i], 1.0) if i in rated else soft(d, True, chance[kept[i]]) for i, d in enumerate(drawn)
    ]
    return hard, calibrated


def soft(drawn: Drawn, vote: bool, right: float) -> Row:
    """Return a row with the probability of being desirable instead of a label."""
    row = {k: v for k, v in drawn.row(vote).items() if k != "label"}
    return {**row, "probability": round(right if vote else 1 - right, 6)}


def verdict(result: dict[str, Any]) -> str:
    """Say whether soft labels beat the hard ones of the same annotations, in both halves."""
    pairs = [p for p in (("soft", "hard"), ("logs_soft", "logs_hard")) if p[0] in result["arms"]]
    found = [common.find(result, *pair, "desirable_share") for pair in pairs]
    sure = [common.above_zero(result, *pair, "desirable_share") for pair in pairs]
    if all(sure):
        return "holds"
    if any(d["high"] is not None and d["high"] < 0 for d in found):
        return "fails"
    return "holds_in_part" if any(sure) else "no_difference"


CLAIM = Claim(
    "soft_labels",
    measure,
    tuple(
        (later, earlier, metric)
        for later, earlier in (("soft", "hard"), ("soft", "trusted"), ("logs_soft", "logs_hard"))
        for metric in ("desirable_share", "reward_auc")
    ),
    verdict,
    {"rows": ROWS, "reliability": list(RELIABILITY), "trusted": TRUSTED},
)

if __name__ == "__main__":
    common.main(CLAIM)
