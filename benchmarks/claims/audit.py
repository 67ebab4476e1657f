"""The label audit (`swiftshell data audit`): what it finds, what training on the audited rows gives back, and when it is not
sure.

    python -m benchmarks.claims.audit

Three kinds of rows. In each, undesirable rows are relabelled desirable until 30 % of the positives are wrong; the stage
`audit` gets these rows and the SFT model, never the truth.

- the starter's answers, 240 good and 480 bad ones;
- continuations of tiny stories, true or with some words exchanged, with a small real model that can read them;
- real models' solutions of school arithmetic (GSM8K), labelled right or wrong, with the starter's model, which cannot
  reckon: nothing but chance and wording is to be found there, and the audit should say that it is not sure.

The last two need the shared test data (`../shared`, `shared/` or $SWIFTSHELL_SHARED_TESTDATA) and are left out without.
"""

from __future__ import annotations

import json
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.claims import common, starter_rows, stories
from benchmarks.claims.batches import STORY_SETTINGS
from benchmarks.claims.common import Claim, Lab, Made, Row, Scores

SHARE = 0.3  # of the positives that are wrong
GOOD, BAD = 240, 480
STORY_ROWS, SFT_ROWS, HELD_OUT_ROWS = 480, 400, 400
MATHS_ROWS = 900
EPOCHS = 2.0
UNTRAINED = ["conflicts", "rules", "text", "reference", "hidden"]  # detectors that train no policy


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    found = _on_starter(lab, seed)
    real = stories.load()
    if real is None:
        print("../shared is absent: stories and arithmetic are left out", file=sys.stderr)
        return found
    return {**found, **_on_stories(lab, seed, real), **_on_arithmetic(lab, seed)}


def _on_starter(lab: Lab, seed: int) -> dict[str, Scores]:
    sft = lab.sft(seed)
    good, bad = (32, 64) if lab.quick else (GOOD, BAD)
    drawn = starter_rows.of_each(seed, good, bad, "audit")
    clean = [d.row(d.good) for d in drawn]
    raw = spoiled(clean, seed)
    audited, kept = audit(lab, seed, raw, sft, common.kto_settings(lab.quick))
    made = {"sft": sft, "clean": lab.kto(seed, clean, sft), "raw": lab.kto(seed, _plain(raw), sft)}
    made["audited"] = lab.kto(seed, kept, sft)
    scores = lab.judge({name: m.out("adapter") for name, m in made.items()}, seed)
    return {name: {**s, **(audited if name == "audited" else {})} for name, s in scores.items()}


def _on_stories(lab: Lab, seed: int, real: stories.Stories) -> dict[str, Scores]:
    few = {"max_steps": 4} if lab.quick else {}
    settings = {
        **STORY_SETTINGS,
        "drop_budget": 10,
        **few,
    }  # a story or two may be longer than the model's context
    texts = [
        {"prompt": r["prompt"], "completion": r["completion"]}
        for r in stories.rows(real, seed + 1000, 64 if lab.quick else 2 * SFT_ROWS)
        if r["label"]
    ]
    data = common.dataset(lab.data("stories-sft", texts))
    sft = lab.need("sft", settings, {"policy": common.model(real.model), "train_data": data}, seed=seed)
    clean = stories.rows(real, seed, 96 if lab.quick else STORY_ROWS)
    raw = spoiled(clean, seed)
    kto = {**settings, "beta": 0.1}
    audited, kept = audit(lab, seed, raw, sft, {**kto, "detectors": UNTRAINED})
    start = common.model(sft.out("adapter"))
    made = {
        name: lab.need(
            "kto",
            kto,
            {"policy": start, "reference": start, "train_data": common.dataset(lab.data("story", rows))},
            seed=seed,
        )
        for name, rows in (("stories_clean", clean), ("stories_raw", _plain(raw)), ("stories_audited", kept))
    }
    held = lab.data("held-out", stories.rows(real, 0, 64 if lab.quick else HELD_OUT_ROWS, held_out=True))
    scores = lab.ranks({name: m.out("adapter") for name, m in made.items()}, held, seed)
    return {name: {**s, **(audited if name == "stories_audited" else {})} for name, s in scores.items()}


def _on_arithmetic(lab: Lab, seed: int) -> dict[str, Scores]:
    """Audit right and wrong solutions; no policy is trained on them, as the starter's model could not learn from it."""
    rows = arithmetic()
    if rows is None:
        return {}
    random.Random(f"arithmetic/{seed}").shuffle(rows)
    chosen = [r for r in rows if len(r["prompt"]) + len(r["completion"]) < 700][
        : 120 if lab.quick else MATHS_ROWS
    ]
    raw = spoiled([{k: r[k] for k in ("prompt", "completion", "label")} for r in chosen], seed)
    settings = {
        **common.kto_settings(lab.quick),
        "max_length": 512,
        "drop_budget": len(raw) // 4,
        "detectors": UNTRAINED,
    }
    audited, _ = audit(lab, seed, raw, lab.sft(seed), settings)
    return {"arithmetic_audited": audited}


def arithmetic() -> list[Row] | None:
    """Return the labelled solutions; None where the shared test data is absent."""
    root = Path(__file__).resolve().parents[2]
    given = os.environ.get("SWIFTSHELL_SHARED_TESTDATA")
    for folder in ([Path(given)] if given else []) + [root.parent / "shared", root / "shared"]:
        path = folder / "real/data/gsm8k_kto.jsonl"
        if path.is_file():
            return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return None


def spoiled(rows: Sequence[Row], seed: int) -> list[Row]:
    """Relabel undesirable rows until `SHARE` of the positives is wrong; `wrong` keeps the truth beside."""
    bad = [i for i, r in enumerate(rows) if not r["label"]]
    count = round(SHARE / (1 - SHARE) * sum(r["label"] for r in rows))
    flipped = set(random.Random(f"audit/{seed}").sample(bad, count))
    return [{**r, "label": r["label"] or i in flipped, "wrong": i in flipped} for i, r in enumerate(rows)]


def _plain(rows: Sequence[Row]) -> list[Row]:
    return [{k: v for k, v in r.items() if k != "wrong"} for r in rows]


def audit(
    lab: Lab, seed: int, rows: Sequence[Row], sft: Made, kto: dict[str, Any]
) -> tuple[Scores, list[Row]]:
    """Run the stage; return how right it is, and the rows that it leaves."""
    params = {**kto, "num_train_epochs": EPOCHS, **({"detectors": UNTRAINED} if lab.quick else {})}
    inputs = {
        "policy": common.model(sft.out("adapter")),
        "train_data": common.dataset(lab.data("audit", rows)),
    }
    made = lab.need("audit", params, inputs, seed=seed)
    lines = _lines(made.out("audited") / "audited.jsonl")
    wrong = np.array([bool(line["wrong"]) for line in lines])
    flagged = np.array([bool(line["audit_flagged"]) for line in lines])
    doubt = np.array([float(line["audit_p_wrong"]) for line in lines])
    good = np.array([bool(line["label"]) for line in lines])
    hits = float((flagged & wrong).sum())
    found: Scores = {
        "probe_auc": made.summary["combined"]["auc"],
        "detection_auc": auc(doubt[wrong], doubt[good & ~wrong]),
        "flagged": float(flagged.sum()),
        "recall": hits / float(wrong.sum()),
        "sure": float(made.summary["learned"]),
    }
    if flagged.any():
        found["precision"] = hits / float(flagged.sum())
    if (share := made.summary["wrong_share"]["desirable"]) is not None:
        found["estimated"] = share["share"]
    found |= {f"auc_{name}": d["auc"] for name, d in made.summary["detectors"].items()}
    return found, [_without(line) for line in _lines(made.out("cleaned") / "cleaned.jsonl")]


def _lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _without(row: Row) -> Row:
    return {k: v for k, v in row.items() if k != "wrong"}


def auc(high: Any, low: Any) -> float:
    """Return the share of pairs in which the first scores higher; ties count half."""
    return float(((high[:, None] > low[None]) + 0.5 * (high[:, None] == low[None])).mean())


def verdict(result: dict[str, Any]) -> str:
    """Say whether the audit finds most wrong positives, mostly rightly, gives quality back, and admits what it cannot tell."""
    arms = result["arms"]
    finds = all(
        min(arms[name]["recall"]["mean"], arms[name].get("precision", {"mean": 0.0})["mean"]) > 0.5
        for name in ("audited", "stories_audited")
        if name in arms
    )
    gains = [d for d in result["differences"] if d["earlier"].endswith("raw") and "audited" in d["later"]]
    helps = all((d["mean"] if d["low"] is None else d["low"]) > 0 for d in gains)
    if not finds:
        return "fails"
    return "holds" if helps else "finds_only"


CLAIM = Claim(
    "audit",
    measure,
    (
        ("audited", "raw", "desirable_share"),
        ("audited", "raw", "reward_auc"),
        ("clean", "raw", "desirable_share"),
        ("stories_audited", "stories_raw", "reward_auc"),
        ("stories_clean", "stories_raw", "reward_auc"),
    ),
    verdict,
    {"desirable": GOOD, "undesirable": BAD, "wrong_share": SHARE, "epochs": EPOCHS},
)

if __name__ == "__main__":
    common.main(CLAIM)
