"""KTO lifts held-out desirability over SFT: single noisy thumbs, the starter's settings, nothing else.

python -m benchmarks.claims.kto_lifts
"""

from __future__ import annotations

from typing import Any

from benchmarks.claims import common
from benchmarks.claims.common import Claim, Lab, Scores
from swiftshell.starter.rows import kto_rows


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    """Train SFT and KTO on rows drawn with the seed; with 42 they are the shipped ones."""
    sft = lab.sft(seed)
    kto = lab.kto(seed, kto_rows(seed)[: 96 if lab.quick else None], sft)
    return lab.judge({"sft": sft.out("adapter"), "kto": kto.out("adapter")}, seed)


def verdict(result: dict[str, Any]) -> str:
    lifted = [common.above_zero(result, "kto", "sft", m) for m in ("desirable_share", "preference_auc")]
    return "holds" if all(lifted) else "holds_in_part" if any(lifted) else "fails"


CLAIM = Claim(
    "kto_lifts",
    measure,
    (("kto", "sft", "desirable_share"), ("kto", "sft", "preference_auc")),
    verdict,
    {"rows": 1200},
)

if __name__ == "__main__":
    common.main(CLAIM)
