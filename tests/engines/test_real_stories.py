"""A real pretrained model that nobody here made goes the whole way on rows made of real stories.

stories260k (context 512, no chat template) continues children's stories. A row's prompt is a story's first sentences; the
desirable completion is that story's own next sentence, the undesirable one is another story's.
"""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from swiftshell import SwiftApp, SwiftshellError

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]  # whole runs: a busy machine may take its time
SENTENCE = re.compile(r"[^.!?]+[.!?]+[\"']?\s*")


def _continuations(path: Path, count: int) -> list[tuple[str, str]]:
    """Return (beginning, next sentence) of stories, both short: about 60 and 15 words at most."""
    found = []
    for story in re.split(r"<\|endoftext\|>|\n\s*\n", path.read_text(encoding="utf-8")):
        sentences = SENTENCE.findall(" ".join(story.split()))
        if len(sentences) < 5:
            continue
        beginning, ending = "".join(sentences[:3]).strip(), sentences[3].strip()
        if 40 < len(beginning) < 300 and 15 < len(ending) < 90:
            found.append((beginning, " " + ending))
        if len(found) == count:
            return found
    return found


def _write(folder: Path, source: Path) -> None:
    pairs = _continuations(source, 620)
    assert len(pairs) >= 500
    rng = random.Random(5)
    train, held = pairs[:-120], pairs[-120:]
    others = [ending for _, ending in train]

    def lines(name: str, rows: list[dict[str, Any]]) -> None:
        (folder / name).write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")

    lines("sft.jsonl", [{"prompt": p, "completion": c} for p, c in train])
    lines("kto.jsonl", [{"prompt": p, "completion": c if i % 2 else rng.choice(others), "label": bool(i % 2)}
                        for i, (p, c) in enumerate(train)])
    lines("heldout.jsonl", [{"prompt": p, "reference": c, "chosen": c, "rejected": rng.choice(others)} for p, c in held])


def _recipe(model: Path, folder: Path) -> dict[str, Any]:
    training = {"learning_rate": 1e-3, "max_length": 256, "per_device_train_batch_size": 8,
                "gradient_accumulation_steps": 1}
    return {
        "schema": 1, "name": "stories", "seed": 5,
        "models": {"stories": {"path": str(model)}},
        "data": {name: {"path": str(folder / f"{name}.jsonl")} for name in ("sft", "kto", "heldout")},
        "steps": [
            {"id": "base", "stage": "download", "inputs": {"model": "models.stories"}},
            {"id": "sft", "stage": "sft", "inputs": {"policy": "base.model", "train_data": "data.sft"}, "params": training},
            {"id": "kto", "stage": "kto", "params": training, "inputs": {
                "policy": "sft.adapter", "reference": "sft.adapter", "train_data": "data.kto"}},
            {"id": "merged", "stage": "merge", "inputs": {"adapter": "kto.adapter"}},
            {"id": "small", "stage": "quantize", "inputs": {"model": "merged.model", "probe_data": "data.heldout"},
             "params": {"quantization": "int8"}},
            {"id": "score", "stage": "evaluate", "params": {"max_new_tokens": 16}, "inputs": {
                "models": ["base.model", "sft.adapter", "kto.adapter", "merged.model", "small.model"],
                "eval_data": "data.heldout"}},
        ],
    }


def test_a_real_model_goes_all_the_way(workspace: Path, shared_testdata: Path) -> None:
    real = shared_testdata / "real"
    _write(workspace, real / "data" / "tinystories_2M_cased.txt")
    facts = SwiftApp(_recipe(real / "models" / "stories260k", workspace)).run(show=False)
    report = Path(next(s for s in facts["steps"] if s["id"] == "score")["outputs"]["report"]) / "report.json"
    models = json.loads(report.read_text(encoding="utf-8"))["models"]
    accuracy = [m["metrics"]["preference_accuracy"][0] for m in models]
    perplexity = [m["metrics"]["perplexity"][0] for m in models]
    base, sft, kto, merged, small = range(5)
    assert perplexity[sft] < perplexity[base], "SFT on the stories' own sentences makes held-out ones likelier"
    assert accuracy[kto] > 0.5, "a story's own sentence is told from another's"
    assert accuracy[kto] >= accuracy[base]
    assert abs(accuracy[merged] - accuracy[kto]) < 0.02
    assert perplexity[merged] == pytest.approx(perplexity[kto], rel=1e-3)
    assert perplexity[small] == pytest.approx(perplexity[merged], rel=0.05)


def test_rows_too_long_for_its_context_are_reported_not_dropped(workspace: Path, shared_testdata: Path) -> None:
    """Nothing is trained on what is left: the error counts the rows, names them, and says what to do."""
    real = shared_testdata / "real"
    config = {"model_type": str(real / "models" / "stories260k"), "train_type": "kto",
              "dataset": str(real / "data" / "kto_en_demo.json")}
    with pytest.raises(SwiftshellError) as caught:
        SwiftApp(config).run(show=False)
    said = str(caught.value)
    assert caught.value.exit_code == 2
    assert "512" in said
    assert "kto_en_demo.json" in said
    assert not list(workspace.rglob("adapter_model.safetensors"))
