"""DPO: Direct Preference Optimization from pairs (TRL DPOTrainer)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from swiftshell.errors import Problem
from swiftshell.stages.base import Slot
from swiftshell.stages.shared import LearningRate, Training, TrainingStage

DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]
# Losses whose formula has a label smoothing; the others would pass over it without a word.
_SMOOTHED = ("robust", "exo_pair", "aot", "aot_unpaired")
# Losses of the difference between chosen and rejected reward: only there the other f-divergences are defined.
_OF_DIFFERENCE = ("sigmoid", "sigmoid_norm", "hinge", "ipo", "exo_pair", "robust", "discopop", "sft")
_DIVERGENCES = ("reverse_kl", "forward_kl", "js_divergence", "alpha_divergence")


class DpoParams(Training):
    """DPO, TRL's names. Several losses are added up, with `loss_weights` if they are to count differently."""

    learning_rate: LearningRate = 5e-6
    beta: Annotated[float, Field(gt=0, le=5)] = 0.1
    loss_type: DpoLoss | Annotated[list[DpoLoss], Field(min_length=1)] = "sigmoid"
    loss_weights: list[float] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    precompute_ref_log_probs: bool | Literal["auto"] = "auto"
    other_reference: bool = False  # accept a reference that is not the SFT model, knowing what it means

    @property
    def losses(self) -> list[str]:
        """Return the loss types as a list, as TRL takes them."""
        return [self.loss_type] if isinstance(self.loss_type, str) else list(self.loss_type)

    def own_problems(self) -> Iterator[Problem]:
        """Yield what cannot work together, or would be passed over in silence."""
        yield from _loss_problems(self.losses, self.loss_weights)
        yield from _smoothing_problems(self.losses, self.label_smoothing)
        yield from _argument_problems(self.losses, self.engine_args)
        sorting = [name for name in self.losses if name.startswith("aot")]
        if sorting and self.per_device_train_batch_size == 1:
            yield Problem(
                "pairs.aot_needs_batch",
                {"names": ", ".join(sorting)},
                field_name="per_device_train_batch_size",
            )


def _loss_problems(losses: list[str], weights: list[float] | None) -> Iterator[Problem]:
    twice = sorted({name for name in losses if losses.count(name) > 1})
    if twice:
        yield Problem("pairs.loss_twice", {"names": ", ".join(twice)}, field_name="loss_type")
    if weights is not None and len(weights) != len(losses):
        values = {"weights": len(weights), "losses": len(losses), "names": ", ".join(losses)}
        yield Problem("pairs.loss_weights_count", values, field_name="loss_weights")
    elif weights is not None and (min(weights) < 0 or not any(weights)):
        values = {"weights": ", ".join(f"{w:g}" for w in weights)}
        yield Problem("pairs.loss_weights_range", values, field_name="loss_weights")
    if losses == ["sft"]:
        yield Problem("pairs.loss_sft_alone", {}, field_name="loss_type")


def _smoothing_problems(losses: list[str], smoothing: float) -> Iterator[Problem]:
    if "exo_pair" in losses and not smoothing:
        yield Problem("train.exo_needs_smoothing", {}, field_name="label_smoothing")
    if "robust" in losses and not smoothing:
        yield Problem("pairs.robust_needs_smoothing", {}, field_name="label_smoothing")
    if smoothing and not set(losses) & set(_SMOOTHED):
        values = {"losses": ", ".join(losses), "smoothing": smoothing, "known": ", ".join(_SMOOTHED)}
        yield Problem("pairs.smoothing_unused", values, field_name="label_smoothing")


def _argument_problems(losses: list[str], given: dict[str, Any]) -> Iterator[Problem]:
    """Yield what TRL would refuse late, or take without a word, among the arguments that go through to it."""
    alpha = given.get("ld_alpha")
    if alpha is not None and not (isinstance(alpha, int | float) and 0 <= alpha <= 1):
        yield Problem("pairs.ld_alpha_range", {"value": alpha}, field_name="engine_args.ld_alpha")
    divergence = given.get("f_divergence_type", "reverse_kl")
    if divergence not in _DIVERGENCES:
        values = {"value": divergence, "known": ", ".join(_DIVERGENCES)}
        yield Problem("pairs.divergence_unknown", values, field_name="engine_args.f_divergence_type")
    elif divergence != "reverse_kl" and not set(losses) <= set(_OF_DIFFERENCE):
        values = {
            "value": divergence,
            "known": ", ".join(_OF_DIFFERENCE),
            "names": ", ".join(n for n in losses if n not in _OF_DIFFERENCE),
        }
        yield Problem("pairs.divergence_loss", values, field_name="engine_args.f_divergence_type")
    if given.get("use_weighting") and {"aot", "aot_unpaired"} & set(losses):
        values = {"names": ", ".join(n for n in losses if n.startswith("aot"))}
        yield Problem("pairs.weighting_sorts", values, field_name="engine_args.use_weighting")
    if given.get("padding_free"):
        yield Problem("pairs.no_padding_free", {}, field_name="engine_args.padding_free")


class Dpo(TrainingStage):
    """Learn from pairs, against the SFT model as fixed reference."""

    name = "dpo"
    params = DpoParams
    inputs = (
        Slot("policy", ("model", "adapter")),
        Slot("reference", ("model", "adapter")),
        Slot("train_data", ("dataset",)),
        Slot("eval_data", ("dataset",), required=False),
    )
    outputs = (Slot("adapter", ("adapter",), required=False), Slot("model", ("model",), required=False))
    engine = "swiftshell.engines.trl_dpo:run"


STAGE = Dpo()
