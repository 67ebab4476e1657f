"""Training on a base quantized to nf4 against bfloat16: the held-out area under the curve stays within two percent.

    python -m benchmarks.claims.nf4

SFT and KTO both run in the arm's precision, and its models are judged as they were trained: on their own base. The float32
arm stands beside them, because it is what a CPU does when nobody says otherwise.
"""

from __future__ import annotations

from typing import Any

from benchmarks.claims import common
from benchmarks.claims.common import Claim, Lab, Scores
from swiftshell.starter.rows import kto_rows

# Precision of an arm: what SFT, KTO and the evaluation are told.
ARMS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "float32": ({"dtype": "float32"}, {"dtype": "float32"}),
    "bf16": ({"dtype": "bfloat16"}, {"dtype": "bfloat16"}),
    "nf4": ({"dtype": "bfloat16", "quantization": "nf4"}, {"dtype": "bfloat16"}),
}
GATE = 0.02  # of the area under the curve that bfloat16 reaches


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    import bitsandbytes  # noqa: F401 - before PEFT, which looks for it once and remembers

    found: dict[str, Scores] = {}
    for arm, (trained, judged) in list(ARMS.items())[1 if lab.quick else 0 :]:
        sft = lab.sft(seed, **trained)
        kto = lab.kto(seed, kto_rows(seed)[: 96 if lab.quick else None], sft, **trained)
        models = {f"{arm}_sft": sft.out("adapter"), f"{arm}_kto": kto.out("adapter")}
        found |= lab.judge(models, seed, **judged)
    return found


def verdict(result: dict[str, Any]) -> str:
    """Say whether nf4 keeps all but two percent of bfloat16's area, over the whole interval, or on average."""
    d = common.find(result, "nf4_kto", "bf16_kto", "reward_auc")
    limit = -GATE * result["arms"]["bf16_kto"]["reward_auc"]["mean"]
    if (d["mean"] if d["low"] is None else d["low"]) > limit:
        return "holds"
    return "holds_on_average" if d["mean"] > limit else "fails"


CLAIM = Claim(
    "nf4",
    measure,
    tuple(
        (f"nf4_{stage}", f"{other}_{stage}", metric)
        for other in ("bf16", "float32")
        for stage, metric in (("sft", "desirable_share"), ("kto", "desirable_share"), ("kto", "reward_auc"))
    ),
    verdict,
    {"rows": 1200, "gate": GATE},
)

if __name__ == "__main__":
    common.main(CLAIM)
