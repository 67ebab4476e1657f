"""Look at a data set and decide which stage it suits: SFT, KTO, DPO, or KTO and then DPO, with reasons and settings.

`look` reads the rows as each stage would and counts; `decide` is pure. The rule of thumb behind it: clean pairs are for
DPO; single labels, unbalanced, noisy or contradictory ones for KTO; good answers alone for SFT. Nothing here looks at a
model, so nothing here can know whether an SFT is still needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.data.load import check_rows
from swiftshell.data.report import DataReport
from swiftshell.errors import SwiftshellError

_NOISY = 0.1  # share of rows that contradict others; a tenth of wrong pairs already costs DPO a good part of its gain
_SOME_NOISE = 0.03  # from here on a loss that reckons with wrong pairs is worth its slower start
_MOSTLY_PAIRED = 0.8  # share of labelled answers with a partner from which on little is lost by pairing
_PARTLY_PAIRED = 0.3
_ENOUGH_PAIRS = 50
_FEW_ROWS = 200
_BATCH, _ACCUMULATION = 8, 4  # defaults of the stages
_WANTED_STEPS = 20  # fewer optimizer steps hardly leave the warmup
_CHARACTERS_PER_TOKEN = 3.0
_MAX_LENGTH = 1024


@dataclass(frozen=True)
class Looked:
    """What was counted.

    Attributes:
        kind: pairs, thumbs or demonstrations.
        rows: rows of the source; `usable`: rows that training could use; `bad_rows`: those that cannot be read.
        desirable, undesirable, soft: thumbs of each kind, and how many are probabilities.
        prompts, both: different prompts among thumbs, and those with both kinds of answers.
        pairs, alone: pairs (made of thumbs, or as they are), and thumbs that find no partner.
        contradictions: answers judged both ways, or pairs both ways round; `same`: pairs of one answer with itself.
        longest_tokens: about the most that a row can have, from the longest prompt and the longest answer.
        class_weights: what KTO would set by itself, desirable and undesirable.
        columns: part → column as found.
    """

    kind: str
    rows: int
    usable: int
    bad_rows: int = 0
    desirable: int = 0
    undesirable: int = 0
    soft: int = 0
    prompts: int = 0
    both: int = 0
    pairs: int = 0
    alone: int = 0
    contradictions: int = 0
    same: int = 0
    copies: int = 0
    longest_tokens: int = 0
    class_weights: tuple[float, float] | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @property
    def noise(self) -> float:
        """Return the share of rows that contradict another, or themselves."""
        return (self.contradictions + self.same) / max(self.pairs if self.kind == "pairs" else self.usable, 1)


@dataclass(frozen=True)
class Said:
    """A reason, or a setting with its reason: a catalogue key and the numbers for it."""

    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    stage: str = ""
    name: str = ""
    value: Any = None


@dataclass(frozen=True)
class Choice:
    """Stages in the order to run them (none: the data teaches nothing yet), why, with which settings, and what else."""

    stages: tuple[str, ...]
    reasons: tuple[Said, ...]
    settings: tuple[Said, ...] = ()
    instead: tuple[Said, ...] = ()


def look(path: Path, **options: Any) -> Looked:
    """Count what a data set holds; options as of `load.check_rows`.

    Raises:
        SwiftshellError: no stage could read it.
    """
    kto = check_rows(path, "kto", **options)
    if "rejected" in kto.columns:
        return _pairs(check_rows(path, "dpo", **options), kto)
    if {"label", "probability"} & kto.columns.keys():
        return _thumbs(check_rows(path, "dpo", **options), kto)
    sft = check_rows(path, "sft", **options)
    if not sft.usable:
        raise SwiftshellError(sft.errors or kto.errors)
    return Looked(
        "demonstrations",
        sft.rows,
        sft.usable,
        sft.bad_rows,
        longest_tokens=_longest(sft),
        copies=sft.counts.get("data.duplicate", 0),
        columns=sft.columns,
    )


def _pairs(dpo: DataReport, kto: DataReport) -> Looked:
    if not dpo.usable:
        raise SwiftshellError(dpo.errors)
    same = dpo.counts.get("data.same_pair", 0)
    # Read for KTO, a pair of one answer with itself contradicts itself: it is counted as `same` already.
    return Looked(
        "pairs",
        dpo.rows,
        dpo.usable,
        dpo.bad_rows,
        pairs=dpo.usable,
        same=same,
        contradictions=max(kto.counts.get("data.contradiction", 0) - same, 0),
        copies=dpo.counts.get("data.duplicate", 0),
        longest_tokens=_longest(dpo),
        columns=dpo.columns,
    )


def _thumbs(dpo: DataReport, kto: DataReport) -> Looked:
    if not kto.usable:
        raise SwiftshellError(kto.errors)
    found, weighed = dpo.pairing, kto.thumbs
    weights = (
        (weighed["desirable_weight"], weighed["undesirable_weight"])
        if "desirable_weight" in weighed
        else None
    )
    return Looked(
        "thumbs",
        kto.rows,
        kto.usable,
        kto.bad_rows,
        kto.classes.get("desirable", 0),
        kto.classes.get("undesirable", 0),
        weighed.get("soft", 0),
        found.get("prompts", 0),
        found.get("both", 0),
        found.get("pairs", 0),
        found.get("alone", kto.usable),
        kto.counts.get("data.contradiction", 0),
        copies=kto.counts.get("data.duplicate", 0),
        longest_tokens=_longest(kto),
        class_weights=weights,
        columns=kto.columns,
    )


def _longest(report: DataReport) -> int:
    characters: int = sum(part["max"] for part in report.characters.values())
    return round(characters / _CHARACTERS_PER_TOKEN)


def decide(seen: Looked) -> Choice:
    """Return which stages suit the data, in order, with reasons and the settings that differ from the defaults."""
    stages, reasons, instead = {"pairs": _for_pairs, "thumbs": _for_thumbs}.get(
        seen.kind, _for_demonstrations
    )(seen)
    if seen.usable < _FEW_ROWS and stages:
        reasons.append(Said("choose.few_rows", {"rows": seen.usable}))
    settings = tuple(said for stage in stages for said in _settings(stage, seen))
    return Choice(tuple(stages), tuple(reasons), settings, tuple(instead))


Decided = tuple[list[str], list[Said], list[Said]]


def _for_demonstrations(seen: Looked) -> Decided:
    return ["sft"], [Said("choose.demonstrations", {"rows": seen.usable})], [Said("choose.instead_collect")]


def _for_pairs(seen: Looked) -> Decided:
    numbers = {"pairs": seen.pairs, "wrong": seen.contradictions + seen.same, "percent": _percent(seen.noise)}
    if seen.noise > _NOISY:
        return ["kto"], [Said("choose.pairs_noisy", numbers)], [Said("choose.instead_robust", numbers, "dpo")]
    return (
        ["dpo"],
        [Said("choose.pairs_clean", numbers)],
        [Said("choose.instead_kto_of_pairs", numbers, "kto")],
    )


def _for_thumbs(seen: Looked) -> Decided:
    if not (seen.desirable and seen.undesirable):
        if seen.desirable:
            return (
                ["sft"],
                [Said("choose.only_desirable", {"rows": seen.desirable})],
                [Said("choose.instead_thumbs_down")],
            )
        return (
            [],
            [Said("choose.only_undesirable", {"rows": seen.undesirable})],
            [Said("choose.instead_thumbs_up")],
        )
    numbers = {
        "rows": seen.usable,
        "pairs": seen.pairs,
        "paired": 2 * seen.pairs,
        "alone": seen.alone,
        "percent": _percent(2 * seen.pairs / seen.usable),
    }
    reasons = list(_about_thumbs(seen))
    paired = 2 * seen.pairs / seen.usable
    if paired >= _MOSTLY_PAIRED and seen.noise <= _NOISY:
        return (
            ["dpo"],
            [Said("choose.mostly_paired", numbers), *reasons],
            [Said("choose.instead_kto", numbers, "kto")],
        )
    if paired >= _PARTLY_PAIRED and seen.pairs >= _ENOUGH_PAIRS:
        return (
            ["kto", "dpo"],
            [Said("choose.partly_paired", numbers), *reasons],
            [Said("choose.instead_kto_only", numbers)],
        )
    instead = [Said("choose.instead_pairs", numbers, "dpo")] if seen.pairs else []
    return (
        ["kto"],
        [Said("choose.unpaired", numbers), *reasons],
        [*instead, Said("choose.instead_sft_first", {}, "sft")],
    )


def _about_thumbs(seen: Looked) -> Iterator[Said]:
    more, fewer = max(seen.desirable, seen.undesirable), min(seen.desirable, seen.undesirable)
    if more >= 2 * fewer:
        numbers = {
            "desirable": seen.desirable,
            "undesirable": seen.undesirable,
            "ratio": f"{more / fewer:.1f}",
        }
        yield Said("choose.unbalanced", numbers)
    if seen.contradictions:
        yield Said("choose.contradictions", {"count": seen.contradictions, "percent": _percent(seen.noise)})
    if seen.soft:
        yield Said("choose.soft", {"count": seen.soft, "rows": seen.usable})


def _settings(stage: str, seen: Looked) -> Iterator[Said]:
    """Yield settings worth changing for this data, and the ones a person will ask about."""
    rows = {
        "sft": seen.desirable or seen.usable,
        "kto": seen.usable * (2 if seen.kind == "pairs" else 1),
        "dpo": seen.pairs,
    }[stage]
    yield from _about_batches(stage, rows, seen)
    if stage == "kto":
        yield Said("choose.beta", {}, "kto", "beta", 0.1)
        if seen.class_weights:
            values = {"desirable_weight": seen.class_weights[0], "undesirable_weight": seen.class_weights[1]}
            yield Said("choose.class_weights", values, "kto", "desirable_weight", "auto")
    if stage == "dpo" and seen.noise >= _SOME_NOISE:
        share = min(round(seen.noise, 2), 0.4)
        yield Said("choose.robust", {"percent": _percent(seen.noise)}, "dpo", "loss_type", "robust")
        yield Said("choose.robust_share", {"share": share}, "dpo", "label_smoothing", share)
    if seen.longest_tokens > _MAX_LENGTH:
        fits = min(1 << (seen.longest_tokens - 1).bit_length(), 8192)
        yield Said("choose.long", {"tokens": seen.longest_tokens}, stage, "max_length", fits)


def _about_batches(stage: str, rows: int, seen: Looked) -> Iterator[Said]:
    batch = _BATCH
    rare = min(seen.desirable, seen.undesirable) / seen.usable
    if stage == "kto" and seen.kind == "thumbs" and rare * _BATCH < 1:
        batch = 2 * _BATCH
        yield Said(
            "choose.rare_class", {"percent": _percent(rare)}, stage, "per_device_train_batch_size", batch
        )
    accumulation = max(1, min(_ACCUMULATION * _BATCH // batch, rows // (batch * _WANTED_STEPS)))
    steps = -(-rows // (batch * accumulation))
    if accumulation != _ACCUMULATION:
        numbers = {"steps": steps, "effective": batch * accumulation}
        yield Said("choose.steps", numbers, stage, "gradient_accumulation_steps", accumulation)
    if steps < _WANTED_STEPS:
        yield Said("choose.epochs", {"steps": steps}, stage, "num_train_epochs", 3)


def _percent(share: float) -> str:
    percent = 100 * share
    return f"{percent:.0f}" if percent >= 10 else f"{percent:.2g}"
