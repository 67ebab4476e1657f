"""Axolotl, LLaMA-Factory and ms-swift as arms of the KTO benchmark, where an environment with them is given.

Each gets the same model, rows, LoRA, batch and steps through its own configuration. They render a conversation each in its
own way (a line break more or less after the last answer), so their token counts may differ by a few and are shown.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.kto_common import ArmFailed, Measured, Prepared, Settings, from_log, run_command

Arm = Callable[[Prepared, Settings, Path], Measured]


def arm(kind: str, environment: Path) -> Arm:
    """Return an arm that runs a peer from a virtual environment's folder.

    Raises:
        ArmFailed: the environment does not have its program.
    """
    program = (
        environment
        / "bin"
        / {"axolotl": "axolotl", "llamafactory": "llamafactory-cli", "swift": "swift"}[kind]
    )
    if not program.is_file():
        raise ArmFailed(f"{kind}: there is no {program}")
    made = {"axolotl": _axolotl, "llamafactory": _llamafactory, "swift": _swift}[kind]
    return lambda prepared, settings, folder: made(program, prepared, settings, folder / kind)


def _plain(prepared: Prepared) -> list[dict[str, Any]]:
    """Return the rows as question, answer and label."""
    lines = (prepared.data / "train.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [
        {
            "question": r["prompt"][-1]["content"],
            "answer": r["completion"][-1]["content"],
            "label": r["label"],
        }
        for r in rows
    ]


def _write(path: Path, rows: list[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def _run(name: str, command: list[str], settings: Settings, folder: Path, **environment: str) -> Measured:
    given = {k: v for k, v in settings.environment().items() if k != "PYTHONPATH"}
    log = folder / "output.log"
    return from_log(name, run_command(command, {**given, **environment}, log, cwd=folder), log)


def _axolotl(program: Path, prepared: Prepared, settings: Settings, folder: Path) -> Measured:
    rows = [
        {
            "system": "You are a helpful assistant.",  # what the Qwen2 template says when nobody does
            "instruction": r["question"],
            "completion": r["answer"],
            "label": r["label"],
        }
        for r in _plain(prepared)
    ]
    data = _write(folder / "rows.jsonl", rows)
    config = {
        "base_model": str(prepared.model),
        "rl": "kto",
        "rl_beta": settings.beta,
        "kto_desirable_weight": 1.0,
        "kto_undesirable_weight": 1.0,
        "datasets": [{"path": str(data), "ds_type": "json", "split": "train", "type": "chatml.argilla"}],
        "remove_unused_columns": False,
        "adapter": "lora",
        "lora_r": settings.lora_r,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": 0.0,
        "lora_target_modules": list(settings.targets),
        "sequence_len": settings.max_length,
        "micro_batch_size": settings.batch,
        "gradient_accumulation_steps": 1,
        "num_epochs": 1,
        "learning_rate": settings.learning_rate,
        "optimizer": "adamw_torch",
        "lr_scheduler": "linear",
        "bf16": False,
        "fp16": False,
        "tf32": False,
        "gradient_checkpointing": False,
        "flash_attention": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": settings.seed,
        "output_dir": str(folder / "out"),
        "dataset_prepared_path": str(folder / "prepared"),
    }
    file = folder / "kto.yml"  # JSON is YAML
    file.write_text(json.dumps(config, indent=1), encoding="utf-8")
    command = [str(program), "train", str(file), "--launcher", "python"]
    return _run("axolotl", command, settings, folder, AXOLOTL_DO_NOT_TRACK="1")


def _llamafactory(program: Path, prepared: Prepared, settings: Settings, folder: Path) -> Measured:
    _write(folder / "rows.jsonl", list(_plain(prepared)))
    columns = {"prompt": "question", "response": "answer", "kto_tag": "label"}
    named = {"thumbs": {"file_name": "rows.jsonl", "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(named), encoding="utf-8")
    config = {
        "model_name_or_path": str(prepared.model),
        "stage": "kto",
        "do_train": True,
        "finetuning_type": "lora",
        "lora_rank": settings.lora_r,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": 0.0,
        "lora_target": ",".join(settings.targets),
        "pref_beta": settings.beta,
        "dataset": "thumbs",
        "dataset_dir": str(folder),
        "template": "qwen",
        "cutoff_len": settings.max_length,
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 1.0,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch",
        "use_cpu": True,
        "bf16": False,
        "disable_gradient_checkpointing": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": settings.seed,
        "overwrite_cache": True,
        "output_dir": str(folder / "out"),
    }
    file = folder / "kto.yaml"
    file.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return _run("llamafactory", [str(program), "train", str(file)], settings, folder)


def _swift(program: Path, prepared: Prepared, settings: Settings, folder: Path) -> Measured:
    rows = [
        {
            "messages": [
                {"role": "user", "content": r["question"]},
                {"role": "assistant", "content": r["answer"]},
            ],
            "label": r["label"],
        }
        for r in _plain(prepared)
    ]
    data = _write(folder / "rows.jsonl", rows)
    options = {
        "rlhf_type": "kto",
        "model": prepared.model,
        "model_type": "qwen2",
        "check_model": "false",
        "tuner_type": "lora",
        "dataset": data,
        "split_dataset_ratio": 0,
        "torch_dtype": "float32",
        "lora_rank": settings.lora_r,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": 0.0,
        "beta": settings.beta,
        "max_length": settings.max_length,
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 1,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": "linear",
        "optim": "adamw_torch",
        "gradient_checkpointing": "false",
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "seed": settings.seed,
        "output_dir": folder / "out",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    return _run(
        "swift", [str(program), "rlhf", *flags, "--target_modules", *settings.targets], settings, folder
    )
