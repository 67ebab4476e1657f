"""Length-aware against random batches: is the speed paid for in quality?

    python -m benchmarks.claims.batches

Twice: on the starter's thumbs, and on continuations of tiny stories, whose lengths differ far more, with a small real
model; there too SFT comes first, on true continuations, and is the reference. The guard is off in the story half: a restart
would change the learning rate of one arm only.
The story half needs the shared test data (`../shared`, `shared/` or $SWIFTSHELL_SHARED_TESTDATA) and is left out without.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import common, stats, stories
from benchmarks.claims.common import Claim, Lab, Made, Scores
from swiftshell.starter.rows import kto_rows

MODES = ("random", "length")
LEARNED_AUC = 0.7  # below this for the random order, equality would prove nothing
MARGIN = 0.02  # a loss of less than this, over the whole interval, counts as "not worse"
STORY_ROWS, SFT_ROWS, HELD_OUT_ROWS = 800, 400, 400
STORY_SETTINGS = {
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_train_epochs": 1,
    "warmup_steps": 10,
    "max_length": 512,
    "lora": {"r": 16, "lora_alpha": 32},
    "save_steps": 100000,
}


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    sft = lab.sft(seed)
    rows = kto_rows(seed)[: 96 if lab.quick else None]
    made = {f"starter_{m}": lab.kto(seed, rows, sft, batch_composition=m) for m in MODES}
    models = {"starter_sft": sft.out("adapter"), **{n: m.out("adapter") for n, m in made.items()}}
    scores = lab.judge(models, seed)
    within = within_length(lab, models, lab.labelled(), seed)
    told = {name: {**_cost(m), "reward_auc_within": within[name]} for name, m in made.items()}
    real = stories.load()
    if real is None:
        print("../shared is absent: the half on real stories is left out", file=sys.stderr)
    else:
        more, cost = _on_stories(lab, seed, real)
        scores, told = {**scores, **more}, {**told, **cost}
    return {name: {**s, **told.get(name, {})} for name, s in scores.items()}


def _on_stories(lab: Lab, seed: int, real: stories.Stories) -> tuple[dict[str, Scores], dict[str, Scores]]:
    """Train the pretrained story model both ways, each in a process of its own so that its peak memory can be told."""
    rows = stories.rows(real, seed, 64 if lab.quick else STORY_ROWS)
    data = common.dataset(lab.data("stories", rows))
    held = lab.data("held-out", stories.rows(real, 0, 64 if lab.quick else HELD_OUT_ROWS, held_out=True))
    few = {"max_steps": 2} if lab.quick else {}
    texts = [
        {"prompt": r["prompt"], "completion": r["completion"]}
        for r in stories.rows(real, seed + 1000, 64 if lab.quick else 2 * SFT_ROWS)
        if r["label"]
    ]
    inputs = {
        "policy": common.model(real.model),
        "train_data": common.dataset(lab.data("stories-sft", texts)),
    }
    sft = lab.need("sft", {**STORY_SETTINGS, **few}, inputs, seed=seed)
    start = common.model(sft.out("adapter"))
    inputs = {"policy": start, "reference": start, "train_data": data}
    made = {}
    for batches, mode in ((b, m) for b in ((1,) if lab.quick else (1, 2)) for m in MODES):
        params = {
            **STORY_SETTINGS,
            "beta": 0.1,
            "gradient_accumulation_steps": batches,
            "batch_composition": mode,
            "guard": {"enabled": False},
            **few,
        }
        made[f"stories_{mode}_{batches}"] = lab.need("kto", params, inputs, seed=seed, apart=not lab.quick)
    models = {"stories_sft": sft.out("adapter"), **{name: m.out("adapter") for name, m in made.items()}}
    scores, within = lab.ranks(models, held, seed), within_length(lab, models, held, seed)
    return scores, {name: {**_cost(m), "reward_auc_within": within[name]} for name, m in made.items()}


def within_length(lab: Lab, models: Mapping[str, Path], data: Path, seed: int) -> dict[str, float]:
    """Return each policy's area under the curve of the reward, over pairs of answers of similar length (fifths).

    A reward is a sum over tokens and is learned against the KL of its batch. With batches of one length, that level is a
    different one for short and long answers, which a curve over all lengths takes for a worse ranking.
    """
    logs = lab.sums(models, data, seed)
    reference, *policies = models
    tokens = np.array([s.tokens for s in logs[reference]])
    fifth = np.searchsorted(np.quantile(tokens, (0.2, 0.4, 0.6, 0.8)), tokens, side="right")
    good, before = np.array([s.good for s in logs[reference]]), np.array([s.total for s in logs[reference]])
    after = {name: np.array([s.total for s in logs[name]]) for name in policies}
    return {name: stats.auc_within(after[name] - before, good, fifth) for name in policies}


def _cost(made: Made) -> Scores:
    found = {k: float(v) for k, v in made.summary.items() if k in ("padding", "kl_padding") and v is not None}
    return {**found, **({"peak_mib": made.peak_mib} if made.peak_mib else {})}


def verdict(result: dict[str, Any]) -> str:
    """Say whether length-aware batches are not worse: no interval of a difference reaches below the margin."""
    random_auc = result["arms"].get("stories_random_1", {}).get("reward_auc", {}).get("mean", 1.0)
    if random_auc < LEARNED_AUC:
        return "not_learned"
    pooled, others = _ends(result, "reward_auc"), _ends(result, "reward_auc_within", "desirable_share")
    if min(low for low, _ in pooled + others) > -MARGIN:
        return "holds"
    if min(high for _, high in others) < 0:
        return "fails"
    if min(low for low, _ in _ends(result, "reward_auc_within")) > -MARGIN:
        return "holds_within_length"
    return "fails_over_lengths" if min(high for _, high in pooled) < 0 else "undecided"


def _ends(result: dict[str, Any], *metrics: str) -> list[tuple[float, float]]:
    """Return the ends of the intervals of the differences in some metrics; of one seed, its value."""
    found = [d for d in result["differences"] if d["metric"] in metrics]
    return [(d["mean"], d["mean"]) if d["low"] is None else (d["low"], d["high"]) for d in found]


CLAIM = Claim(
    "batches",
    measure,
    (
        ("starter_length", "starter_random", "desirable_share"),
        ("starter_length", "starter_random", "reward_auc"),
        ("starter_length", "starter_random", "reward_auc_within"),
        *(
            (f"stories_length_{n}", f"stories_random_{n}", metric)
            for n in (1, 2)
            for metric in ("reward_auc", "reward_auc_within", "preference_auc")
        ),
        ("stories_length_1", "stories_random_1", "peak_mib"),
    ),
    verdict,
    {"story_rows": STORY_ROWS, "margin": MARGIN, "learned_auc": LEARNED_AUC},
)

if __name__ == "__main__":
    common.main(CLAIM)
