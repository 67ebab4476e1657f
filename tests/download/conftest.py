"""A tiny model without torch, a context that only remembers, and an environment of its own for every test."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from swiftshell.engines import hub_download, hub_fetch, hub_repo
from swiftshell.stages.base import InputRef, Outcome, StepRequest
from swiftshell.stages.download import DownloadParams

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"


class FakeContext:
    """What an engine may ask of the shell, remembered instead of written."""

    def __init__(self, root: Path) -> None:
        self.out, self.checkpoints, self.work = root / "out", root / "checkpoints", root / "work"
        for folder in (self.out, self.checkpoints, self.work):
            folder.mkdir(parents=True)
        self.phases: list[str] = []
        self.progressed: list[tuple[float, float | None, str]] = []
        self.notes: list[tuple[str, dict[str, Any]]] = []
        self.warnings: list[tuple[str, dict[str, Any]]] = []
        self.stop: Callable[[], bool] = lambda: False

    def phase(self, name: str) -> None:
        self.phases.append(name)

    def progress(self, done: float, total: float | None, unit: str) -> None:
        self.progressed.append((done, total, unit))

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        pass

    def checkpoint(self, path: Path, step: int) -> None:
        pass

    def note(self, code: str, **values: Any) -> None:
        self.notes.append((code, values))

    def warn(self, code: str, **values: Any) -> None:
        self.warnings.append((code, values))

    def stop_requested(self) -> bool:
        return self.stop()


def write_safetensors(path: Path, tensors: Mapping[str, tuple[str, list[int]]], seed: int = 0) -> None:
    """Write a real safetensors file of random bytes: an 8-byte length, a JSON header, the data."""
    widths = {"F32": 4, "BF16": 2, "U8": 1}
    header, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = widths[dtype]
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + random.Random(seed).randbytes(at))


def write_model(folder: Path, *, kib: int = 256, seed: int = 0, **config: Any) -> Path:
    """Write a folder that looks like a small transformers model."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 512,
             "dtype": "bfloat16", **config}
    (folder / "config.json").write_text(json.dumps(facts))
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "model": {"type": "BPE", "vocab": {}}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE}))
    (folder / "README.md").write_text("# tiny\n")
    write_safetensors(folder / "model.safetensors", {"w": ("BF16", [kib, 512])}, seed)
    return folder


def write_rows(path: Path, count: int = 3) -> Path:
    """Write a JSONL file of prompts and completions."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"prompt": f"q{i}", "completion": f"a{i}", "label": i % 2 == 0}) + "\n"
                            for i in range(count)))
    return path


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    return write_model(tmp_path / "source" / "tiny")


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give every test a hub cache of its own, no token, and no waiting; return the cache."""
    from huggingface_hub import constants

    home = tmp_path / "hf"
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE",
                 "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_TOKEN_PATH", str(home / "token"))
    # huggingface_hub reads these once, at import; other tests may have imported it under another environment.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(hub_fetch, "RETRY_WAITS_S", (0.01, 0.01, 0.01))
    monkeypatch.setattr(hub_repo, "LOOKUP_WAITS_S", (0.01, 0.01))
    return home / "hub"


@pytest.fixture
def ctx(tmp_path: Path) -> FakeContext:
    return FakeContext(tmp_path / "step")


@pytest.fixture
def download(ctx: FakeContext) -> Callable[..., Outcome]:
    """Run the engine: `download("model", {"repo": …}, verify=False)`."""

    def run(slot: str, options: dict[str, Any], **params: Any) -> Outcome:
        request = StepRequest(run="r", step="base", stage="download", params=DownloadParams(**params), seed=0,
                              inputs={slot: InputRef(slot, Path(), slot, options=options)})  # type: ignore[arg-type]
        return hub_download.run(request, ctx)

    return run
