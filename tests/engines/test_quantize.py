"""Quantized models are quantized, close to the full one, and refused when they are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swiftshell.engines import bnb_quantize
from swiftshell.errors import SwiftshellError
from tests.engines.conftest import STARTER, Ran, Runner, data_ref, make_runner, model_ref

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """Return the starter in nf4 and int8."""
    run = make_runner(tmp_path_factory.mktemp("quantized"))
    data = data_ref(STARTER / "data" / "heldout.jsonl", "probe_data")
    return {m: run("quantize", {"quantization": m}, {"model": model_ref("model", STARTER / "model"), "probe_data": data},
                   name=m) for m in ("nf4", "int8")}


@pytest.mark.parametrize("method", ["nf4", "int8"])
def test_the_saved_model_is_quantized_and_close(made: dict[str, Ran], method: str) -> None:
    ran = made[method]
    folder = ran.artifacts["model"]
    assert ran.outcome.gate == []
    config = json.loads((folder / "config.json").read_text())["quantization_config"]
    assert config["load_in_4bit" if method == "nf4" else "load_in_8bit"] is True
    assert ran.outcome.metrics["size_fraction"] < (0.5 if method == "nf4" else 0.6)
    assert ran.outcome.summary["layers"] >= 7
    assert 0 < ran.outcome.metrics["mean_kld"] < bnb_quantize.LIMITS[method].max_mean_kld
    facts = ran.outcome.artifacts["model"]
    assert (facts["kind"], facts["quantization"]) == ("quantized_model", method)
    assert (folder / "tokenizer.json").read_bytes() == (STARTER / "model" / "tokenizer.json").read_bytes()


def test_int8_is_closer_than_nf4(made: dict[str, Ran]) -> None:
    assert made["int8"].outcome.metrics["mean_kld"] < made["nf4"].outcome.metrics["mean_kld"]


def test_a_limit_of_ones_own_decides(run_step: Runner) -> None:
    ran = run_step("quantize", {"max_mean_kld": 1e-9, "probe_rows": 2}, {"model": model_ref("model", STARTER / "model")})
    assert [p.code for p in ran.outcome.gate] == ["quantize.too_far"]
    assert "quantize.few_probe_rows" in ran.ctx.codes()


def test_a_model_that_stayed_full_is_not_called_quantized(run_step: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bnb_quantize.quant, "config", lambda *_, **__: None)
    ran = run_step("quantize", {"probe_rows": 2}, {"model": model_ref("model", STARTER / "model")})
    assert [p.code for p in ran.outcome.gate] == ["quantize.not_quantized"]


def test_quantizing_twice_is_refused(made: dict[str, Ran], run_step: Runner) -> None:
    with pytest.raises(SwiftshellError) as caught:
        run_step("quantize", {}, {"model": model_ref("model", made["nf4"].artifacts["model"], "quantized_model")})
    assert caught.value.problems[0].code == "quantize.already"


def test_a_folder_without_weights_is_refused(tmp_path: Path, run_step: Runner) -> None:
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((STARTER / "model" / name).read_bytes())
    with pytest.raises(SwiftshellError) as caught:
        run_step("quantize", {}, {"model": model_ref("model", tmp_path)})
    assert caught.value.problems[0].code == "infer.no_weights"
