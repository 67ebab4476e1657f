"""`SwiftApp(config).run()` as a notebook writes it: the issue's own configuration, against a hub on loopback."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from swiftshell import SwiftApp, SwiftshellError
from swiftshell.starter import DATA_DIR, MODEL_DIR
from tests.support.loopback_hub import LoopbackHub

CONFIG: dict[str, Any] = {
    "model_type": "qwen-7b",
    "train_type": "kto",
    "dataset": "hf://swift-kto-data/chinese-preference-v1",
    "data_args": {"label_field": "is_preferred", "text_field": "response"},
    "training_args": {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 16,
        "learning_rate": 5e-6,
        "max_steps": 2000,
        "logging_steps": 100,
        "kl_control_weight": 0.1,
        "temperature": 1.0,
    },
    "quantization": "q_lora_bnb",
    "lora_rank": 64,
    "output_dir": "./output/qwen-kto-chinese",
}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail on the first connection."""

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_constructing_opens_no_connection_and_says_what_it_understood(workspace: Path, no_network: None) -> None:
    app = SwiftApp(CONFIG)
    assert "Qwen/Qwen2.5-7B-Instruct" in app.recipe
    assert "beta: 0.1" in app.recipe
    said = " ".join(str(n.values) for n in app.notes)
    assert "temperature" in said, "what has no meaning for the stage is named"
    assert not (workspace / "output").exists()


def test_the_plan_opens_none_either(workspace: Path, no_network: None) -> None:
    plan = SwiftApp(CONFIG).plan()
    kto = next(s for s in plan["steps"] if s["stage"] == "kto")
    assert [s["stage"] for s in plan["steps"]].count("download") == 2
    assert kto["params"]["quantization"] == "nf4"
    assert kto["params"]["lora"]["r"] == 64
    assert kto["params"]["max_steps"] == 2000
    assert kto["output_dir"] == str(workspace / "output" / "qwen-kto-chinese")


@pytest.mark.parametrize(("change", "said"), [
    ({"train_type": "ktoo"}, "kto"), ({"lora_rnk": 8}, "lora_rank"), ({"dataset": "nowhere.jsonl"}, "nowhere.jsonl"),
    ({"training_args": {"learning_rat": 1e-5}}, "learning_rate"), ({"quantization": "int3"}, "int3"),
])
def test_a_mistake_is_named_before_anything_happens(workspace: Path, no_network: None, change: dict[str, Any],
                                                    said: str) -> None:
    with pytest.raises(SwiftshellError) as caught:
        SwiftApp({**CONFIG, **change}).plan()
    assert said in str(caught.value)


def _tiny_qwen(folder: Path) -> None:
    """Write a Qwen2 of the real architecture and a tiny size, with random weights and a chat template."""
    import torch
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    torch.manual_seed(0)
    config = Qwen2Config(vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                         num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
                         pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)
    Qwen2ForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _preferences(folder: Path) -> None:
    """Write rows with the columns the configuration names."""
    folder.mkdir()
    with (DATA_DIR / "kto.jsonl").open(encoding="utf-8") as source, (folder / "train.jsonl").open(
            "w", encoding="utf-8") as target:
        for _, line in zip(range(96), source, strict=False):
            row = json.loads(line)
            target.write(json.dumps({"prompt": row["prompt"][0]["content"], "response": row["completion"][0]["content"],
                                     "is_preferred": row["label"]}, ensure_ascii=False) + "\n")


@pytest.mark.engine
def test_the_configuration_runs_with_only_size_and_steps_reduced(workspace: Path, tmp_path: Path,
                                                                monkeypatch: pytest.MonkeyPatch) -> None:
    _tiny_qwen(tmp_path / "model")
    _preferences(tmp_path / "rows")
    config = {**CONFIG, "training_args": {**CONFIG["training_args"], "max_steps": 2}}
    with LoopbackHub(models={"Qwen/Qwen2.5-7B-Instruct": tmp_path / "model"},
                     datasets={"swift-kto-data/chinese-preference-v1": tmp_path / "rows"}) as hub:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):  # engine tests set them
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
        app = SwiftApp(config)
        assert hub.requests == []
        facts = app.run(show=False)
    kto = next(s for s in facts["steps"] if s["stage"] == "kto")
    assert kto["metrics"]["global_step"] == 2
    published = workspace / "output" / "qwen-kto-chinese"
    assert list(published.rglob("adapter_model.safetensors"))
    record = json.loads(next(published.rglob("ARTIFACT.json")).read_text(encoding="utf-8"))
    assert record["quantization"] == "nf4"
    assert record["reference"]["id"]


def test_planning_makes_no_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`plan` promises to change nothing: the folder one happens to stand in stays as it is."""
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "thumbs.jsonl"
    made = ({"prompt": f"q{i}", "completion": f"a{i}", "label": i % 2 == 0} for i in range(12))
    rows.write_text("".join(json.dumps(row) + "\n" for row in made))
    plan = SwiftApp({"model_type": str(MODEL_DIR), "train_type": "kto", "dataset": str(rows)}).plan()
    assert plan["steps"]
    assert [p.name for p in tmp_path.iterdir()] == [rows.name]
