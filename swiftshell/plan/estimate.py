"""Estimate disk and time before the start: from what ran here before, else from sizes; unknown stays unknown."""

from __future__ import annotations

import os
import statistics
from pathlib import Path

from swiftshell.plan.model import PlanStep
from swiftshell.run.files import read_json_or_none
from swiftshell.run.paths import RunPaths
from swiftshell.stages.base import Needs

_TRAINING = ("sft", "kto", "dpo")
_START_S = 12.0  # a worker's imports and loading a small model
_MICRO_STEP_S = 0.1  # what a forward and backward cost at least, however small the model
_CPU_OPERATIONS_PER_S = 2e10  # one core, float32
_GPU_OPERATIONS_PER_S = 5e13  # bfloat16, at what training reaches
_HISTORY = 200  # runs looked at; more would cost time and say nothing new


class Sizes:
    """Sizes of the models that flow through a plan, and how long the stages took here before."""

    def __init__(self, workspace: Path) -> None:
        self._runs = workspace / "runs"
        self._model_gib: dict[str, float | None] = {}
        self._history: dict[tuple[str, str], list[float]] | None = None

    def estimate(self, step: PlanStep) -> None:
        """Fill a step's needs and time estimate."""
        if step.restored_from is not None:
            step.estimate_s, step.estimate_from = 0.0, "restored"
            self._model_gib[step.id] = self._input_gib(step)
            return
        step.needs = Needs(disk_gib=self._disk_gib(step), network=step.network)
        past = self._past(step.stage, step.lineage)
        if past:
            step.estimate_s, step.estimate_from = round(statistics.median(past), 1), "history"
        elif (guess := self._rough_s(step)) is not None:
            step.estimate_s, step.estimate_from = float(round(guess, -1) or 10), "rough"

    def _disk_gib(self, step: PlanStep) -> float | None:
        model = self._input_gib(step)
        if step.stage == "download":
            self._model_gib[step.id] = model
            return model
        if step.stage in _TRAINING:
            full = step.params.get("tuning") == "full"
            self._model_gib[step.id] = model
            if model is None:
                return None
            # a full checkpoint holds weights and two AdamW moments; an adapter is at most a tenth of its model
            return model * (1 + 3 * step.params.get("save_total_limit", 2)) if full else model * 0.1 * 4
        factor = {"merge": 1.0, "quantize": 0.6 if step.params.get("quantization") == "int8" else 0.4}.get(step.stage)
        self._model_gib[step.id] = None if model is None else model * (factor or 0.0)
        return None if model is None and factor else (model or 0.0) * factor if factor else 0.01

    def _input_gib(self, step: PlanStep) -> float | None:
        """Return the size of the largest model a step reads, or None if it is not on this disk yet."""
        found: list[float] = []
        for slot in ("policy", "model", "adapter", "models"):
            for item in step.inputs.get(slot, []):
                if item.producer is not None:
                    known = self._model_gib.get(item.producer)
                elif item.options.get("starter"):
                    known = 0.01
                elif item.path or item.options.get("path"):
                    known = _stack_gib(item.path or Path(str(item.options["path"])))
                else:
                    known = None  # on a hub
                if known is not None:
                    found.append(known)
        return max(found, default=None)

    def _rough_s(self, step: PlanStep) -> float | None:
        """Guess a duration from sizes, to the order of magnitude: start-up, arithmetic, and a floor for every step.

        Forward costs 2 and backward 4 operations a weight and token; SFT is one of each, KTO four forwards, DPO two of
        everything and two more forwards for the reference.
        """
        weights_gib = self._input_gib(step)
        if step.stage == "download":
            return None if step.network else 1.0
        if weights_gib is None:
            return None
        if step.stage not in _TRAINING:
            rows = sum(step.rows.values()) or 64
            models = len(step.inputs.get("models", [])) or 1
            generating = step.stage in ("infer", "evaluate")
            return _START_S + weights_gib * 20 * models + (rows * models * 0.02 if generating else 0.0)
        rows = step.rows.get("train_data", 0)
        batch = step.params["per_device_train_batch_size"] * step.params["gradient_accumulation_steps"]
        steps = step.params["max_steps"]
        steps = steps if steps > 0 else rows * step.params["num_train_epochs"] / batch
        passes = {"sft": 6, "kto": 12, "dpo": 16}[step.stage]
        tokens = steps * batch * min(step.row_tokens or 100, step.params["max_length"])
        operations = passes * (weights_gib * 2**30 / 2) * tokens
        micro_steps = steps * step.params["gradient_accumulation_steps"]
        return _START_S + float(max(operations / _operations_per_s(), micro_steps * _MICRO_STEP_S))

    def _past(self, stage: str, lineage: str) -> list[float]:
        if self._history is None:
            self._history = {}
            runs = sorted(self._runs.iterdir(), reverse=True)[:_HISTORY] if self._runs.is_dir() else []
            for run in runs:
                for paths in RunPaths(run).steps():
                    result, request = read_json_or_none(paths.result), read_json_or_none(paths.request)
                    if isinstance(result, dict) and isinstance(request, dict) and result.get("result") == "succeeded" \
                            and not result.get("restored_from") and result.get("duration_s"):
                        key = (str(request.get("stage")), str(request.get("lineage")))
                        self._history.setdefault(key, []).append(float(result["duration_s"]))
        return self._history.get((stage, lineage), [])


def _stack_gib(path: Path) -> float | None:
    """Return the size of a model folder, with the base an adapter sits on."""
    if not path.is_dir():
        return None
    record = read_json_or_none(path / "ARTIFACT.json") or {}
    folders = {path, *((path / e["path"]) for e in record.get("stack") or [] if e.get("path"))}
    weights = [f for folder in folders if folder.is_dir() for f in folder.glob("*.safetensors")]
    return float(sum(f.stat().st_size for f in weights)) / 2**30


def _operations_per_s() -> float:
    from swiftshell.machine.gpu import gpus

    return _GPU_OPERATIONS_PER_S if gpus() else _CPU_OPERATIONS_PER_S * (os.cpu_count() or 1)
