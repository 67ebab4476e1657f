"""The guard rescues collapsing runs and leaves sound ones alone: learning rate x beta, with and without it.

python -m benchmarks.claims.guard
"""

from __future__ import annotations

from typing import Any

from benchmarks.claims import common
from benchmarks.claims.common import Claim, Lab, Scores
from swiftshell.starter.rows import kto_rows

# The starter's own rate and beta are the sound setting; the other rates are ten and thirty times it.
GRID = (("3e-4", "0.1"), *((rate, beta) for rate in ("3e-3", "1e-2") for beta in ("0.03", "0.1", "0.3")))
ROWS = 640
COLLAPSED = 0.1  # an arm that loses this much desirable share against SFT has collapsed


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    sft = lab.sft(seed)
    rows = kto_rows(seed)[: 96 if lab.quick else ROWS]
    made, told = {"sft": sft.out("adapter")}, {}
    for rate, beta in GRID[-1:] if lab.quick else GRID:
        for guarded in (False, True):
            params = {"learning_rate": float(rate), "beta": float(beta), "guard": {"enabled": guarded}}
            run = lab.kto(seed, rows, sft, **params)
            arm = arm_of(rate, beta, guarded)
            made[arm], told[arm] = run.out("adapter"), _story(run)
    return {arm: {**scores, **told.get(arm, {})} for arm, scores in lab.judge(made, seed).items()}


def arm_of(rate: str, beta: str, guarded: bool) -> str:
    return f"{rate} {beta} {'guarded' if guarded else 'unguarded'}"


def _story(run: common.Made) -> Scores:
    """Return how often training was restarted, whether the guard gave up, and what TRL's own KL showed at most."""
    guard = run.summary.get("guard") or {}
    clamped = run.series("kl")
    return {
        "restarts": float(guard.get("restarts", 0)),
        "gave_up": float("guard.gave_up" in run.codes),
        "lowest_chosen_logratio": min(run.series("logratios/chosen_per_token"), default=0.0),
        "highest_kl": max(clamped, default=0.0),
    }


def verdict(result: dict[str, Any]) -> str:
    """Say whether every cell that collapses unguarded is clearly better guarded, and no sound one loses."""
    arms, sft = result["arms"], result["arms"]["sft"]["desirable_share"]["mean"]
    cells = [c for c in GRID if arm_of(*c, True) in arms]

    def mean(rate: str, beta: str, guarded: bool) -> float:
        return float(arms[arm_of(rate, beta, guarded)]["desirable_share"]["mean"])

    collapsed = [c for c in cells if mean(*c, False) < sft - COLLAPSED]
    rescued = [
        c for c in collapsed if mean(*c, True) > mean(*c, False) + COLLAPSED and mean(*c, True) > sft - 0.02
    ]
    unharmed = all(mean(*c, True) > mean(*c, False) - 0.02 for c in cells if c not in collapsed)
    if not collapsed:
        return "nothing_collapsed"
    if not unharmed:
        return "harms"
    return "holds" if len(rescued) == len(collapsed) else "holds_in_part" if rescued else "fails"


CLAIM = Claim(
    "guard",
    measure,
    tuple((arm_of(r, b, True), arm_of(r, b, False), "desirable_share") for r, b in GRID),
    verdict,
    {"rows": ROWS},
)

if __name__ == "__main__":
    common.main(CLAIM)
