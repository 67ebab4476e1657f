"""Fixtures of the engine tests: a context that records, small models and data, requests as the worker makes them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from swiftshell.run import artifact
from swiftshell.stages import registry
from swiftshell.stages.base import InputRef, Outcome, StepRequest

ROOT = Path(__file__).resolve().parents[2]
STARTER = ROOT / "swiftshell" / "starter"


@dataclass
class FakeContext:
    """An engine's view of the shell that keeps what it was told; `stop_at` asks for a stop at that training step."""

    root: Path
    stop_at: int | None = None
    phases: list[str] = field(default_factory=list)
    metrics: list[tuple[str, float, int | None]] = field(default_factory=list)
    notes: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    saved: list[Path] = field(default_factory=list)
    progressed: list[tuple[float, float | None, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for folder in (self.out, self.checkpoints, self.work):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def work(self) -> Path:
        return self.root / "work"

    @property
    def cache(self) -> Path:
        return self.root.parent / "cache"

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def progress(self, done: float, total: float | None, unit: str) -> None:
        self.progressed.append((done, total, unit))

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        self.metrics.append((name, value, step))

    def checkpoint(self, path: Path, step: int) -> None:
        self.saved.append(path)

    def note(self, code: str, **values: Any) -> None:
        self.notes.append((code, values))

    warn = note

    def stop_requested(self) -> bool:
        last = self.progressed[-1] if self.progressed else (0, 0, "")
        return self.stop_at is not None and last[2] == "steps" and last[0] >= self.stop_at

    def series(self, name: str) -> list[float]:
        """Return the values of a metric in order."""
        return [value for n, value, _ in self.metrics if n == name]

    def codes(self) -> list[str]:
        return [code for code, _ in self.notes]


@dataclass
class Ran:
    """A step that was run in this process."""

    outcome: Outcome
    ctx: FakeContext
    artifacts: dict[str, Path]

    def ref(self, slot: str, as_slot: str) -> InputRef:
        """Return an output as the input of a next step."""
        path = self.artifacts[slot]
        record = artifact.read(path)
        assert record is not None
        return InputRef(as_slot, path, record["kind"], record, {}, record["name"])


Runner = Callable[..., Ran]


def model_ref(slot: str, path: Path, kind: str = "model") -> InputRef:
    """Return a model folder without a record, as the worker hands it to an engine."""
    record = {
        "kind": kind,
        "id": str(path),
        "name": path.name,
        "path": str(path),
        "stack": [{"kind": kind, "path": str(path), "id": str(path), "name": path.name}],
    }
    return InputRef(slot, path, kind, record, {}, path.name)  # type: ignore[arg-type]


def data_ref(path: Path, slot: str = "train_data", **options: Any) -> InputRef:
    return InputRef(slot, path, "dataset", None, options, path.name)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path


def make_request(
    stage: str,
    params: dict[str, Any],
    inputs: dict[str, Any],
    *,
    seed: int = 7,
    resume_from: Path | None = None,
) -> StepRequest:
    typed = registry.get(stage).params.model_validate(params)
    return StepRequest("run", stage, stage, typed, inputs, seed, resume_from, "lineage", "")


@pytest.fixture
def run_step(tmp_path: Path) -> Runner:
    """Return a function that runs a stage's engine in this process and finishes its artifacts as the worker does."""
    return make_runner(tmp_path)


def make_runner(root: Path) -> Runner:
    from importlib import import_module

    def run(
        stage: str,
        params: dict[str, Any],
        inputs: dict[str, Any],
        *,
        name: str = "",
        seed: int = 7,
        stop_at: int | None = None,
        resume_from: Path | None = None,
    ) -> Ran:
        from swiftshell.worker import _finish_artifacts

        request = make_request(stage, params, inputs, seed=seed, resume_from=resume_from)
        ctx = FakeContext(root / (name or stage), stop_at)
        module, function = registry.get(stage).engine.split(":")
        outcome: Outcome = getattr(import_module(module), function)(request, ctx)

        class Step:
            out = ctx.out

        _finish_artifacts(Step, registry.get(stage), request, outcome, ctx)  # type: ignore[arg-type]
        return Ran(outcome, ctx, {slot: ctx.out / slot for slot in outcome.artifacts})

    return run


def _texts() -> Iterator[str]:
    for colour in COLOURS:
        for thing in THINGS:
            yield f"What colour is the {thing}? The {thing} is {colour}. No idea, ask someone else."
    for colour in COLOURS_ZH:
        for thing in THINGS_ZH:
            yield f"{thing}是什么颜色？{thing}是{colour}的。不知道。"


COLOURS = ("red", "green", "blue", "white", "black")
THINGS = ("apple", "river", "house", "stone", "cat", "leaf", "door", "boat")
COLOURS_ZH = ("红", "绿", "蓝", "白")
THINGS_ZH = ("苹果", "河", "房子", "石头")
TEMPLATE = (
    "{% for m in messages %}<|turn|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}"
    "{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}{% else %}{{ m['content'] }}<|end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn|>assistant\n{% endif %}"
)


def build_model(
    folder: Path, *, template: str | None = TEMPLATE, family: str = "llama", context: int = 256
) -> Path:
    """Build a randomly initialised model of about 0.1M parameters with a byte-level BPE tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        PreTrainedTokenizerFast,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        _texts(),
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=["<|pad|>", "<|end|>", "<|turn|>"],
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>", pad_token="<|pad|>")
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": context,
        "tie_word_embeddings": True,
        "initializer_range": 0.1,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    torch.manual_seed(0)
    model: Any = (
        LlamaForCausalLM(LlamaConfig(**sizes))
        if family == "llama"
        else Qwen2ForCausalLM(Qwen2Config(**sizes))
    )
    model.save_pretrained(folder)
    return folder


def colour_rows(purpose: str, count: int = 32) -> list[dict[str, Any]]:
    """Return short rows about colours: the full answer is the good one, the shrug the bad one."""
    rows = []
    for i in range(count):
        thing, colour = THINGS[i % len(THINGS)], COLOURS[i % len(COLOURS)]
        ask = [{"role": "user", "content": f"What colour is the {thing}?"}]
        good = [{"role": "assistant", "content": f"The {thing} is {colour}."}]
        bad = [{"role": "assistant", "content": "No idea, ask someone else."}]
        rows.append(
            {
                "sft": {"messages": ask + (good if i % 2 else bad)},
                "kto": {"prompt": ask, "completion": good if i % 2 else bad, "label": bool(i % 2)},
                "dpo": {"prompt": ask, "chosen": good, "rejected": bad},
            }[purpose]
        )
    return rows


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny Llama with a chat template that marks the assistant's words."""
    return build_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny Llama without a chat template."""
    return build_model(tmp_path_factory.mktemp("models") / "plain", template=None)


@pytest.fixture(scope="session")
def colours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return data files by purpose."""
    folder = tmp_path_factory.mktemp("data")
    return {p: write_jsonl(folder / f"{p}.jsonl", colour_rows(p)) for p in ("sft", "kto", "dpo")}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of shared test data, or skip."""
    given = os.environ.get("SWIFTSHELL_SHARED_TESTDATA")
    for folder in ([Path(given)] if given else []) + [ROOT.parent / "shared", ROOT / "shared"]:
        if (folder / "real").is_dir():
            return folder
    pytest.skip("shared test data (../shared, shared/ or $SWIFTSHELL_SHARED_TESTDATA) is not there")


# Large steps, few of them: enough for every stage to move a random model measurably.
FAST = {
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 1,
    "max_steps": 6,
    "learning_rate": 2e-2,
    "max_length": 96,
    "warmup_steps": 0,
    "lora": {"r": 4, "lora_alpha": 8},
    "save_steps": 3,
}


@pytest.fixture(scope="session")
def sft(tiny: Path, colours: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return an SFT adapter on the tiny model, trained once for the whole session."""
    run = make_runner(tmp_path_factory.mktemp("sft"))
    return run(
        "sft",
        {**FAST, "max_steps": 24},
        {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])},
    )
