"""Train in rounds: replay rows of earlier rounds, and let a round take its place only if it is not worse.

A round starts from the policy of the round before and keeps the reference of the first. Two things go wrong unseen: the
new rows make the policy forget what the old ones taught (replay holds against that), and the new policy is worse than
the one it replaces (both are compared on the same held-out rows).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from swiftshell.engines import rows
from swiftshell.engines.rows import Example, Prepared, Reading
from swiftshell.errors import Problem
from swiftshell.stages.base import Context, StepRequest

Key = tuple[tuple[tuple[int, ...], tuple[str, ...]], tuple[tuple[int, ...], ...]]


@dataclass(frozen=True)
class Replay:
    """What earlier rounds contribute.

    Attributes:
        examples: rows that are trained on once more.
        available: different rows that earlier rounds have.
        repeated: rows left out because the new data holds them too, with the same label.
        relabelled: rows left out because a newer file gives them another label: the newer label wins.
        sources: their data sets: path, digest, rows.
    """

    examples: list[Example] = field(default_factory=list)
    available: int = 0
    repeated: int = 0
    relabelled: int = 0
    sources: list[dict[str, Any]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Return the facts for the step's result."""
        return {
            "rows": len(self.examples),
            "available": self.available,
            "repeated": self.repeated,
            "relabelled": self.relabelled,
            "sources": self.sources,
        }


def with_replay(data: Prepared, request: StepRequest, how: Reading, ctx: Context) -> tuple[Prepared, Replay]:
    """Return the rows to train on, those of earlier rounds among them, and what these were.

    `replay_ratio` old rows join for each new one, drawn with the run's seed in the class mix the old rows have. The
    inputs of `replay_data` are taken in order, newest round first.
    """
    ratio = float(getattr(request.params, "replay_ratio", 0.0))
    inputs = request.many("replay_data") if request.inputs.get("replay_data") else ()
    if not inputs or not ratio:
        if inputs:
            ctx.warn("rounds.replay_unused", inputs=len(inputs))
        return data, Replay()
    old = [rows.prepare(ref, how, ctx) for ref in inputs]
    found = merge(data.examples, [o.examples for o in old])
    wanted = round(ratio * len(data.examples))
    chosen = sample(found.examples, wanted, request.seed)
    found = replace(found, examples=chosen, sources=[o.facts for o in old])
    ctx.note(
        "rounds.replayed", count=len(chosen), new=len(data.examples), available=found.available, ratio=ratio
    )
    if found.relabelled:
        ctx.warn("rounds.relabelled", count=found.relabelled)
    if len(chosen) < wanted:
        ctx.note("rounds.replay_short", wanted=wanted, count=len(chosen))
    return replace(data, examples=[*data.examples, *chosen], read=data.read + len(chosen)), found


def merge(new: Sequence[Example], old: Sequence[Sequence[Example]]) -> Replay:
    """Return the old rows that the new data, and newer rounds, neither repeat nor contradict."""
    labels = _labels(new)
    kept: list[Example] = []
    repeated = relabelled = 0
    for round_ in old:
        for example in round_:
            k = key(example)
            if k in labels:  # rows that one file repeats, or contradicts itself in, stay as that file has them
                is_same = example.data.get("label") in labels[k]
                repeated, relabelled = repeated + is_same, relabelled + (not is_same)
            else:
                kept.append(example)
        labels = {**_labels(round_), **labels}
    return Replay(kept, len(kept), repeated, relabelled)


def _labels(examples: Sequence[Example]) -> dict[Key, set[Any]]:
    found: dict[Key, set[Any]] = {}
    for example in examples:
        found.setdefault(key(example), set()).add(example.data.get("label"))
    return found


def key(example: Example) -> Key:
    """Return what makes two rows the same: prompt (with its images) and answers, as tokens, in any order."""
    return example.asked, tuple(sorted(example.answers))


def sample(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Draw `count` rows without repeats, each class in proportion to what there is, in the order of the source."""
    if count >= len(examples):
        return list(examples)
    by_label: dict[Any, list[int]] = {}
    for i, example in enumerate(examples):
        by_label.setdefault(example.data.get("label"), []).append(i)
    rng = random.Random(f"replay/{seed}")
    exact = {label: count * len(where) / len(examples) for label, where in by_label.items()}
    shares = {label: math.floor(n) for label, n in exact.items()}
    for label in sorted(exact, key=lambda k: shares[k] - exact[k])[: count - sum(shares.values())]:
        shares[label] += 1
    picked = sorted(i for label, where in by_label.items() for i in rng.sample(where, shares[label]))
    return [examples[i] for i in picked]


def number_of(record: Mapping[str, Any] | None, stage: str) -> int:
    """Return which round a model of this stage is: 0 for a model that the stage did not make."""
    if not record or record.get("stage") != stage:
        return 0
    return int((record.get("rounds") or {}).get("number", 1))


@dataclass(frozen=True)
class Round:
    """A round's place: its number, counted from 1, and the model it started from if that was a round too."""

    number: int
    previous: str | None

    @property
    def continues(self) -> bool:
        """Tell whether there is a round before this one."""
        return self.previous is not None


def round_of(request: StepRequest) -> Round:
    """Return which round a step is, from the policy it starts from."""
    record = request.input("policy").artifact
    before = number_of(record, request.stage)
    return Round(before + 1, str((record or {}).get("id", "")) if before else None)


def compare(
    this: Round, heldout: Mapping[str, Any] | None, ctx: Context
) -> tuple[dict[str, Any], list[Problem]]:
    """Hold a round against the policy it started from, on the same held-out rows.

    Args:
        this: the round.
        heldout: `heldout_rewards.summary_of`, or None without held-out data.
        ctx: told the result.

    Returns:
        What the artifact records as `rounds`, and the problems that keep it from its place: `rounds.worse` if AUC (or
        accuracy, while AUC is no better) lies below by its whole 95 % interval.
    """
    record: dict[str, Any] = {"number": this.number, "previous": this.previous}
    if not this.continues:
        return record, []
    change = {k: v for k, v in ((heldout or {}).get("change") or {}).items() if None not in v}
    if heldout is None or not change:
        ctx.warn("rounds.not_compared", number=this.number, previous=this.previous)
        return record, []
    record |= {"difference": change, "answers": heldout["answers"], "pairs": heldout["pairs"]}
    auc, accuracy = change.get("preference_auc"), change.get("preference_accuracy")
    worse = next((name for name, d in change.items() if d[2] < 0), None)
    if worse == "preference_accuracy" and auc is not None and auc[1] > 0:
        worse = None
    told = change[worse] if worse else (auc or accuracy)
    assert told is not None
    values = {
        "number": this.number,
        "previous": this.previous,
        "metric": worse or ("preference_auc" if auc else "preference_accuracy"),
        "difference": _signed(told[0]),
        "low": _signed(told[1]),
        "high": _signed(told[2]),
        "answers": heldout["answers"],
    }
    record["worse"] = worse is not None
    if worse:
        return record, [Problem("rounds.worse", values)]
    ctx.note("rounds.better" if told[1] > 0 else "rounds.equal", **values)
    return record, []


def _signed(value: float) -> str:
    return f"{value:+.3f}"
