"""Find the name a person meant: the nearest known one, or the one an older or other tool's name stands for."""

from __future__ import annotations

from collections.abc import Iterable

# Names that are common elsewhere -> ours (TRL's and PEFT's). Used for hints, and by SwiftApp, which accepts them.
OLD_NAMES: dict[str, str] = {
    "kl_control_weight": "beta",
    "kl_coef": "beta",
    "kl_weight": "beta",
    "lora_rank": "lora.r",
    "lora_r": "lora.r",
    "rank": "lora.r",
    "r": "lora.r",
    "lora_alpha": "lora.lora_alpha",
    "lora_dropout": "lora.lora_dropout",
    "lora_target_modules": "lora.target_modules",
    "target_modules": "lora.target_modules",
    "use_rslora": "lora.use_rslora",
    "use_dora": "lora.use_dora",
    "warmup_ratio": "warmup_steps",  # below 1 it is a fraction there too
    "batch_size": "per_device_train_batch_size",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "train_batch_size": "per_device_train_batch_size",
    "grad_accum_steps": "gradient_accumulation_steps",
    "accumulation_steps": "gradient_accumulation_steps",
    "lr": "learning_rate",
    "lr_scheduler": "lr_scheduler_type",
    "scheduler": "lr_scheduler_type",
    "epochs": "num_train_epochs",
    "num_epochs": "num_train_epochs",
    "train_epochs": "num_train_epochs",
    "max_seq_length": "max_length",
    "max_seq_len": "max_length",
    "cutoff_len": "max_length",
    "model_max_length": "max_length",
    "torch_dtype": "dtype",
    "pref_beta": "beta",
    "dpo_beta": "beta",
    "kto_beta": "beta",
    "kto_chosen_weight": "desirable_weight",
    "kto_rejected_weight": "undesirable_weight",
    "quantization_bit": "quantization",
    "quantization_method": "quantization",
    "quant_method": "quantization",
    "finetuning_type": "tuning",
    "train_type": "tuning",
    "tuner_type": "tuning",
    "optimizer": "optim",
    "gradient_clipping": "max_grad_norm",
    "eval_batch_size": "batch_size",
    "max_tokens": "max_new_tokens",
}


def nearest(name: object, known: Iterable[str]) -> str:
    """Return the known name that looks most like this one, or an empty string."""
    from difflib import get_close_matches

    options = list(known)
    folded = {option.lower().replace("-", "_"): option for option in options}
    text = str(name).lower().replace("-", "_")
    if text in folded:
        return folded[text]
    near = get_close_matches(text, folded, n=1, cutoff=0.6)
    return folded[near[0]] if near else ""


def shown(value: object) -> str:
    """Return a value as a person would have written it, in at most 60 characters."""
    import json

    text = value if isinstance(value, str) and value.isprintable() and value.strip() == value and value else None
    if text is None:
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        text = f'"{text}"'
    return text if len(text) <= 60 else text[:59] + "…"
