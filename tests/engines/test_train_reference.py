"""The reference of KTO and DPO is the SFT model: proven by numbers, refused when it is anything else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from swiftshell.errors import SwiftshellError
from tests.engines.conftest import FAST, Ran, Runner, data_ref, make_runner, model_ref

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def kto(sft: Ran, colours: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return a first KTO run from the SFT adapter."""
    run = make_runner(tmp_path_factory.mktemp("kto"))
    return run("kto", FAST, {"policy": sft.ref("adapter", "policy"), "reference": sft.ref("adapter", "reference"),
                             "train_data": data_ref(colours["kto"])})


def logps_of(base: Path, adapter: Path | None, probe: dict[str, Any]) -> list[float]:
    """Compute a probe's log-probabilities from scratch, one row at a time: model, adapter, cross-entropy."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter) if adapter else model
    model.eval()
    found = []
    for row in probe["rows"]:
        prompt, answer = ([int(i) for i in row[k].split()] for k in ("prompt_ids", "completion_ids"))
        ids = torch.tensor([prompt + answer])
        labels = torch.tensor([[-100] * len(prompt) + answer])
        with torch.no_grad():
            found.append(-float(model(input_ids=ids, labels=labels).loss) * len(answer))
    return found


def far(first: list[float], second: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


def test_sft_records_what_an_independent_forward_says(sft: Ran, tiny: Path) -> None:
    probe = sft.outcome.artifacts["adapter"]["probe"]
    assert far(probe["logps"], logps_of(tiny, sft.artifacts["adapter"], probe)) < 1e-3
    assert far(probe["base_logps"], logps_of(tiny, None, probe)) < 1e-3
    assert far(probe["logps"], probe["base_logps"]) > 1


def test_first_kto_is_measured_against_sft(kto: Ran, sft: Ran, tiny: Path) -> None:
    reference = kto.outcome.artifacts["adapter"]["reference"]
    assert reference["path"] == str(sft.artifacts["adapter"])
    assert reference["probe"] == sft.outcome.artifacts["adapter"]["probe"]
    independent = logps_of(tiny, sft.artifacts["adapter"], reference["probe"])
    assert far(kto.outcome.summary["reference_logps"], independent) < 1e-3
    own = kto.outcome.artifacts["adapter"]["probe"]
    assert far(own["logps"], logps_of(tiny, kto.artifacts["adapter"], own)) < 1e-3
    assert far(own["logps"], independent) > 0.1, "KTO moved the policy"


@pytest.mark.parametrize("stage", ["kto", "dpo"])
def test_continuing_kto_is_measured_against_sft(stage: str, kto: Ran, sft: Ran, tiny: Path, colours: dict[str, Path],
                                               run_step: Runner) -> None:
    done = run_step(stage, FAST, {"policy": kto.ref("adapter", "policy"), "reference": sft.ref("adapter", "reference"),
                                  "train_data": data_ref(colours[stage])})
    reference = done.outcome.artifacts["adapter"]["reference"]
    independent = logps_of(tiny, sft.artifacts["adapter"], reference["probe"])
    assert far(done.outcome.summary["reference_logps"], independent) < 1e-3
    assert done.outcome.artifacts["adapter"]["stack"][0]["path"] == str(tiny)
    assert "train.reference_proven" in done.ctx.codes()
    # It went on from KTO: at the first step the policy already prefers what KTO taught.
    margins = done.ctx.series("rewards/margins")
    assert margins[0] > 0.01


@pytest.mark.parametrize("wrong", ["base", "previous"])
@pytest.mark.parametrize("case", ["first kto", "second kto", "dpo after kto"])
def test_a_wrong_reference_is_refused_before_the_first_step(case: str, wrong: str, kto: Ran, sft: Ran, tiny: Path,
                                                            colours: dict[str, Path], run_step: Runner) -> None:
    policy = sft if case == "first kto" else kto
    stage = "dpo" if case.startswith("dpo") else "kto"
    reference = model_ref("reference", tiny) if wrong == "base" else kto.ref("adapter", "reference")
    with pytest.raises(SwiftshellError) as refused:
        run_step(stage, FAST, {"policy": policy.ref("adapter", "policy"), "reference": reference,
                               "train_data": data_ref(colours[stage])}, name="wrong")
    assert refused.value.problems[0].code == "train.reference_mismatch"
    assert refused.value.exit_code == 3
