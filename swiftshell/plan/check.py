"""Find what is wrong with a plan before anything starts: references, rows, outputs, disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swiftshell.data import sources
from swiftshell.errors import Problem
from swiftshell.machine import disk as disk_facts
from swiftshell.plan.board import Board
from swiftshell.plan.model import PlanInput, PlanStep

PURPOSES = {"sft": "sft", "kto": "kto", "dpo": "dpo", "audit": "kto", "score": "heldout", "infer": "prompts",
            "evaluate": "heldout"}
_LEARNS = ("sft", "kto", "dpo")
_CHARACTERS_PER_TOKEN = 3.0  # between English (about 4) and Chinese (about 1.5)
_DISK_FLOOR_GIB = 0.2  # below this, even logs and checkpoints of a tiny run are at risk


def references(step: PlanStep, board: Board) -> Iterable[Problem]:
    """Hold the rule that makes rounds comparable: the reference is the SFT model, or where training started.

    Allowed without a word: an SFT output; the reference the policy itself was trained against; the policy itself,
    unless it came out of KTO or DPO. Anything else needs `other_reference: true`, and then says what it means.
    """
    if "reference" not in step.inputs or "policy" not in step.inputs:
        return
    reference, policy = step.inputs["reference"][0], step.inputs["policy"][0]
    yield from _vocabularies(policy, reference)
    if step.stage == "score":  # measures a distance; nothing is trained against it
        return
    ref_id, policy_id = _identity(reference), _identity(policy)
    made_by = _stage_of(reference, board)
    recorded = _recorded_reference(policy, board)  # a merged KTO model still names the SFT model it was held against
    fresh = recorded is None and made_by not in ("kto", "dpo")
    allowed = made_by == "sft" or ref_id == recorded or (ref_id == policy_id and fresh)
    if allowed:
        return
    values = {"stage": step.stage, "name": reference.name, "made_by": made_by or "-"}
    if step.params.get("other_reference"):
        yield Problem("plan.other_reference", values, severity="warning")
    else:
        yield Problem("plan.reference_not_sft", values, field_name=f"steps.{step.id}.inputs.reference")


def _vocabularies(policy: PlanInput, reference: PlanInput) -> Iterable[Problem]:
    """Refuse a reference that numbers tokens otherwise: its log-probabilities would be of other texts."""
    if policy.path is None or reference.path is None or policy.path == reference.path:
        return
    from swiftshell.data.vocabulary import difference_in_files

    if (found := difference_in_files(policy.path, reference.path)) is not None:
        yield Problem("thumbs.reference_tokenizer", {"policy": policy.name, "reference": reference.name,
                                                     **found.values()})


def _identity(item: PlanInput) -> str:
    return item.artifact_id or str(item.path)


def _stage_of(item: PlanInput, board: Board) -> str:
    entry = board.by_id(item.artifact_id) if item.artifact_id else None
    return item.stage or (entry.stage if entry else "")


def _recorded_reference(policy: PlanInput, board: Board) -> str | None:
    entry = board.by_id(policy.artifact_id) if policy.artifact_id else None
    return policy.reference_id or (entry.reference_id if entry else None)


def data(step: PlanStep) -> Iterable[Problem]:
    """Check every row of the data files on this disk; rows made or fetched by a step are checked by the worker."""
    purpose = PURPOSES.get(step.stage)
    if purpose is None:
        return
    from swiftshell.data.load import check_rows

    for slot in ("train_data", "replay_data", "eval_data", "prompts"):
        for item in step.inputs.get(slot, []):
            if item.producer is not None or item.path is None or not sources.exists(item.path):
                continue
            wanted = purpose if slot != "eval_data" or step.stage == "evaluate" else step.stage
            report = check_rows(item.path, wanted, **_reading(item))
            # Of thumbs DPO trains on the pairs they make, and SFT on the desirable ones.
            step.rows[slot] = report.usable if report.pairing or wanted == "sft" else report.rows
            if report.images:
                step.image_rows[slot] = report.images["rows"]
                step.image_marks[slot] = report.images_mark
            if slot == "train_data":
                step.row_tokens = sum(part.get("mean", 0.0) for part in report.characters.values()) / _CHARACTERS_PER_TOKEN
                step.thumbs = _weighed(report.thumbs, step.params)
            yield from report.problems


def _weighed(thumbs: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Return what was counted of KTO's rows with the class weights that the step's settings make of it."""
    if "desirable_weight" not in thumbs:
        return thumbs
    from swiftshell.data.balance import balance

    both = balance(
        thumbs["desirable"],
        thumbs["undesirable"],
        params.get("desirable_weight", "auto"),
        params.get("undesirable_weight", "auto"),
    )
    weights = {"desirable_weight": both.desirable_weight, "undesirable_weight": both.undesirable_weight}
    return {**thumbs, **weights, "capped": both.capped}


def leaks(steps: list[PlanStep]) -> Iterable[Problem]:
    """Warn about held-out rows whose prompt a training step of the same plan learns from: their score would flatter."""
    train = {i.path: i for s in steps if s.stage in _LEARNS for i in s.inputs.get("train_data", []) if _readable(i)}
    held = {i.path: i for s in steps if s.stage == "evaluate" for i in s.inputs.get("eval_data", []) if _readable(i)}
    if not train or not held:
        return
    from swiftshell.data.load import check_rows, load_rows
    from swiftshell.data.tally import overlap

    learned = [(i, PURPOSES[s.stage]) for s in steps if s.stage in _LEARNS for i in s.inputs.get("train_data", [])
               if i.path in train]
    for path, item in held.items():
        if path is None or _faulty(check_rows(path, "heldout", **_reading(item)).problems):
            continue
        rows = load_rows(path, "heldout", **_reading(item))
        for source, purpose in learned:
            if source.path is None or _faulty(check_rows(source.path, purpose, **_reading(source)).problems):
                continue
            found = overlap(load_rows(source.path, purpose, **_reading(source)), rows)
            yield from found[:3]
            if found:
                yield Problem("plan.leak", {"rows": len(found), "train": source.name, "held_out": item.name},
                              severity="warning")


def _readable(item: PlanInput) -> bool:
    return item.producer is None and item.path is not None and sources.exists(item.path)


def _faulty(problems: Iterable[Problem]) -> bool:
    return any(p.severity == "error" for p in problems)


def _reading(item: PlanInput) -> dict[str, Any]:
    names = ("columns", "format", "label_rule", "limit", "split")
    return {name: item.options[name] for name in names if item.options.get(name)}


def outputs(steps: list[PlanStep]) -> Iterable[Problem]:
    """Refuse output folders that hold something or could not be made after all the work."""
    for step in steps:
        folder = step.output_dir
        if folder is None:
            continue
        parent = next(p for p in (folder, *folder.parents) if _is_there(p))
        if parent == folder and not folder.is_dir():
            yield Problem("plan.output_not_folder", {"path": str(folder)})
        elif not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
            yield Problem("plan.output_unwritable", {"path": str(folder), "parent": str(parent)})
        elif parent == folder and step.restored_from is None and any(folder.iterdir()):
            yield Problem("plan.output_exists", {"path": str(folder)})


def _is_there(path: Path) -> bool:
    """Tell whether something lies at a path; what cannot be looked at counts as absent."""
    return os.path.exists(path)


def disk(steps: list[PlanStep], workspace: Path) -> Iterable[Problem]:
    """Refuse a plan whose known needs exceed what is free where the workspace lies."""
    free_gib = disk_facts.free_gib(workspace)
    needed = _DISK_FLOOR_GIB
    for step in steps:
        if step.restored_from is not None:
            continue
        needed += step.needs.disk_gib or 0.0
        if needed > free_gib:
            yield Problem("plan.disk_short", {"step": step.id, "need": _gib(needed), "free": _gib(free_gib),
                                              "path": str(workspace)})
            return


def _gib(value: float) -> str:
    """Return a size with one digit behind the point, or two telling ones where that would read 0.0."""
    return f"{value:.1f}" if value >= 1 else f"{value:.2g}"
