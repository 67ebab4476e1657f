from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.engines.conftest import Ran

pytestmark = pytest.mark.engine


def test_sft_learns_and_writes_one_flat_adapter(sft: Ran, tiny: Path) -> None:
    folder = sft.artifacts["adapter"]
    names = {p.name for p in folder.iterdir()}
    assert {
        "adapter_model.safetensors",
        "adapter_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    } <= names
    assert not [p for p in folder.iterdir() if p.is_dir()]
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == str(tiny)
    loss = sft.ctx.series("loss")
    assert len(loss) == 24
    assert loss[-1] < 0.7 * loss[0]
    assert sft.ctx.progressed[-1] == (24, 24, "steps")
