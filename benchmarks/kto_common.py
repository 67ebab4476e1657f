"""What the KTO benchmarks share: the model and rows they train, how an arm is run, and what is measured of it.

An *arm* is one way to train the same rows: the same model, LoRA, learning rate, batch size and number of optimizer steps,
and the same tokens, which is checked. Seconds are split in three:

- `training_s`: from the beginning of the first optimizer step to the end of the last;
- `reference_s`: what swiftshell spends before that on the reference's log-probabilities;
- `start_s`: all the rest of the process's wall time (imports, tokenizing, loading, checks, saving).

Peak memory is the highest resident size of the process that trains, as the kernel kept it (VmHWM, or wait4).
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
SECTIONS = {
    "instruction": "prompt",
    "output": "completion",
    "tag": "label",
}  # other names of the same columns
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "special_tokens_map.json",
)
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "WANDB_DISABLED": "true",
    "CUDA_VISIBLE_DEVICES": "",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_WAIT_POLICY": "PASSIVE",
}


@dataclass(frozen=True)
class Settings:
    """What all arms have in common."""

    batch: int = 8
    max_length: int = 1024
    learning_rate: float = 1e-4
    beta: float = 0.1
    lora_r: int = 8
    lora_alpha: int = 16
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    seed: int = 42
    threads: int = 1

    def environment(self) -> dict[str, str]:
        threads = {"OMP_NUM_THREADS": str(self.threads), "MKL_NUM_THREADS": str(self.threads)}
        return {**os.environ, **OFFLINE, **threads, "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Prepared:
    """The model folder and the rows, in the order that an arm without an order of its own trains them in."""

    model: Path
    data: Path  # a folder with train.jsonl, as `trl kto` takes it
    rows: int
    lengths: list[tuple[int, int]]  # prompt and answer tokens of each row
    labels: list[bool]

    @property
    def tokens(self) -> int:
        """Return the tokens of all rows, without padding and without KL sequences."""
        return sum(p + a for p, a in self.lengths)


@dataclass
class Measured:
    """One run of one arm."""

    arm: str
    training_s: float
    wall_s: float
    steps: int
    tokens: int | None
    peak_mib: float
    cpu_s: float  # of the whole process, its start included
    reference_s: float = 0.0
    padding: tuple[float, float] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def epoch_s(self) -> float:
        """Return what an epoch takes beyond the start: the reference beforehand, and training."""
        return self.training_s + self.reference_s

    @property
    def start_s(self) -> float:
        return self.wall_s - self.epoch_s


class ArmFailed(RuntimeError):
    """An arm's command did not do what it was asked."""


def shared_folder() -> Path:
    """Return the folder of real data: $SWIFTSHELL_SHARED_TESTDATA, ../shared, or shared/ inside the repository."""
    given = os.environ.get("SWIFTSHELL_SHARED_TESTDATA")
    for folder in ([Path(given)] if given else []) + [ROOT.parent / "shared", ROOT / "shared"]:
        if (folder / "real").is_dir():
            return folder
    return ROOT.parent / "shared"


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Return thumbs as prompt, completion and label, from a JSON list or JSON lines."""
    text = file.read_text(encoding="utf-8")
    raw = (
        json.loads(text)
        if text.lstrip().startswith("[")
        else [json.loads(x) for x in text.splitlines() if x.strip()]
    )
    named = [{SECTIONS.get(k, k): v for k, v in row.items()} for row in raw]
    return [{"prompt": r["prompt"], "completion": r["completion"], "label": bool(r["label"])} for r in named]


def prepare(folder: Path, file: Path, tokenizer: Path, rows: int, settings: Settings) -> Prepared:
    """Build the model and write the rows: shuffled, the classes interleaved, none too long, a whole number of batches."""
    from transformers import AutoTokenizer

    from swiftshell.engines import kto_batches

    model = build_model(folder / "model", tokenizer)
    speaker = AutoTokenizer.from_pretrained(str(model), local_files_only=True)
    fitting = [
        r for r in map(_as_chat, read_rows(file)) if sum(lengths_of(speaker, r)) <= settings.max_length
    ]
    random.Random(settings.seed).shuffle(fitting)
    count = min(rows or len(fitting), len(fitting)) // settings.batch * settings.batch
    picked = fitting[:count]
    labels = [bool(r["label"]) for r in picked]
    arranged = kto_batches.arrange(picked, labels, settings.batch, settings.seed).rows
    data = folder / "data"
    data.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(r, ensure_ascii=False) + "\n" for r in arranged)
    (data / "train.jsonl").write_text("".join(lines), encoding="utf-8")
    lengths = [lengths_of(speaker, r) for r in arranged]
    return Prepared(model, data, count, lengths, [bool(r["label"]) for r in arranged])


def _as_chat(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"]}],
        "label": row["label"],
    }


def lengths_of(tokenizer: Any, row: Mapping[str, Any]) -> tuple[int, int]:
    """Return the tokens of a chat row's prompt and answer as TRL splits them."""
    asked = tokenizer.apply_chat_template(
        row["prompt"], tokenize=True, add_generation_prompt=True, return_dict=True
    )
    whole = tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=True, return_dict=True)
    prompt, both = asked["input_ids"], whole["input_ids"]
    common = next((at for at, (a, b) in enumerate(zip(prompt, both, strict=False)) if a != b), len(prompt))
    return common, len(both) - common


def build_model(folder: Path, tokenizer: Path) -> Path:
    """Write a Qwen2 of about 14 million random parameters with the given tokenizer, the same every time."""
    if (folder / "model.safetensors").is_file():
        return folder
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copyfile(tokenizer / name, folder / name)
    speaker = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=-(-len(speaker) // 64) * 64,
        hidden_size=64,
        intermediate_size=1600,
        num_hidden_layers=12,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        eos_token_id=speaker.eos_token_id,
        pad_token_id=speaker.pad_token_id,
        bos_token_id=None,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def trl_cli(prepared: Prepared, settings: Settings, folder: Path) -> Measured:
    """Run `trl kto`. Seconds are the `train_runtime` it prints at the end."""
    out = folder / "trl"
    options = {
        "model_name_or_path": prepared.model,
        "dataset_name": prepared.data,
        "output_dir": out,
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 1,
        "max_length": settings.max_length,
        "learning_rate": settings.learning_rate,
        "beta": settings.beta,
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        "seed": settings.seed,
        "lora_r": settings.lora_r,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": 0.0,
        "num_processes": 1,
        "dtype": "float32",
    }
    flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    command = [
        str(BIN / "trl"),
        "kto",
        *flags,
        "--use_cpu",
        "--use_peft",
        "--lora_target_modules",
        *settings.targets,
    ]
    ended = run_command(command, settings.environment(), folder / "trl.log")
    return from_log("trl kto", ended, folder / "trl.log")


def from_log(arm: str, ended: Ended, log: Path) -> Measured:
    """Read what a transformers Trainer printed: one dictionary a step, and its `train_runtime` at the end.

    Raises:
        ArmFailed: the command failed, or printed no such thing.
    """
    told = logged_dicts(ended.text)
    over = next((t for t in reversed(told) if "train_runtime" in t), None)
    if ended.code or over is None:
        raise ArmFailed(f"{arm} ended with {ended.code}; its output is in {log}")
    steps = [t for t in told if "loss" in t]
    tokens = [t["num_tokens"] for t in steps if "num_tokens" in t]
    return Measured(
        arm, over["train_runtime"], ended.wall_s, len(steps), int(tokens[-1]) if tokens else None, ended.peak_mib,
        ended.cpu_s, facts={"losses": [t["loss"] for t in steps]},
    )  # fmt: skip


def bare(prepared: Prepared, settings: Settings, folder: Path, order: str, name: str) -> Measured:
    """Run `benchmarks/kto_bare.py`, a plain TRL script; `order` is file or length."""
    report = folder / f"bare-{order}.json"
    told = {"model": str(prepared.model), "data": str(prepared.data / "train.jsonl"), "order": order}
    command = [
        sys.executable,
        str(ROOT / "benchmarks" / "kto_bare.py"),
        json.dumps({**asdict(settings), **told}),
        str(report),
    ]
    ended = run_command(command, settings.environment(), folder / f"bare-{order}.log")
    if ended.code or not report.is_file():
        raise ArmFailed(f"{name} ended with {ended.code}; its output is in {folder / f'bare-{order}.log'}")
    found = json.loads(report.read_text(encoding="utf-8"))
    return Measured(
        name, found["train_runtime"], ended.wall_s, found["steps"], found["tokens"], found["peak_mib"],
        ended.cpu_s, facts={"losses": found["losses"]},
    )  # fmt: skip


def swiftshell(
    prepared: Prepared,
    settings: Settings,
    workspace: Path,
    name: str,
    params: Mapping[str, Any] | None = None,
) -> Measured:
    """Run `swiftshell run kto --yes`. Seconds come from the times in the step's events."""
    values = {
        "per_device_train_batch_size": settings.batch,
        "gradient_accumulation_steps": 1,
        "max_length": settings.max_length,
        "learning_rate": settings.learning_rate,
        "beta": settings.beta,
        "dtype": "float32",
        "desirable_weight": 1.0,
        "undesirable_weight": 1.0,
        "warmup_steps": 0,
        "lora.r": settings.lora_r,
        "lora.lora_alpha": settings.lora_alpha,
        "lora.lora_dropout": 0.0,
        "lora.target_modules": json.dumps(list(settings.targets)),
        **(params or {}),
    }
    sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
    command = [
        str(BIN / "swiftshell"), "run", "kto", "--yes", "--no-input", "--plain", "--fresh", "-w", str(workspace),
        "--policy", str(prepared.model), "--data", str(prepared.data / "train.jsonl"), "--seed", str(settings.seed), *sets,
    ]  # fmt: skip
    workspace.mkdir(parents=True, exist_ok=True)
    before = set(workspace.glob("runs/*"))
    log = workspace / "benchmark.log"
    worker = Worker(workspace, before)
    ended = run_command(command, settings.environment(), log, while_running=worker.look)
    made = sorted(set(workspace.glob("runs/*")) - before)
    if ended.code or len(made) != 1:
        raise ArmFailed(f"{name} ended with {ended.code}; its output is in {log}")
    return _told_by_run(made[0], name, ended.wall_s, worker)


def _told_by_run(run: Path, name: str, wall_s: float, worker: Worker) -> Measured:
    """Read seconds, steps and tokens from a finished run's files."""
    step = next(p for p in sorted((run / "steps").iterdir()) if p.name.endswith("-kto"))
    result = json.loads((step / "result.json").read_text(encoding="utf-8"))
    if result["result"] != "succeeded":
        raise ArmFailed(f"{name}: the run in {run} {result['result']}: {result['problems']}")
    events = [json.loads(line) for line in (step / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    training_s, steps = _training(events)
    tokens = [e["value"] for e in events if e["kind"] == "metric" and e["name"] == "num_tokens"]
    summary = result["summary"]
    kept = ("reference_sequences", "reference_computed", "rows_repeated", "guard", "reference_s")
    return Measured(
        name, training_s, wall_s, steps, int(tokens[-1]) if tokens else None, worker.peak_mib,
        worker.cpu_s, reference_s=float(summary.get("reference_s", 0.0)),
        padding=(summary["padding"], summary["kl_padding"]) if "padding" in summary else None,
        facts={k: summary[k] for k in kept if k in summary}
        | {"losses": [e["value"] for e in events if e["kind"] == "metric" and e["name"] == "loss"]},
    )  # fmt: skip


def _training(events: Sequence[Mapping[str, Any]]) -> tuple[float, int]:
    """Return seconds from the beginning of training to the end of its last optimizer step, and the number of steps."""
    begun = next(e["t"] for e in events if e["kind"] == "phase" and e["name"] == "training")
    done = [e for e in events if e["kind"] == "progress" and e["unit"] == "steps"]
    losses = [e for e in events if e["kind"] == "metric" and e["name"] == "loss"]
    return max(done[-1]["t"], losses[-1]["t"]) - begun, len(losses)


class Worker:
    """Read the kernel's account of a run's worker while it lives: its high-water mark and its processor time."""

    def __init__(self, workspace: Path, before: Iterable[Path]) -> None:
        self._workspace, self._before = workspace, set(before)
        self.peak_mib = self.cpu_s = 0.0

    def look(self) -> None:
        for child in self._workspace.glob("runs/*/steps/*-kto/attempts/*/child.json"):
            if child.parents[4] in self._before:
                continue
            try:
                process = Path("/proc") / str(json.loads(child.read_text(encoding="utf-8"))["pid"])
                status = (process / "status").read_text(encoding="utf-8")
                times = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
            except (OSError, ValueError, KeyError):
                continue  # not written whole yet, or over
            found = re.search(r"VmHWM:\s+(\d+) kB", status)
            self.peak_mib = max(self.peak_mib, int(found.group(1)) / 1024 if found else 0.0)
            self.cpu_s = max(self.cpu_s, (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK"))


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    wall_s: float
    peak_mib: float
    cpu_s: float
    text: str


def run_command(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    while_running: Any = None,
    cwd: Path | None = None,
) -> Ended:
    """Run a command to its end, its output in a file; wall seconds and peak memory of it and of what it waited for."""
    log.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            list(command),
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=cwd,
            start_new_session=True,
        )
        try:
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if while_running is not None:
                    while_running()
                time.sleep(0.1)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - started
    text = log.read_text(encoding="utf-8", errors="replace")
    return Ended(process.returncode, wall_s, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime, text)


def logged_dicts(text: str) -> list[dict[str, float]]:
    """Return the dictionaries of numbers that a transformers Trainer printed, one a line."""
    found = []
    for match in re.finditer(r"\{[^{}\n]*\}", text):
        pairs = re.findall(r"'([\w/]+)': '?(-?[\d.]+(?:e[-+]?\d+)?)'?", match.group())
        if pairs:
            found.append({name: float(value) for name, value in pairs})
    return found


def same_work(all_of: Sequence[Measured], prepared: Prepared, settings: Settings) -> list[str]:
    """Return what speaks against a comparison: other numbers of steps or tokens than the rows have."""
    wrong = []
    for one in all_of:
        if one.steps != prepared.rows // settings.batch:
            wrong.append(f"{one.arm}: {one.steps} steps instead of {prepared.rows // settings.batch}")
        # Printed numbers are rounded to four digits.
        if one.tokens is not None and abs(one.tokens - prepared.tokens) > prepared.tokens * 1e-3:
            wrong.append(f"{one.arm}: {one.tokens} tokens instead of {prepared.tokens}")
    return sorted(set(wrong))


def medians(all_of: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """Return the medians of each arm."""
    arms: dict[str, list[Measured]] = {}
    for one in all_of:
        arms.setdefault(one.arm, []).append(one)
    names = ("epoch_s", "training_s", "reference_s", "start_s", "wall_s", "cpu_s", "peak_mib")
    return {
        arm: {n: statistics.median(getattr(m, n) for m in many) for n in names} for arm, many in arms.items()
    }


def machine() -> str:
    """Say what the numbers were made on."""
    from importlib import metadata

    versions = " ".join(f"{n} {metadata.version(n)}" for n in ("torch", "transformers", "trl", "peft"))
    load = os.getloadavg()[0]
    return f"{os.cpu_count()} cores, load {load:.1f}, Python {sys.version.split()[0]}, {versions}"


def as_json(all_of: Sequence[Measured]) -> list[dict[str, Any]]:
    return [{**asdict(m), "epoch_s": m.epoch_s, "start_s": m.start_s} for m in all_of]
