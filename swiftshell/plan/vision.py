"""Check before anything loads that rows with images meet a model that sees, and that no model needs code from the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from swiftshell.errors import Problem
from swiftshell.machine import architecture
from swiftshell.machine.architecture import Architecture
from swiftshell.plan.model import PlanInput, PlanStep
from swiftshell.run import artifact
from swiftshell.stages.base import MODEL_KINDS

_TRAINS = ("sft", "kto", "dpo")


def check(step: PlanStep, before: Sequence[PlanStep]) -> Iterable[Problem]:
    """Yield what the models' configurations on this disk tell; models not here yet are checked when they are."""
    yield from _unloadable(step)
    if step.stage not in _TRAINS or "policy" not in step.inputs:
        return
    policy = step.inputs["policy"][0]
    found = _architecture(policy, before)
    if found is None:
        return
    pictures = sum(step.image_rows.values())
    values = {"model": policy.name, "model_type": found.model_type or "-", "rows": pictures}
    if pictures and not found.sees:
        yield Problem("images.text_model", values, field_name=f"steps.{step.id}.inputs.train_data")
    elif found.sees and step.rows and not pictures:
        yield Problem("images.text_rows", values, severity="note")


def fingerprint_with_images(step: PlanStep) -> str:
    """Return the step's fingerprint with the images that its rows name: the data file alone does not change with them."""
    if not step.image_marks:
        return step.fingerprint
    text = "\0".join((step.fingerprint, *(f"{slot}={mark}" for slot, mark in sorted(step.image_marks.items()))))
    return hashlib.sha256(text.encode()).hexdigest()


def _unloadable(step: PlanStep) -> Iterable[Problem]:
    """Yield models that only their own code could load: CogVLM by name, any by its configuration."""
    for items in step.inputs.values():
        for item in items:
            repo = str(item.options.get("repo") or "")
            if step.stage == "download" and item.slot == "model" and architecture.named_cogvlm(repo):
                yield Problem("images.cogvlm", {"where": repo})
                continue
            found = _of_path(item) if item.kind in MODEL_KINDS or item.slot == "model" else None
            if found is not None and found.remote_code:
                code = "images.cogvlm" if found.is_cogvlm else "images.remote_code"
                yield Problem(
                    code,
                    {
                        "where": item.name or str(item.path),
                        "model_type": found.model_type or found.name or "-",
                    },
                )


def _architecture(item: PlanInput, before: Sequence[PlanStep]) -> Architecture | None:
    """Return what a model is, through the steps of this plan that make it back to one that is here."""
    found = _of_path(item)
    if found is not None or item.producer is None:
        return found
    maker = next((s for s in before if s.id == item.producer), None)
    for slot in ("policy", "adapter", "model"):
        for source in maker.inputs.get(slot, []) if maker else []:
            return _architecture(source, before)
    return None


def _of_path(item: PlanInput) -> Architecture | None:
    """Return what lies at an input's path: its base's configuration for an adapter."""
    from swiftshell.plan.quick import STARTER_FOLDER

    path = STARTER_FOLDER / "model" if item.options.get("starter") is True else item.path
    if path is None and item.options.get("path"):
        path = Path(str(item.options["path"]))
    if path is None or not path.is_dir():
        return None
    return architecture.of_folder(_base(path))


def _base(path: Path) -> Path:
    try:
        record = artifact.read(path)
    except ValueError:
        record = None
    for entry in (record or {}).get("stack") or []:
        if entry.get("kind") != "adapter" and entry.get("path"):
            return Path(str(entry["path"]))
    config = path / "adapter_config.json"
    if config.is_file():
        try:
            base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
        except (OSError, ValueError, AttributeError):
            base = None
        return Path(str(base or path))
    return path
