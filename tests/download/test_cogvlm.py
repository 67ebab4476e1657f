"""CogVLM is refused once its configuration is here, before its weights are fetched."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swiftshell.engines.hub_model import check_config
from swiftshell.errors import SwiftshellError


def test_cogvlm_is_refused_with_the_reason_and_what_to_use(tmp_path: Path) -> None:
    config = {
        "architectures": ["CogVLMForCausalLM"],
        "auto_map": {"AutoConfig": "configuration_cogvlm.CogVLMConfig"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(SwiftshellError) as caught:
        check_config(tmp_path, "org/model", lambda *_, **__: None)
    message = str(caught.value)
    assert "org/model is a CogVLM model: transformers does not carry CogVLM" in message
    assert (
        "hint: use a vision-language model that transformers has itself: Qwen/Qwen2.5-VL-7B-Instruct"
        in message
    )
