"""Find what is wrong with a plan before anything starts: references, rows, outputs, disk."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from swiftshell.errors import Problem
from swiftshell.machine import disk as disk_facts
from swiftshell.plan.board import Board
from swiftshell.plan.estimate import Sizes
from swiftshell.plan.model import PlanInput, PlanStep

PURPOSES = {"sft": "sft", "kto": "kto", "dpo": "dpo", "infer": "prompts", "evaluate": "heldout"}
_DISK_FLOOR_GIB = 0.2  # below this, even logs and checkpoints of a tiny run are at risk


def references(step: PlanStep, board: Board) -> Iterable[Problem]:
    """Hold the rule that makes rounds comparable: the reference is the SFT model, or where training started.

    Allowed without a word: an SFT output; the reference the policy itself was trained against; the policy itself,
    unless it came out of KTO or DPO. Anything else needs `other_reference: true`, and then says what it means.
    """
    if "reference" not in step.inputs or "policy" not in step.inputs:
        return
    reference, policy = step.inputs["reference"][0], step.inputs["policy"][0]
    ref_id, policy_id = _identity(reference), _identity(policy)
    made_by = _stage_of(reference, board)
    allowed = (
        made_by == "sft"
        or ref_id == _recorded_reference(policy, board)
        or (ref_id == policy_id and made_by not in ("kto", "dpo"))
        or (made_by == "merge" and ref_id == policy_id)
    )
    if allowed:
        return
    values = {"stage": step.stage, "name": reference.name, "made_by": made_by or "-"}
    if step.params.get("other_reference"):
        yield Problem("plan.other_reference", values, severity="warning")
    else:
        yield Problem("plan.reference_not_sft", values, field_name=f"steps.{step.id}.inputs.reference")


def _identity(item: PlanInput) -> str:
    return item.artifact_id or str(item.path)


def _stage_of(item: PlanInput, board: Board) -> str:
    entry = board.by_id(item.artifact_id) if item.artifact_id else None
    return item.stage or (entry.stage if entry else "")


def _recorded_reference(policy: PlanInput, board: Board) -> str | None:
    entry = board.by_id(policy.artifact_id) if policy.artifact_id else None
    return policy.reference_id or (entry.reference_id if entry else None)


def data(step: PlanStep, sizes: Sizes) -> Iterable[Problem]:
    """Check every row of the data files on this disk; rows made or fetched by a step are checked by the worker."""
    purpose = PURPOSES.get(step.stage)
    if purpose is None:
        return
    from swiftshell.data.load import check_rows

    for slot in ("train_data", "eval_data", "prompts"):
        for item in step.inputs.get(slot, []):
            if item.producer is not None or item.path is None or not item.path.exists():
                continue
            wanted = purpose if slot != "eval_data" or step.stage == "evaluate" else step.stage
            options = {k: item.options[k] for k in ("columns", "format", "label_rule", "limit") if item.options.get(k)}
            report = check_rows(item.path, wanted, **options)
            step.rows[slot] = report.rows
            sizes.characters[step.id] = getattr(report, "characters", 0)
            yield from report.problems


def outputs(steps: list[PlanStep]) -> Iterable[Problem]:
    """Refuse output folders that hold something."""
    for step in steps:
        folder = step.output_dir
        if folder is not None and step.restored_from is None and folder.exists() and any(folder.iterdir()):
            yield Problem("plan.output_exists", {"path": str(folder)})


def disk(steps: list[PlanStep], workspace: Path) -> Iterable[Problem]:
    """Refuse a plan whose known needs exceed what is free where the workspace lies."""
    free_gib = disk_facts.free_gib(workspace)
    needed = _DISK_FLOOR_GIB
    for step in steps:
        if step.restored_from is not None:
            continue
        needed += step.needs.disk_gib or 0.0
        if needed > free_gib:
            yield Problem("plan.disk_short", {"step": step.id, "need": f"{needed:.1f}", "free": f"{free_gib:.1f}",
                                              "path": str(workspace)})
            return
