"""A KTO trainer small enough to calculate beside, and the calculation: plain logits, no part of TRL's loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BATCH = 4
BETA = 0.5


def make(
    folder: Path,
    model: Path,
    rows: Sequence[dict[str, Any]],
    *,
    weighted: bool = True,
    eval_rows: Sequence[dict[str, Any]] | None = None,
    drawn_scale: float = 0.3,
    **options: Any,
) -> Any:
    """Return a trainer over a LoRA on the tiny model; B is drawn, so that policy and reference differ at once."""
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    from swiftshell.engines.kto_trainer import WeightedKTOTrainer
    from swiftshell.engines.training import data_set

    args = KTOConfig(
        str(folder),
        **{
            "use_cpu": True,
            "bf16": False,
            "beta": BETA,
            "per_device_train_batch_size": BATCH,
            "per_device_eval_batch_size": BATCH,
            "gradient_accumulation_steps": 1,
            "gradient_checkpointing": False,
            "learning_rate": 1e-2,
            "lr_scheduler_type": "constant",
            "max_length": 96,
            "max_steps": 4,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "train_sampling_strategy": "sequential",
            "remove_unused_columns": not weighted,
            "seed": 3,
            **options,
        },
    )
    trainer = (WeightedKTOTrainer if weighted else KTOTrainer)(
        model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
        args=args,
        processing_class=AutoTokenizer.from_pretrained(model),
        train_dataset=data_set(rows),
        eval_dataset=data_set(eval_rows) if eval_rows else None,
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"),
    )
    drawn = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, tensor in trainer.model.named_parameters():
            if "lora_B" in name:
                tensor.copy_(torch.randn(tensor.shape, generator=drawn) * drawn_scale)
    return trainer


def trained(model: Any) -> dict[str, Any]:
    """Return copies of the tensors that train."""
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


def terms(model: Any, batch: Mapping[str, Any]) -> tuple[Any, Any, float]:
    """Return the log-ratios of a batch's rows, with gradient, their labels, and the KL before it is clamped."""
    import torch

    def logps(prefix: str = "") -> Any:
        ids, mask = batch[f"{prefix}input_ids"], batch[f"{prefix}completion_mask"]
        logits = model(input_ids=ids, attention_mask=batch[f"{prefix}attention_mask"]).logits[:, :-1]
        each = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
        return (each * mask[:, 1:]).sum(-1)

    kl = torch.zeros(1)
    with torch.no_grad(), model.disable_adapter():
        reference = logps()
        if "KL_input_ids" in batch:
            kl = kl - logps("KL_")
    if "KL_input_ids" in batch:
        with torch.no_grad():
            kl = kl + logps("KL_")
    return logps() - reference, batch["label"].bool(), float(kl.mean())


def row_losses(ratios: Any, labels: Any, kl: float, weights: tuple[float, float] = (1.0, 1.0)) -> Any:
    """Return the paper's loss of every row (KL clamped at 0), times its class's weight."""
    import torch

    z = BETA * (ratios - max(kl, 0.0))
    desirable, undesirable = 1 - torch.sigmoid(z), 1 - torch.sigmoid(-z)
    return torch.where(labels, weights[0] * desirable, weights[1] * undesirable)
