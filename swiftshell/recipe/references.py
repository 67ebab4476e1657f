"""Check a step's inputs: what each reference points to, and whether its slot takes that kind of artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swiftshell.recipe.checking import Checker
from swiftshell.recipe.document import KeyPath
from swiftshell.recipe.model import DataSpec, ModelSpec, Ref
from swiftshell.recipe.suggest import nearest, shown
from swiftshell.stages.base import MODEL_KINDS, Slot, Stage

SECTIONS = ("models", "data")


@dataclass
class Made:
    """A step that was read already, or could not be understood (`stage` None: references to it are not judged)."""

    id: str
    stage: Stage | None
    outputs: tuple[Slot, ...] = ()
    why: str = ""  # what decided the outputs, e.g. "tuning: lora"


@dataclass
class Scope:
    """What a step may refer to: the sections, and the steps before it."""

    models: Mapping[str, ModelSpec]
    data: Mapping[str, DataSpec]
    declared: frozenset[str]  # entries of both sections, also those that are wrong themselves
    order: tuple[str, ...]  # ids of all steps
    made: dict[str, Made] = field(default_factory=dict)


def effective_outputs(stage: Stage, params: Mapping[str, Any], filled: set[str]) -> tuple[tuple[Slot, ...], str]:
    """Return the outputs a step will really make, and what decided that.

    Training makes an adapter or a model by `tuning`; an optional output named like an optional input (download) is made
    if that input is filled.
    """
    optional_inputs = {slot.name for slot in stage.inputs if not slot.required}
    tuned = {"adapter", "model"} <= {s.name for s in stage.outputs} and "tuning" in stage.params.model_fields
    tuning = params.get("tuning", stage.params.model_fields["tuning"].default) if tuned else None
    skip = {"lora": "model", "full": "adapter"}.get(str(tuning)) if tuned else None
    kept = tuple(slot for slot in stage.outputs if slot.required or (
        slot.name != skip and (slot.name not in optional_inputs or slot.name in filled)))
    return kept, f"tuning: {tuning}" if tuned else ""


def check_inputs(checker: Checker, path: KeyPath, stage: Stage, value: Any, scope: Scope,
                 step_id: str) -> dict[str, Ref | list[Ref]]:
    """Return a step's inputs by slot; what is wrong is recorded and left out."""
    slots = {slot.name: slot for slot in stage.inputs}
    written = checker.mapping(path, value)
    found: dict[str, Ref | list[Ref]] = {}
    for name, entry in written.items():
        here = (*path, name)
        if name not in slots:
            if slots:
                checker.unknown(here, slots)
            else:
                checker.add(here, "recipe.no_inputs", key=True, stage=stage.name)
            continue
        refs = _read_slot(checker, here, slots[name], entry, scope, step_id)
        if refs:
            found[name] = refs if slots[name].many else refs[0]
    for slot in stage.inputs:
        if slot.required and slot.name not in written:
            checker.add(path, "recipe.input_missing", key=True, slot=slot.name, stage=stage.name,
                        kinds=" | ".join(slot.kinds), field=f"{checker.dotted(path[:-1])}.inputs.{slot.name}")
    if stage.name == "download" and not {k for k in written if k in slots}:
        checker.add(path, "recipe.download_nothing", key=True)
    elif stage.name == "download" and len([k for k in written if k in slots]) > 1:
        checker.add(path, "recipe.download_both", key=True)
    return found


def _read_slot(checker: Checker, path: KeyPath, slot: Slot, value: Any, scope: Scope, step_id: str) -> list[Ref]:
    if isinstance(value, list):
        if not slot.many:
            checker.add(path, "recipe.one_only", slot=slot.name, count=len(value))
            return []
        if not value:
            checker.add(path, "recipe.input_empty", slot=slot.name)
        refs = [_reference(checker, (*path, i), slot, item, scope, step_id) for i, item in enumerate(value)]
    else:
        refs = [_reference(checker, path, slot, value, scope, step_id)]
    return [ref for ref in refs if ref is not None]


def _reference(checker: Checker, path: KeyPath, slot: Slot, value: Any, scope: Scope, step_id: str) -> Ref | None:
    """Return what a reference points to, or None after recording why it points to nothing."""
    if not isinstance(value, str) or not value.strip():
        checker.add(path, "recipe.not_reference", found=shown(value), slot=slot.name)
        return None
    owner, dot, rest = value.strip().partition(".")
    if owner in SECTIONS and dot:
        ref = _section(checker, path, owner, rest, scope)
    else:
        ref = _step(checker, path, owner, rest, slot, scope, step_id)
    if ref is not None and not set(ref.kinds) & set(slot.kinds):
        _wrong_kind(checker, path, slot, ref)
        return None
    return ref


def _section(checker: Checker, path: KeyPath, owner: str, name: str, scope: Scope) -> Ref | None:
    entries: Mapping[str, Any] = scope.models if owner == "models" else scope.data
    text = f"{owner}.{name}"
    if name not in entries:
        if text not in scope.declared:
            known = sorted(n.partition(".")[2] for n in scope.declared if n.startswith(owner + "."))
            _nowhere(checker, path, text, [f"{owner}.{n}" for n in known])
        return None
    mark = checker.document.value_mark(path)
    if owner == "models":
        # What a folder or a repository holds is seen when it is opened.
        kinds = MODEL_KINDS[:1] if entries[name].starter else MODEL_KINDS
        return Ref(text, "models", name, "", kinds, mark.line, mark.column)
    return Ref(text, "data", name, "", ("dataset",), mark.line, mark.column)


def _step(checker: Checker, path: KeyPath, owner: str, rest: str, slot: Slot, scope: Scope,
          step_id: str) -> Ref | None:
    """Return a reference to an earlier step's output; the slot may be left out if the step has only one."""
    text = f"{owner}.{rest}" if rest else owner
    if owner not in scope.made:
        if owner == step_id:
            checker.add(path, "recipe.ref_self", found=text)
        elif owner in scope.order:
            checker.add(path, "recipe.ref_forward", found=text, owner=owner)
        else:
            _nowhere(checker, path, text, _candidates(scope, slot))
        return None
    made = scope.made[owner]
    if made.stage is None:
        return None
    if not rest:
        if len(made.outputs) != 1:
            names = ", ".join(f"{owner}.{s.name}" for s in made.outputs)
            checker.add(path, "recipe.ref_which" if names else "recipe.ref_no_output", found=owner, choices=names)
            return None
        rest = made.outputs[0].name
    output = next((s for s in made.outputs if s.name == rest), None)
    if output is None:
        names = ", ".join(f"{owner}.{s.name}" for s in made.outputs) or "-"
        possible = any(s.name == rest for s in made.stage.outputs) and made.why
        checker.add(path, "recipe.ref_not_made" if possible else "recipe.ref_slot", found=text, owner=owner, slot=rest,
                    why=made.why, choices=names)
        return None
    mark = checker.document.value_mark(path)
    return Ref(f"{owner}.{rest}", "steps", owner, rest, output.kinds, mark.line, mark.column)


def _candidates(scope: Scope, slot: Slot) -> list[str]:
    """Return every reference that this slot could hold, as it would be written."""
    steps = [f"{made.id}.{output.name}" for made in scope.made.values() for output in made.outputs
             if set(output.kinds) & set(slot.kinds)]
    section = "data." if "dataset" in slot.kinds else "models."
    return [*(name for name in sorted(scope.declared) if name.startswith(section)), *steps]


def _nowhere(checker: Checker, path: KeyPath, text: str, candidates: list[str]) -> None:
    """Record a reference to nothing, with the nearest thing there is."""
    by_tail = [c for c in candidates if c.partition(".")[2] == text or c.partition(".")[0] == text]
    near = by_tail[0] if by_tail else nearest(text, candidates)
    if not near:
        tails = {c.partition(".")[2]: c for c in candidates}
        near = tails.get(nearest(text.partition(".")[2] or text, tails), "")
    if near:
        checker.add(path, "recipe.ref_unknown", found=text, nearest=near)
    else:
        checker.add(path, "recipe.ref_unknown_far", found=text, known=", ".join(candidates) or "-")


def _wrong_kind(checker: Checker, path: KeyPath, slot: Slot, ref: Ref) -> None:
    unmerged = ref.kinds == ("adapter",) and "model" in slot.kinds
    checker.add(path, "recipe.kind_unmerged" if unmerged else "recipe.kind_wrong", found=ref.text, slot=slot.name,
                kind=" | ".join(ref.kinds), kinds=" | ".join(slot.kinds))
