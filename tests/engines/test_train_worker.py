"""Training through the real worker process: stopped by SIGTERM, killed, resumed, and on a real base without template."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from swiftshell.run.checkpoints import newest_valid
from swiftshell.run.paths import StepPaths
from tests.engines.conftest import FAST, ROOT, Runner, data_ref, model_ref, write_jsonl

pytestmark = pytest.mark.engine


def make_step(root: Path, stage: str, params: dict[str, Any], inputs: dict[str, Any]) -> StepPaths:
    step = StepPaths(root / f"01-{stage}")
    step.root.mkdir(parents=True)
    step.request.write_text(
        json.dumps(
            {
                "v": 1,
                "run": "run",
                "step": stage,
                "stage": stage,
                "params": params,
                "seed": 7,
                "lineage": "tiny",
                "fingerprint": "f",
                "network": False,
                "resume": True,
                "inputs": inputs,
            }
        )
    )
    return step


def start(step: StepPaths, attempt: int) -> subprocess.Popen[bytes]:
    step.attempt(attempt).root.mkdir(parents=True)
    with step.attempt(attempt).log.open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "swiftshell.worker", str(step.root), str(attempt)],
            cwd=ROOT,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )


def losses(step: StepPaths) -> dict[int, float]:
    """Return the loss of every step; one that was taken twice counts with its last value."""
    events = [json.loads(line) for line in step.events.read_text().splitlines()]
    return {e["step"]: e["value"] for e in events if e["kind"] == "metric" and e["name"] == "loss"}


def wait_for_step(step: StepPaths, number: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if step.events.is_file() and any(n >= number for n in losses(step)):
            return
        time.sleep(0.02)
    raise AssertionError(f"no step {number}: {step.attempts()[-1].log.read_text()[-2000:]}")


@pytest.fixture(scope="module")
def whole(tiny: Path, colours: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> StepPaths:
    """Return a KTO step that nothing interrupted."""
    params = {**FAST, "max_steps": 30, "save_steps": 5, "gradient_accumulation_steps": 4}
    model = {"kind": "model", "path": str(tiny), "name": "tiny"}
    data = {"kind": "dataset", "path": str(colours["kto"]), "name": "thumbs"}
    inputs = {"policy": model, "reference": model, "train_data": data}
    step = make_step(tmp_path_factory.mktemp("whole"), "kto", params, inputs)
    assert start(step, 1).wait(200) == 0
    return step


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL"])
def test_a_worker_that_was_stopped_goes_on_where_it_was(how: str, whole: StepPaths, tmp_path: Path) -> None:
    asked = json.loads(whole.request.read_text())
    parts = make_step(tmp_path, "kto", asked["params"], asked["inputs"])
    first = start(parts, 1)
    wait_for_step(parts, 12, first)
    first.send_signal(getattr(signal, how))
    code = first.wait(60)
    outcome = parts.attempt(1).outcome
    if how == "SIGTERM":
        assert code == 143
        assert json.loads(outcome.read_text())["result"] == "cancelled"
    else:
        assert code == -signal.SIGKILL
        assert not outcome.exists()
    assert not parts.out.exists()
    taken = max(losses(parts))
    checkpoint = newest_valid(parts.checkpoints)
    assert checkpoint is not None
    assert 10 <= taken < 30
    assert start(parts, 2).wait(200) == 0
    report = json.loads(parts.attempt(2).outcome.read_text())
    assert report["result"] == "succeeded"
    assert losses(parts) == pytest.approx(losses(whole), abs=1e-6)
    assert report["metrics"]["train_loss"] == pytest.approx(
        json.loads(whole.attempt(1).outcome.read_text())["metrics"]["train_loss"], abs=1e-6
    )
    record = json.loads((parts.partial(2) / "adapter" / "ARTIFACT.json").read_text())
    assert record["kind"] == "adapter"
    assert [e["kind"] for e in record["stack"]] == ["model", "adapter"]
    assert record["reference"]["probe"]["logps"]


def test_a_wrong_reference_ends_the_worker_with_3_and_a_sentence(
    tiny: Path, colours: dict[str, Path], tmp_path: Path, run_step: Runner
) -> None:
    sft = run_step("sft", FAST, {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])})
    step = make_step(
        tmp_path,
        "dpo",
        {**FAST, "max_steps": 2},
        {
            "policy": {"kind": "adapter", "path": str(sft.artifacts["adapter"]), "name": "sft.adapter"},
            "reference": {"kind": "model", "path": str(tiny), "name": "tiny"},
            "train_data": {"kind": "dataset", "path": str(colours["dpo"]), "name": "pairs"},
        },
    )
    assert start(step, 1).wait(200) == 3
    (problem,) = json.loads(step.attempt(1).outcome.read_text())["problems"]
    assert problem["code"] == "train.reference_mismatch"
    assert not losses(step)


def story_pairs(text: str, count: int) -> list[tuple[str, str]]:
    """Return (beginning, ending) of short stories: the last sentence is the ending."""
    found = []
    for story in text.split("<|endoftext|>"):
        sentences = [s.strip() for s in " ".join(story.split()).split(". ") if s.strip()]
        if len(sentences) >= 5:
            beginning, ending = ". ".join(sentences[:4]) + ".", " " + sentences[4].rstrip(".") + "."
            if len(beginning) + len(ending) < 360:
                found.append((beginning, ending))
    return found[:count]


def test_a_real_base_without_template_goes_through_sft_and_kto(
    shared_data: Path, tmp_path: Path, run_step: Runner
) -> None:
    """A story's own ending is desirable, another story's is not; after KTO the own one has gained on the other."""
    base = shared_data / "real/models/stories260k"
    pairs = story_pairs((shared_data / "real/data/tinystories_2M_cased.txt").read_text(encoding="utf-8"), 64)
    assert len(pairs) == 64
    sft_rows = [{"prompt": p, "completion": c} for p, c in pairs]
    kto_rows = [
        {"prompt": p, "completion": c if i % 2 else pairs[(i + 7) % 64][1], "label": bool(i % 2)}
        for i, (p, c) in enumerate(pairs)
    ]
    params = {
        **FAST,
        "max_steps": 24,
        "max_length": 512,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 8,
    }
    sft = run_step(
        "sft",
        params,
        {
            "policy": model_ref("policy", base),
            "train_data": data_ref(write_jsonl(tmp_path / "stories.jsonl", sft_rows)),
        },
    )
    assert sft.ctx.series("loss")[-1] < sft.ctx.series("loss")[0]
    kto = run_step(
        "kto",
        params,
        {
            "policy": sft.ref("adapter", "policy"),
            "reference": sft.ref("adapter", "reference"),
            "train_data": data_ref(write_jsonl(tmp_path / "thumbs.jsonl", kto_rows)),
        },
    )
    margins = kto.ctx.series("rewards/margins")
    assert abs(margins[0]) < 1e-3
    assert sum(margins[-8:]) / 8 > 0.05, margins  # the last pass over all 64 rows
