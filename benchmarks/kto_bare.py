"""Train KTO with TRL and nothing else: what a person writes who needs no shell. Started by the KTO benchmarks.

    python benchmarks/kto_bare.py '{"model": …, "data": …, "order": "file" | "random" | "length", …}' REPORT.json

`random` and `length` put the rows into swiftshell's batches of either kind first; the reference is TRL's own.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any


def main(argv: list[str]) -> int:
    """Train, and write seconds, steps, tokens, losses and peak memory to the report."""
    settings = json.loads(argv[0])
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import KTOConfig, KTOTrainer

    tokenizer = AutoTokenizer.from_pretrained(settings["model"], local_files_only=True)
    with tempfile.TemporaryDirectory() as out:
        args = KTOConfig(
            output_dir=out,
            per_device_train_batch_size=settings["batch"],
            num_train_epochs=1,
            max_length=settings["max_length"],
            learning_rate=settings["learning_rate"],
            beta=settings["beta"],
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            disable_tqdm=True,
            seed=settings["seed"],
            optim="adamw_torch",
            dataloader_pin_memory=False,
        )
        trainer = KTOTrainer(
            model=AutoModelForCausalLM.from_pretrained(
                settings["model"], dtype="float32", local_files_only=True
            ),
            args=args,
            train_dataset=_rows(settings, tokenizer),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=settings["lora_r"],
                lora_alpha=settings["lora_alpha"],
                lora_dropout=0.0,
                target_modules=list(settings["targets"]),
                task_type="CAUSAL_LM",
            ),
        )
        trainer.train()
        trainer.save_model(out)
    history = [e for e in trainer.state.log_history if "loss" in e]
    report = {
        "train_runtime": trainer.state.log_history[-1]["train_runtime"],
        "steps": trainer.state.global_step,
        "tokens": int(history[-1]["num_tokens"]),
        "losses": [e["loss"] for e in history],
        "peak_mib": _peak_mib(),
    }
    Path(argv[1]).write_text(json.dumps(report), encoding="utf-8")
    return 0


def _rows(settings: dict[str, Any], tokenizer: Any) -> Any:
    from datasets import Dataset

    lines = Path(settings["data"]).read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    if settings["order"] != "file":
        from benchmarks.kto_common import lengths_of
        from swiftshell.engines import kto_batches

        lengths = [lengths_of(tokenizer, r) for r in rows] if settings["order"] == "length" else None
        labels = [bool(r["label"]) for r in rows]
        rows = kto_batches.arrange(rows, labels, settings["batch"], settings["seed"], lengths=lengths).rows
    return Dataset.from_list(rows)


def _peak_mib() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found.group(1)) / 1024 if found else 0.0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
