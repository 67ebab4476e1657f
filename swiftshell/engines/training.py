"""What SFT, KTO and DPO do alike around a trainer: quiet libraries, train and stop, save, and say what was made."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swiftshell.engines import loading, probe, quantization, vision
from swiftshell.engines.arguments import checkpoint_argument
from swiftshell.engines.loading import Precision, Stack
from swiftshell.engines.rows import Prepared
from swiftshell.stages.base import Context, Outcome, StepRequest, Stopped

# What transformers logs about its own run once training is over; not measurements of the model.
_NOT_METRICS = ("_runtime", "_per_second", "total_flos", "epoch", "_steps_per_second")


def is_metric(name: str, value: Any) -> bool:
    """Tell whether a logged entry is a number about the model."""
    return isinstance(value, int | float) and not isinstance(value, bool) and not name.endswith(_NOT_METRICS)


def quiet_libraries() -> None:
    """Keep progress bars out of the log: progress is reported through events."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    import datasets
    import transformers

    datasets.disable_progress_bars()
    datasets.disable_caching()  # rows live in memory; hashing the tokenizer for every map costs more than the map
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def start(ctx: Context) -> None:
    """Begin a step: the libraries take seconds to import, so it is said first; then come the rows."""
    phase(ctx, "starting")
    loading.use_one_gpu()
    from transformers import AutoTokenizer  # noqa: F401

    phase(ctx, "tokenizing")


def load_libraries(params: Any) -> None:
    """Import PEFT, with bitsandbytes only if this step needs it, and keep the libraries quiet."""
    with quantization.hidden_unless(quantization.needs_bitsandbytes(params.quantization, params.optim)):
        import peft  # noqa: F401
    quiet_libraries()


def data_set(rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return rows as a datasets.Dataset in memory; images stay on disk until a batch needs them."""
    from datasets import Dataset

    if any("images" in r for r in rows):
        return vision.data_set(rows)
    return Dataset.from_list([dict(r) for r in rows])


def phase(ctx: Context, name: str) -> None:
    """Begin a phase; a stop asked for during the last one takes effect here.

    Raises:
        Stopped: a stop was asked for.
    """
    if ctx.stop_requested():
        raise Stopped
    ctx.phase(name)


def train(trainer: Any, request: StepRequest, ctx: Context) -> None:
    """Train to the end, from a checkpoint if there is one.

    Raises:
        Stopped: a stop was asked for; the trainer has saved a checkpoint of its last step.
    """
    quiet_trainer(trainer)
    trainer.train(resume_from_checkpoint=checkpoint_argument(request.resume_from))
    if ctx.stop_requested() and trainer.state.global_step < trainer.state.max_steps:
        raise Stopped
    evaluate_at_end(trainer, ctx)


def quiet_trainer(trainer: Any) -> None:
    """Keep a trainer from printing: every number is in the events."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def evaluate_at_end(trainer: Any, ctx: Context, *, always: bool = False) -> None:
    """Evaluate once if there are held-out rows; unless `always`, only if no evaluation came by its own schedule."""
    known = any(k.startswith("eval_") for k in _last_logged(trainer))
    if trainer.eval_dataset is not None and (always or not known):
        phase(ctx, "evaluating")
        trainer.evaluate()


def restore_default(trainer: Any, folder: Path) -> None:
    """Load a checkpoint's adapter into "default".

    With a second adapter ("ref") in the checkpoint, transformers loads the adapters that lie in sub-folders and passes
    over the trained one beside them, so a resumed run would start from the SFT weights again.
    """
    if (folder / "adapter_model.safetensors").is_file():
        loading.restore_adapter(trainer.model, folder)
        trainer.model.set_adapter("default")


def save(trainer: Any, request: StepRequest, ctx: Context, policy: Stack) -> str:
    """Write the trained adapter or model with its tokenizer; return the output slot."""
    phase(ctx, "saving")
    slot = "model" if request.params.tuning == "full" else "adapter"
    folder = ctx.out / slot
    shutil.rmtree(folder, ignore_errors=True)
    if slot == "adapter":
        trainer.model.save_pretrained(str(folder), selected_adapters=["default"])
    else:
        trainer.model.save_pretrained(str(folder), max_shard_size="4GB")
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    loading.copy_tokenizer(policy.tokenizer_folder, folder)
    return slot


def outcome(
    trainer: Any,
    slot: str,
    policy: Stack,
    tokenizer: Any,
    precision: Precision,
    data: Prepared,
    summary: Mapping[str, Any],
    **facts: Any,
) -> Outcome:
    """Return what was made: the artifact's facts, the last logged numbers, and a summary."""
    base = [dict(e) for e in policy.entries if e.get("kind") != "adapter"]
    stack = (
        [*base, {"kind": "adapter", "path": "."}] if slot == "adapter" else [{"kind": "model", "path": "."}]
    )
    artifact = {
        "kind": slot,
        "stack": stack,
        "dtype": precision.weights,
        "quantization": precision.quantization,
        "dataset": data.facts,
        **loading.tokenizer_hashes(policy.tokenizer_folder, tokenizer),
        **facts,
    }
    trainable = sum(p.numel() for p in trainer.model.parameters() if p.requires_grad)
    told = {
        "rows": data.read,
        "rows_trained": len(data.examples),
        "rows_dropped": len(data.dropped),
        "optimizer_steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0), 4),
        "effective_batch_size": trainer.args.per_device_train_batch_size
        * trainer.args.gradient_accumulation_steps,
        "trainable_parameters": trainable,
        "precision": precision.as_json(),
        "max_length": trainer.args.max_length,
    }
    return Outcome({slot: artifact}, _metrics(trainer), {**told, **summary})


def _metrics(trainer: Any) -> dict[str, float]:
    """Return the mean loss over all steps (of earlier attempts too) and the last value of each logged number."""
    losses = [float(e["loss"]) for e in trainer.state.log_history if "loss" in e]
    mean = {"train_loss": sum(losses) / len(losses)} if losses else {}
    return {**_last_logged(trainer), **mean, "global_step": float(trainer.state.global_step)}


def _last_logged(trainer: Any) -> dict[str, float]:
    last: dict[str, float] = {}
    for entry in trainer.state.log_history:
        last.update({k: float(v) for k, v in entry.items() if is_metric(k, v) and k != "step"})
    return last


def own_probe(
    trainer: Any,
    rows: Sequence[probe.ProbeRow],
    precision: Precision,
    *,
    base_logps: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Return the trained model's probe record: log-probabilities from a plain forward, the base's beside them."""
    model = trainer.model
    logps = probe.independent_logps(model, rows, precision)
    if base_logps is None and hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            base_logps = probe.independent_logps(model, rows, precision)
    return probe.record(rows, logps, base_logps, precision)


def warn_if_probe_is_weak(record: Mapping[str, Any], precision: Precision, ctx: Context) -> None:
    """Say so when the recorded rows cannot tell the trained model from the one it started from."""
    rows = probe.rows_of(record)
    moved = (
        probe.largest_difference(record["logps"], record["base_logps"], rows)
        if record.get("base_logps")
        else 0.0
    )
    if moved < 3 * probe.tolerance(precision):
        ctx.warn("train.probe_weak", moved=round(moved, 6), tolerance=probe.tolerance(precision))
