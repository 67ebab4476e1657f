"""One class ten times as frequent as the other: automatic class weights against none, and against balanced thumbs.

python -m benchmarks.claims.imbalance
"""

from __future__ import annotations

import random
from typing import Any

from benchmarks.claims import common, starter_rows
from benchmarks.claims.common import Claim, Lab, Row, Scores

TOTAL = 660
SIDES = {"few_good": (1, 10), "few_bad": (10, 1), "balanced": (1, 1)}
NONE = {"desirable_weight": 1.0, "undesirable_weight": 1.0}


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    """Train on three mixes of the same size, the lopsided ones with and without automatic weights."""
    sft, total = lab.sft(seed), 66 if lab.quick else TOTAL
    made = {"sft": sft.out("adapter")}
    for name, shares in list(SIDES.items())[: 1 if lab.quick else None]:
        rows = mixed(seed, total, *shares)
        made[f"{name}_auto"] = lab.kto(seed, rows, sft).out("adapter")
        if name != "balanced":
            made[f"{name}_none"] = lab.kto(seed, rows, sft, **NONE).out("adapter")
    return lab.judge(made, seed)


def mixed(seed: int, total: int, up: int, down: int) -> list[Row]:
    """Draw thumbs until `total` of them stand in the ratio up : down; noise stays as people make it."""
    drawn = starter_rows.draw(seed, total * 12, "imbalance")
    said = list(zip(drawn, starter_rows.thumbs(seed, drawn, "imbalance"), strict=True))
    ups = total * up // (up + down)
    rows = [d.row(True) for d, thumb in said if thumb][:ups] + [
        d.row(False) for d, thumb in said if not thumb
    ][: total - ups]
    if len(rows) != total:
        raise ValueError(f"only {len(rows)} of {total} thumbs could be drawn")
    random.Random(seed).shuffle(rows)
    return rows


def verdict(result: dict[str, Any]) -> str:
    """Say whether automatic weights beat none on both sides, and whether both still beat SFT."""
    sides = [s for s in ("few_good", "few_bad") if f"{s}_auto" in result["arms"]]
    better = [common.above_zero(result, f"{s}_auto", f"{s}_none", "desirable_share") for s in sides]
    lifts = [common.above_zero(result, f"{s}_auto", "sft", "desirable_share") for s in sides]
    if all(better) and all(lifts):
        return "holds"
    return "lifts_only" if all(lifts) else "holds_in_part" if any(better) or any(lifts) else "fails"


CLAIM = Claim(
    "imbalance",
    measure,
    (
        ("few_good_auto", "few_good_none", "desirable_share"),
        ("few_bad_auto", "few_bad_none", "desirable_share"),
        ("few_good_auto", "sft", "desirable_share"),
        ("few_bad_auto", "sft", "desirable_share"),
        ("few_good_auto", "balanced_auto", "desirable_share"),
        ("few_bad_auto", "balanced_auto", "desirable_share"),
        ("few_good_auto", "few_good_none", "reward_auc"),
        ("few_bad_auto", "few_bad_none", "reward_auc"),
    ),
    verdict,
    {"rows": TOTAL},
)

if __name__ == "__main__":
    common.main(CLAIM)
