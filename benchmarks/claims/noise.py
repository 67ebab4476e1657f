"""Wrong positives: what 10 to 45 % of them cost, and what removing the rows that an audit flags gives back.

    python -m benchmarks.claims.noise

Truly undesirable answers are relabelled desirable until that share of the positives is wrong. The audit knows nothing of the
truth: each third of the rows is scored by a policy that KTO trained on the other two thirds, by its implicit reward per
token against the SFT model. It first looks whether that policy has learned anything (how well the rewards rank the given
labels, out of fold); if so, it flags every positive that looks like a negative: one whose reward is below that of all but a
tenth of the rows labelled undesirable.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.claims import common, starter_rows, stats
from benchmarks.claims.common import Claim, Lab, Made, Row, Scores
from benchmarks.claims.starter_rows import Drawn

SHARES = (10, 20, 30, 45)  # percent of the positives that are wrong
GOOD, BAD, FOLDS = 240, 480, 3
LEARNED_AUC = 0.6  # out of fold, against the given labels: below this the audit flags nothing
QUANTILE = 0.9  # of the negatives' rewards


@dataclass(frozen=True)
class Labelled:
    """A row, what it was labelled, and whether that is true."""

    drawn: Drawn
    label: bool

    @property
    def wrong(self) -> bool:
        return self.label != self.drawn.good

    def row(self) -> Row:
        return self.drawn.row(self.label)


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    sft = lab.sft(seed)
    good, bad = (32, 64) if lab.quick else (GOOD, BAD)
    drawn = starter_rows.of_each(seed, good, bad, "noise")
    made = {"sft": sft, "clean": lab.kto(seed, [d.row(d.good) for d in drawn], sft)}
    audits: dict[str, Scores] = {}
    for share in (20,) if lab.quick else SHARES:
        rows = spoiled(drawn, share / 100, seed)
        made[f"raw_{share}"] = lab.kto(seed, [r.row() for r in rows], sft)
        flagged, audit = audited(lab, seed, rows, sft)
        kept = [r.row() for r, out in zip(rows, flagged, strict=True) if not out]
        made[f"audited_{share}"] = lab.kto(seed, kept, sft)
        audits[f"audited_{share}"] = audit
    scores = lab.judge({name: m.out("adapter") for name, m in made.items()}, seed)
    return {name: {**s, **audits.get(name, {})} for name, s in scores.items()}


def spoiled(drawn: Sequence[Drawn], share: float, seed: int) -> list[Labelled]:
    """Relabel undesirable answers until `share` of the positives is wrong."""
    bad = [i for i, d in enumerate(drawn) if not d.good]
    count = round(share / (1 - share) * sum(d.good for d in drawn))
    flipped = set(random.Random(f"{seed}/{share}").sample(bad, count))
    return [Labelled(d, d.good or i in flipped) for i, d in enumerate(drawn)]


def audited(lab: Lab, seed: int, rows: Sequence[Labelled], sft: Made) -> tuple[list[bool], Scores]:
    """Return which rows the audit flags, and how right it is."""
    rewards = np.zeros(len(rows))
    folds = 2 if lab.quick else FOLDS
    for fold in range(folds):
        held = [i for i in range(len(rows)) if i % folds == fold]
        others = [r.row() for i, r in enumerate(rows) if i % folds != fold]
        policy = lab.kto(seed, others, sft)
        rewards[held] = rewards_per_token(lab, seed, policy, sft, [rows[i].row() for i in held])
    labels = np.array([r.label for r in rows])
    learned = stats.auc(rewards[labels], rewards[~labels])
    limit = np.quantile(rewards[~labels], QUANTILE) if learned >= LEARNED_AUC else -np.inf
    flagged = labels & (rewards < limit)
    wrong = np.array([r.wrong for r in rows])
    hits = float((flagged & wrong).sum())
    found = {
        "probe_auc": learned,
        "detection_auc": stats.auc(rewards[labels & ~wrong], rewards[labels & wrong]),
        "flagged": float(flagged.sum()),
        "precision": hits / max(1.0, float(flagged.sum())),
        "recall": hits / float(wrong.sum()),
    }
    return [bool(f) for f in flagged], found


def rewards_per_token(lab: Lab, seed: int, policy: Made, sft: Made, rows: Sequence[Row]) -> Any:
    """Return each answer's log p under the policy minus that under the SFT model, per token (nats)."""
    return np.array(logps(policy, rows)) - np.array(logps(sft, rows))


def logps(made: Made, rows: Sequence[Row]) -> list[float]:
    """Return each answer's mean log-probability per token."""
    from swiftshell.engines import assemble, generate
    from swiftshell.run import artifact

    folder = made.out("adapter")
    model, tokenizer = assemble.assemble(artifact.read(folder), folder)
    pairs = [generate.completion_ids(tokenizer, r["prompt"], r["completion"]) for r in rows]
    return [
        total / len(answer) for total, (_, answer) in zip(generate.score(model, pairs), pairs, strict=True)
    ]


def verdict(result: dict[str, Any]) -> str:
    """Say whether the audit helps at every share, surely or on average."""
    shares = [s for s in SHARES if _has(result, s)]
    pairs = [(f"audited_{s}", f"raw_{s}", "desirable_share") for s in shares]
    sure = [common.above_zero(result, *pair) for pair in pairs]
    if all(sure):
        return "holds"
    if min(common.find(result, *pair)["mean"] for pair in pairs) <= 0:
        return "fails"
    return "holds_where_noisy" if any(sure) else "helps_on_average"


def _has(result: dict[str, Any], share: int) -> bool:
    return f"raw_{share}" in result["arms"]


CLAIM = Claim(
    "noise",
    measure,
    tuple(
        pair
        for s in SHARES
        for pair in (
            (f"audited_{s}", f"raw_{s}", "desirable_share"),
            (f"audited_{s}", f"raw_{s}", "reward_auc"),
            (f"raw_{s}", "clean", "desirable_share"),
            (f"audited_{s}", "clean", "desirable_share"),
        )
    ),
    verdict,
    {"desirable": GOOD, "undesirable": BAD, "folds": FOLDS, "learned_auc": LEARNED_AUC, "quantile": QUANTILE},
)

if __name__ == "__main__":
    common.main(CLAIM)
