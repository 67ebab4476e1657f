"""Images and models meet in the plan: what cannot work is said before anything is fetched or loaded."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.plans import plan_recipe
from swiftshell.errors import SwiftshellError
from swiftshell.machine import architecture
from swiftshell.plan.model import Plan
from swiftshell.recipe.load import parse_recipe
from swiftshell.run.workspace import open_workspace
from tests.plan.support import made

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
)
COGVLM = {
    "architectures": ["CogVLMForCausalLM"],
    "auto_map": {"AutoModelForCausalLM": "modeling_cogvlm.CogVLMForCausalLM"},
    "vision_config": {"hidden_size": 1792},
}
QWEN_VL = {
    "model_type": "qwen2_vl",
    "architectures": ["Qwen2VLForConditionalGeneration"],
    "vision_config": {},
}
RECIPE = """
schema: 1
name: see
models: {{m: {model}}}
data: {{rows: {{path: {rows}}}}}
steps:
{steps}
"""
FETCHED = """
  - {id: base, stage: download, inputs: {model: models.m}}
  - {id: sft, stage: sft, inputs: {policy: base.model, train_data: data.rows}}
"""
HERE = "  - {id: sft, stage: sft, inputs: {policy: models.m, train_data: data.rows}}"
TWO = """
  - {id: sft, stage: sft, inputs: {policy: models.m, train_data: data.rows}}
  - {id: more, stage: sft, inputs: {policy: sft.adapter, train_data: data.rows}}
"""


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., Path]:
    def write(*, images: bool = True) -> Path:
        (tmp_path / "a.png").write_bytes(PIXEL)
        turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "White."}]
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps({"messages": turns, **({"images": ["a.png"]} if images else {})}) + "\n")
        return path

    return write


def model(tmp_path: Path, config: dict[str, Any]) -> Path:
    from swiftshell.plan.quick import STARTER_FOLDER

    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).write_bytes((STARTER_FOLDER / "model" / name).read_bytes())
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def plan(workspace: Path, **parts: Any) -> Plan:
    return plan_recipe(open_workspace(workspace), parse_recipe(RECIPE.format(**parts), None))


def refused(workspace: Path, **parts: Any) -> str:
    with pytest.raises(SwiftshellError) as caught:
        plan(workspace, **parts)
    return str(caught.value)


@pytest.mark.parametrize("steps", [FETCHED, HERE])
def test_images_for_a_text_model_are_refused(
    workspace: Path, rows: Callable[..., Path], steps: str, tmp_path: Path
) -> None:
    folder = model(tmp_path, {"model_type": "llama", "architectures": ["LlamaForCausalLM"]})
    message = refused(workspace, model={"path": str(folder)}, rows=rows(), steps=steps)
    assert "1 rows have images, and " in message
    assert "reads text only (type llama)" in message
    assert "hint: train a vision-language model" in message


def test_images_for_the_starter_are_refused_before_it_is_placed(
    workspace: Path, rows: Callable[..., Path]
) -> None:
    assert "reads text only" in refused(workspace, model="{starter: true}", rows=rows(), steps=FETCHED)


def test_images_for_an_adapter_on_a_text_model_are_refused(
    workspace: Path, rows: Callable[..., Path], tmp_path: Path
) -> None:
    folder = model(tmp_path, {"model_type": "llama"})
    message = refused(workspace, model={"path": str(folder)}, rows=rows(), steps=TWO)
    assert message.count("reads text only") == 2


def test_a_model_that_sees_takes_both_and_text_alone_is_noted(
    workspace: Path, rows: Callable[..., Path], tmp_path: Path
) -> None:
    folder = model(tmp_path, QWEN_VL)
    found = plan(workspace, model={"path": str(folder)}, rows=rows(), steps=HERE)
    assert found.steps[0].image_rows == {"train_data": 1}
    assert "images.text_rows" not in [n.code for n in found.notes]
    found = plan(workspace, model={"path": str(folder)}, rows=rows(images=False), steps=HERE)
    assert [n.severity for n in found.notes if n.code == "images.text_rows"] == ["note"]


@pytest.mark.parametrize(
    "repo", ["THUDM/cogvlm-chat-hf", "THUDM/cogvlm2-llama3-chat-19B", "zai-org/cogagent-vqa-hf"]
)
def test_cogvlm_is_refused_by_its_name_before_a_byte_is_fetched(
    workspace: Path, rows: Callable[..., Path], repo: str
) -> None:
    message = refused(workspace, model={"repo": repo}, rows=rows(), steps=FETCHED)
    assert f"{repo} is a CogVLM model: transformers does not carry CogVLM" in message
    assert "Qwen/Qwen2.5-VL-7B-Instruct" in message


@pytest.mark.parametrize("steps", [FETCHED, HERE])
def test_cogvlm_is_refused_by_its_configuration(
    workspace: Path, rows: Callable[..., Path], steps: str, tmp_path: Path
) -> None:
    folder = model(tmp_path, COGVLM)
    message = refused(workspace, model={"path": str(folder)}, rows=rows(), steps=steps)
    assert "is a CogVLM model" in message
    assert "None" not in message


def test_any_model_that_needs_its_own_code_is_refused(
    workspace: Path, rows: Callable[..., Path], tmp_path: Path
) -> None:
    folder = model(tmp_path, {"model_type": "my_own", "auto_map": {"AutoModel": "modeling.My"}})
    message = refused(workspace, model={"path": str(folder)}, rows=rows(), steps=HERE)
    assert "can only be loaded by running its own code (type my_own)" in message


def test_code_beside_a_model_that_transformers_has_is_not_needed(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    found = architecture.of_config({**QWEN_VL, "auto_map": {"AutoModel": "x.Y"}})
    assert found.sees
    assert not found.remote_code


def test_an_adapter_sees_what_its_base_sees(
    workspace: Path, rows: Callable[..., Path], tmp_path: Path
) -> None:
    base = model(tmp_path, QWEN_VL)
    adapter = made(workspace, "sft")
    record = json.loads((adapter / "ARTIFACT.json").read_text())
    record["stack"].insert(0, {"kind": "model", "path": str(base)})
    (adapter / "ARTIFACT.json").write_text(json.dumps(record))
    found = plan(workspace, model={"path": str(adapter)}, rows=rows(), steps=HERE)
    assert found.steps[0].image_rows == {"train_data": 1}


def test_another_image_behind_the_same_rows_is_other_work(
    workspace: Path, rows: Callable[..., Path], tmp_path: Path
) -> None:
    parts = {"model": {"path": str(model(tmp_path, QWEN_VL))}, "rows": rows(), "steps": HERE}
    before, again = (plan(workspace, **parts).steps[0].fingerprint for _ in range(2))
    assert before == again
    (tmp_path / "a.png").write_bytes(PIXEL + b"\0")
    assert plan(workspace, **parts).steps[0].fingerprint != before
