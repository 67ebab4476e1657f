"""Merged equals adapter: proven on the reloaded weights, and refused when it is not so."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from swiftshell.engines import peft_merge
from swiftshell.errors import SwiftshellError
from swiftshell.stages.base import InputRef
from tests.engines.conftest import FAST, Ran, Runner, data_ref, model_ref

pytestmark = pytest.mark.engine

TEXT = "What colour is the river? The river is green. 苹果是红的。"


def logits(model: Any, folder: Path) -> torch.Tensor:
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(TEXT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model.eval()(input_ids=ids).logits[0].float()


def make_adapter(base: Path, folder: Path, scale: float = 0.05, **config: Any) -> Path:
    """Write an adapter with random (or, with scale 0, without) effect on a base, tokenizer beside it."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    settings = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **config}
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**settings))
    for name, weights in model.named_parameters():
        if "lora_B" in name:
            weights.data.normal_(0, scale) if scale else weights.data.zero_()
        elif "modules_to_save" in name:
            weights.data += 0.05 * torch.randn_like(weights)
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (base / name).is_file():
            shutil.copy(base / name, folder / name)
    return folder


def adapter_ref(folder: Path, **record: Any) -> InputRef:
    """Return an adapter folder as the worker hands it to an engine."""
    ref = model_ref("adapter", folder, "adapter")
    return replace(ref, artifact={**(ref.artifact or {}), **record})


@pytest.fixture(scope="module")
def adapter(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(tiny, tmp_path_factory.mktemp("adapters") / "random")


def test_a_trained_adapter_merges_into_a_model_that_answers_the_same(sft: Ran, tiny: Path, run_step: Runner) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    merged = run_step("merge", {}, {"adapter": sft.ref("adapter", "adapter")})
    folder = merged.artifacts["model"]
    assert merged.outcome.gate == []
    base = logits(AutoModelForCausalLM.from_pretrained(tiny), tiny)
    adapted = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), sft.artifacts["adapter"]), tiny)
    result = logits(AutoModelForCausalLM.from_pretrained(folder), folder)
    assert (adapted - base).abs().max() > 0.1
    assert (result - adapted).abs().max() < 1e-4
    facts = merged.outcome.artifacts["model"]
    assert facts["kind"] == "model"
    assert facts["dtype"] == "float32"
    assert merged.outcome.metrics["max_logit_diff"] < 1e-3 < merged.outcome.metrics["adapter_max_logit_diff"]


def test_the_merged_folder_is_whole_and_plain(sft: Ran, run_step: Runner) -> None:
    merged = run_step("merge", {"max_shard_size": "200KB"}, {"adapter": sft.ref("adapter", "adapter")})
    folder = merged.artifacts["model"]
    names = {p.name for p in folder.iterdir()}
    assert {"config.json", "model.safetensors.index.json", "ARTIFACT.json"} <= names
    assert not [n for n in names if n.endswith((".bin", ".pt")) or "adapter" in n]
    source = sft.artifacts["adapter"]
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (source / name).is_file():
            assert (folder / name).read_bytes() == (source / name).read_bytes()
    record = json.loads((folder / "ARTIFACT.json").read_text())
    made = json.loads((source / "ARTIFACT.json").read_text())
    assert record["tokenizer_sha256"] == made["tokenizer_sha256"]
    assert record["chat_template_sha256"] == made["chat_template_sha256"]
    assert [(e["kind"], e["path"]) for e in record["stack"]] == [("model", ".")]


def test_16_bits_hold_their_own_limits(adapter: Path, run_step: Runner) -> None:
    merged = run_step("merge", {"dtype": "bfloat16"}, {"adapter": adapter_ref(adapter)})
    assert merged.outcome.gate == []
    config = json.loads((merged.artifacts["model"] / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    assert merged.outcome.summary["dtype"] == "bfloat16"


def test_a_merge_that_lost_the_adapter_is_not_called_good(adapter: Path, run_step: Runner,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft_merge, "_merge", lambda model, tell: model.unload())
    merged = run_step("merge", {}, {"adapter": adapter_ref(adapter)})
    assert [p.code for p in merged.outcome.gate] == ["merge.not_equal"]
    assert json.loads((merged.artifacts["model"] / "ARTIFACT.json").read_text())["good"] is False


def test_wide_limits_do_not_hide_a_lost_adapter(adapter: Path, run_step: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft_merge, "_merge", lambda model, tell: model.unload())
    monkeypatch.setattr(peft_merge, "LIMITS", {"float32": peft_merge.Limits(1e9, 1e9, 1e-9)})
    merged = run_step("merge", {}, {"adapter": adapter_ref(adapter)})
    assert [p.code for p in merged.outcome.gate] == ["merge.effect_lost"]


def test_an_adapter_without_effect_is_noted(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    merged = run_step("merge", {}, {"adapter": adapter_ref(make_adapter(tiny, tmp_path / "zero", scale=0.0))})
    assert merged.outcome.gate == []
    assert "merge.no_effect" in merged.ctx.codes()


def test_a_head_that_was_trained_alone_is_untied(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    folder = make_adapter(tiny, tmp_path / "head", modules_to_save=["lm_head"])
    merged = run_step("merge", {}, {"adapter": adapter_ref(folder)})
    assert merged.outcome.gate == []
    adapted = logits(PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), folder), tiny)
    result = logits(AutoModelForCausalLM.from_pretrained(merged.artifacts["model"]), tiny)
    assert (result - adapted).abs().max() < 1e-4
    config = json.loads((merged.artifacts["model"] / "config.json").read_text())
    assert config["tie_word_embeddings"] is False
    assert "merge.untied" in merged.ctx.codes()


def test_an_adapter_from_a_quantized_base_says_what_changed(adapter: Path, run_step: Runner) -> None:
    merged = run_step("merge", {}, {"adapter": adapter_ref(adapter, quantization="nf4")})
    assert merged.outcome.gate == []
    assert merged.outcome.summary["quantized_base"]["mean_kld"] > 0
    assert "merge.trained_quantized" in merged.ctx.codes()
    config = json.loads((merged.artifacts["model"] / "config.json").read_text())
    assert "quantization_config" not in config


def test_an_adapter_really_trained_in_nf4_is_measured_as_trained_and_merges(tiny: Path, colours: dict[str, Path],
                                                                            run_step: Runner) -> None:
    trained = run_step("sft", {**FAST, "quantization": "nf4"},
                       {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])})
    assert trained.outcome.artifacts["adapter"]["quantization"] == "nf4"
    merged = run_step("merge", {}, {"adapter": trained.ref("adapter", "adapter")})
    assert merged.outcome.gate == []
    assert merged.outcome.summary["quantized_base"]["method"] == "nf4"
    ran = run_step("evaluate", {"max_new_tokens": 4},
                   {"models": (trained.ref("adapter", "models"), merged.ref("model", "models")),
                    "eval_data": data_ref(colours["dpo"], "eval_data")})
    as_trained, as_merged = (e["metrics"]["preference_auc"][0] for e in ran.outcome.summary["models"])
    assert abs(as_trained - as_merged) < 0.1


def test_a_full_disk_is_told_before_any_work(adapter: Path, run_step: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peft_merge.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 20))
    monkeypatch.setattr(peft_merge, "load_base", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(SwiftshellError) as caught:
        run_step("merge", {}, {"adapter": adapter_ref(adapter)})
    assert caught.value.problems[0].code == "merge.disk_full"
    assert caught.value.exit_code == 5


def test_values_that_are_not_finite_are_refused(adapter: Path, tmp_path: Path, run_step: Runner) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "nan"
    shutil.copytree(adapter, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    weights[next(k for k in weights if "lora_B" in k)][0, 0] = float("nan")
    save_file(weights, folder / "adapter_model.safetensors")
    with pytest.raises(SwiftshellError) as caught:
        run_step("merge", {}, {"adapter": adapter_ref(folder)})
    assert caught.value.problems[0].code == "merge.not_finite"


def test_a_full_model_has_nothing_to_merge(tiny: Path, run_step: Runner) -> None:
    with pytest.raises(SwiftshellError) as caught:
        run_step("merge", {}, {"adapter": model_ref("adapter", tiny)})
    assert caught.value.problems[0].code == "merge.no_adapter"


def test_a_base_that_is_gone_is_named(adapter: Path, tmp_path: Path, run_step: Runner) -> None:
    folder = tmp_path / "orphan"
    shutil.copytree(adapter, folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/nowhere/base"}))
    with pytest.raises(SwiftshellError) as caught:
        run_step("merge", {}, {"adapter": adapter_ref(folder)})
    assert "/nowhere/base" in str(caught.value)
