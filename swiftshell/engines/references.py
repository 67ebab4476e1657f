"""Set up policy and reference for a preference trainer, and say what the reference has to be.

TRL decides by what it is handed, so what it is handed decides the reference:

- `adapter_copy`: a PeftModel holding the *reference's* adapter; TRL freezes a copy of it as "ref". A policy that has
  moved on (second KTO, DPO after KTO) gets its own weights into "default" only after the trainer was built.
- `adapter_off`: the base and a LoRA configuration; the reference is the base with the adapter switched off. Again a
  policy's weights come afterwards.
- `second_model`: the reference as a model of its own, for full fine-tuning and for adapters that do not fit each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.engines import loading, probe, vision
from swiftshell.engines.loading import Precision, Stack
from swiftshell.errors import fail


@dataclass
class Models:
    """What the trainer is built from.

    Attributes:
        model, peft_config, ref_model: the trainer's arguments.
        inject: adapter folder whose weights go into "default" once the trainer exists.
        mode: how the reference is kept (see the module).
    """

    model: Any
    peft_config: Any
    ref_model: Any
    inject: Path | None
    mode: str

    @property
    def reference(self) -> Any:
        """Return the loaded model that stands for the reference before a trainer exists."""
        return self.ref_model if self.ref_model is not None else self.model


@dataclass(frozen=True)
class Lineage:
    """The SFT model that a policy's lineage started from: how it is assembled, and its recorded probe, if any."""

    stack: Stack
    probe: Mapping[str, Any] | None


def lineage_of(policy: Stack) -> Lineage:
    """Return the model a policy must be measured against: its recorded reference, or, with none recorded, itself."""
    reference = policy.record.get("reference")
    if isinstance(reference, Mapping) and reference.get("path"):
        stack = loading.stack_from(reference, Path(reference["path"]), str(reference.get("id") or ""))
        return Lineage(stack, reference.get("probe"))
    return Lineage(policy, policy.record.get("probe"))


def build(policy: Stack, reference: Stack, params: Any, precision: Precision) -> Models:
    """Load policy and reference in the cheapest way that keeps the reference right.

    Raises:
        SwiftshellError: full fine-tuning of an adapter, or a model that cannot be loaded.
    """
    if params.tuning == "full":
        if policy.adapter is not None:
            raise fail("train.full_needs_model", file=str(policy.adapter))
        return Models(
            loading.load_base(policy.base, precision),
            None,
            _second_model(reference, precision),
            None,
            "second_model",
        )
    base = loading.load_base(policy.base, precision)
    same_base = policy.base.resolve() == reference.base.resolve()
    if same_base and reference.adapter is None:
        config = (
            loading.saved_adapter_config(policy.adapter)
            if policy.adapter
            else loading.lora_config(params.lora, base)
        )
        return Models(base, config, None, policy.adapter, "adapter_off")
    if same_base and reference.adapter and policy.adapter and _fit(policy.adapter, reference.adapter):
        return Models(
            loading.put_adapter(base, reference.adapter, trainable=True),
            None,
            None,
            policy.adapter,
            "adapter_copy",
        )
    model = loading.put_adapter(base, policy.adapter, trainable=True) if policy.adapter else base
    config = None if policy.adapter else loading.lora_config(params.lora, base)
    return Models(model, config, _second_model(reference, precision), policy.adapter, "second_model")


def _second_model(reference: Stack, precision: Precision) -> Any:
    """Load the reference as a frozen model; its adapter stays in its layers, without PEFT's shell, which TRL cannot take."""
    model = loading.load_stack(reference, precision)
    plain = model if reference.adapter is None else model.get_base_model()
    return plain.requires_grad_(False).eval()


def _fit(first: Path, second: Path) -> bool:
    return loading.adapter_shape(first) == loading.adapter_shape(second)


@dataclass(frozen=True)
class Expectation:
    """What the reference must answer on which rows; `source` says where the numbers come from."""

    rows: list[probe.ProbeRow]
    logps: list[float]
    source: str  # "recorded" or "computed"
    name: str


def expectation(
    policy: Stack,
    reference: Stack,
    models: Models,
    own_rows: list[probe.ProbeRow],
    params: Any,
    precision: Precision,
    eyes: vision.Eyes | None = None,
) -> Expectation:
    """Return the numbers the trainer's reference must give.

    They are the SFT model's recorded ones if they were computed in the present precision; otherwise they are computed
    again, by a plain forward of that model. With `other_reference` the model given as reference is taken as it is.
    """
    lineage = (
        Lineage(reference, reference.record.get("probe")) if params.other_reference else lineage_of(policy)
    )
    recorded = lineage.probe if lineage.probe and probe.is_whole(lineage.probe) else None
    rows = probe.rows_of(recorded, eyes) if recorded else own_rows
    name = lineage.stack.name or str(lineage.stack.path)
    # A merged model quantized anew is not the adapter on quantized weights whose numbers it carries.
    requantized = lineage.stack.record.get("stage") == "merge" and precision.quantization != "none"
    if recorded and recorded.get("precision") == precision.as_json() and not requantized:
        return Expectation(rows, list(recorded["logps"]), "recorded", name)
    if lineage.stack.same_as(reference):
        return Expectation(rows, probe.independent_logps(models.reference, rows, precision), "computed", name)
    other = loading.load_stack(lineage.stack, precision)
    return Expectation(rows, probe.independent_logps(other, rows, precision), "computed", name)
