"""Turn a step's parameters into the arguments of a TRL configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from swiftshell.engines.loading import Precision
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.stages.base import Context, StepRequest
from swiftshell.stages.shared import training_problems

_DIRECT = (
    "learning_rate",
    "lr_scheduler_type",
    "warmup_steps",
    "weight_decay",
    "max_grad_norm",
    "num_train_epochs",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "logging_steps",
    "save_steps",
    "save_total_limit",
    "optim",
)
_CHECKPOINTING_FROM_BYTES = (
    1 << 30
)  # smaller models keep their activations: recomputing them costs more than it saves


def refuse_impossible(request: StepRequest) -> None:
    """Refuse parameters that cannot work or would break a promise, before anything is read.

    Raises:
        SwiftshellError: every such parameter.
    """
    if problems := [p for p in training_problems(request.params) if p.severity == "error"]:
        raise SwiftshellError(problems)


def _refuse_unknown(names: Iterable[str], config_class: type) -> None:
    known = {f.name for f in fields(config_class)}
    problems = []
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            problems.append(
                Problem(
                    "train.engine_arg_unknown",
                    {"name": name, "nearest": near[0] if near else "-", "config": config_class.__name__},
                    field_name=f"engine_args.{name}",
                )
            )
    if problems:
        raise SwiftshellError(problems)


def make(
    config_class: type,
    request: StepRequest,
    ctx: Context,
    precision: Precision,
    *,
    limit_tokens: int,
    weight_bytes: int,
    evaluates: bool,
    pictures: bool = False,
    **own: Any,
) -> Any:
    """Return the trainer's configuration; `own` are the arguments of the stage, `engine_args` come last.

    With `pictures` nothing is cut (an image's tokens cannot be, and every row was held to the limit already), and rows
    reach the collator as they are.

    Raises:
        SwiftshellError: an engine argument does not exist, or transformers or TRL refuse a value.
    """
    params = request.params
    _refuse_unknown(params.engine_args, config_class)
    values = {
        **{name: getattr(params, name) for name in _DIRECT},
        "output_dir": str(ctx.checkpoints),
        "seed": request.seed,
        "data_seed": request.seed,
        "max_length": limit_tokens,
        "dataset_num_proc": None,
        "per_device_eval_batch_size": params.per_device_train_batch_size,
        "eval_strategy": "steps" if evaluates and params.eval_steps else "no",
        "eval_steps": params.eval_steps or None,
        "save_strategy": "steps",
        "logging_strategy": "steps",
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "disable_tqdm": True,
        "push_to_hub": False,
        "gradient_checkpointing": _checkpointing(params, precision, weight_bytes),
        "gradient_checkpointing_kwargs": {"use_reentrant": False},
        **precision.trainer_flags(),
        **own,
        **({"max_length": None, "remove_unused_columns": False} if pictures else {}),
        **params.engine_args,
    }
    try:
        return config_class(**values)
    except (ValueError, TypeError, RuntimeError, ImportError) as error:
        raise SwiftshellError(
            Problem(
                "train.arguments_refused",
                {"config": config_class.__name__, "message": " ".join(str(error).split())[:300]},
            )
        ) from error


def _checkpointing(params: Any, precision: Precision, weight_bytes: int) -> bool:
    if params.gradient_checkpointing != "auto":
        return bool(params.gradient_checkpointing)
    return precision.device == "cuda" and weight_bytes >= _CHECKPOINTING_FROM_BYTES


def checkpoint_argument(resume_from: Path | None) -> str | None:
    """Return `resume_from_checkpoint` for `Trainer.train`."""
    return None if resume_from is None else str(resume_from)
