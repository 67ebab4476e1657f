"""Quantized training is right on this CPU, and the reference is proven on quantized weights too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from swiftshell.engines import quantization
from swiftshell.errors import SwiftshellError
from tests.engines.conftest import FAST, Ran, Runner, build_model, data_ref, model_ref

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module", params=["llama", "qwen2"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_model(tmp_path_factory.mktemp("quantized") / request.param, family=request.param)


def lora_gradients(base: Path, *, evaluate_first: bool) -> dict[str, Any]:
    """Return the gradients of fresh LoRA weights on an nf4 base, with or without an evaluation forward before."""
    import torch
    from peft import LoraConfig, get_peft_model

    from swiftshell.engines.loading import Precision, load_base

    model = load_base(base, Precision("cpu", "bfloat16", "bfloat16", "nf4"))
    torch.manual_seed(1)
    model = get_peft_model(
        model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    )
    ids = torch.randint(3, 300, (4, 24), generator=torch.Generator().manual_seed(2))
    if evaluate_first:
        model.eval()
        with torch.no_grad():
            model(input_ids=ids)
    model.train()
    model(input_ids=ids, labels=ids).loss.backward()
    return {n: p.grad.float() for n, p in model.named_parameters() if p.requires_grad}


def test_an_evaluation_forward_does_not_change_later_gradients(base: Path) -> None:
    import torch

    plain, after = lora_gradients(base, evaluate_first=False), lora_gradients(base, evaluate_first=True)
    assert plain
    if os.environ.get("SWIFTSHELL_TEST_SHOW"):
        print(
            {
                n: float(torch.cosine_similarity(g.flatten(), after[n].flatten(), dim=0))
                for n, g in plain.items()
            }
        )
    for name, gradient in plain.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(after[name], gradient, atol=1e-6, rtol=1e-3, msg=name)


def test_the_packing_is_off_on_a_cpu() -> None:
    import bitsandbytes.nn.modules as modules
    import torch

    quantization.guard_cpu_kernels()
    if torch.cuda.is_available():
        pytest.skip("the work-around concerns machines without CUDA")
    assert modules.has_avx512bf16() is False


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_qlora_from_sft_to_dpo(method: str, tiny: Path, colours: dict[str, Path], run_step: Runner) -> None:
    import torch
    from safetensors.torch import load_file

    params = {**FAST, "quantization": method, "learning_rate": 1e-2, "max_steps": 8}
    sft = run_step(
        "sft",
        params,
        {
            "policy": model_ref("policy", tiny),
            "train_data": data_ref(colours["sft"]),
            "eval_data": data_ref(colours["sft"], "eval_data"),
        },
    )
    losses = sft.ctx.series("loss")
    assert losses[-1] < losses[0] - 0.2
    assert "eval_loss" in sft.outcome.metrics
    record = sft.outcome.artifacts["adapter"]
    assert (record["quantization"], record["probe"]["precision"]["quantization"]) == (method, method)
    saved = load_file(sft.artifacts["adapter"] / "adapter_model.safetensors")
    assert {t.dtype for t in saved.values()} == {torch.float32}
    assert any((t != t.bfloat16().float()).any() for t in saved.values()), (
        "weights were trained in float32, not rounded"
    )

    reference = sft.ref("adapter", "reference")
    kto = run_step(
        "kto",
        {**params, "eval_steps": 3},
        {
            "policy": sft.ref("adapter", "policy"),
            "reference": reference,
            "train_data": data_ref(colours["kto"]),
            "eval_data": data_ref(colours["kto"], "eval_data"),
        },
    )
    assert kto.outcome.summary["reference_difference"] < 2e-2
    (proven,) = [v for code, v in kto.ctx.notes if code == "train.reference_proven"]
    assert proven["source"] == "recorded"
    assert abs(kto.ctx.series("rewards/margins")[0]) < 0.02, (
        "policy and reference are the same at the first step"
    )
    dpo = run_step(
        "dpo",
        params,
        {
            "policy": kto.ref("adapter", "policy"),
            "reference": reference,
            "train_data": data_ref(colours["dpo"]),
        },
    )
    assert dpo.outcome.summary["reference_difference"] < 2e-2
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "dpo",
            params,
            {
                "policy": kto.ref("adapter", "policy"),
                "reference": kto.ref("adapter", "reference"),
                "train_data": data_ref(colours["dpo"]),
            },
            name="wrong",
        )
    assert refused.value.problems[0].code == "train.reference_mismatch"


def test_an_adapter_trained_in_float32_continues_on_nf4(
    sft: Ran, tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    """Recorded numbers of another precision are not compared with: they are computed again."""
    inputs = {
        "policy": sft.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "train_data": data_ref(colours["kto"]),
    }
    done = run_step("kto", {**FAST, "quantization": "nf4", "max_steps": 2}, inputs)
    assert "train.reference_computed" in done.ctx.codes()
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "kto",
            {**FAST, "quantization": "nf4", "max_steps": 2},
            {**inputs, "reference": model_ref("reference", tiny)},
            name="wrong",
        )
    assert refused.value.problems[0].code == "train.reference_mismatch"


def test_full_fine_tuning_of_quantized_weights_is_refused(
    tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "sft",
            {**FAST, "tuning": "full", "quantization": "nf4"},
            {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])},
        )
    assert refused.value.problems[0].code == "train.full_quantized"


def test_a_round_on_nf4_can_be_followed_by_one_in_float32(
    sft: Ran, colours: dict[str, Path], run_step: Runner
) -> None:
    """The reference stays the same SFT adapter; its numbers are computed where none are recorded in this precision."""
    reference = sft.ref("adapter", "reference")
    data = {"reference": reference, "train_data": data_ref(colours["kto"])}
    short = {**FAST, "max_steps": 2}
    first = run_step(
        "kto",
        {**short, "quantization": "nf4"},
        {"policy": sft.ref("adapter", "policy"), **data},
        name="first",
    )
    kept = first.outcome.artifacts["adapter"]["reference"]["probe"]
    assert kept["precision"]["quantization"] == "nf4"
    again = run_step(
        "kto",
        {**short, "quantization": "nf4"},
        {"policy": first.ref("adapter", "policy"), **data},
        name="again",
    )
    (proven,) = [v for code, v in again.ctx.notes if code == "train.reference_proven"]
    assert proven["source"] == "recorded"
    plain = run_step("kto", short, {"policy": first.ref("adapter", "policy"), **data}, name="plain")
    assert "train.reference_computed" in plain.ctx.codes()
