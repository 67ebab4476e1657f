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
    return run(
        "kto",
        FAST,
        {
            "policy": sft.ref("adapter", "policy"),
            "reference": sft.ref("adapter", "reference"),
            "train_data": data_ref(colours["kto"]),
        },
    )


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
def test_continuing_kto_is_measured_against_sft(
    stage: str, kto: Ran, sft: Ran, tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    done = run_step(
        stage,
        FAST,
        {
            "policy": kto.ref("adapter", "policy"),
            "reference": sft.ref("adapter", "reference"),
            "train_data": data_ref(colours[stage]),
        },
    )
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
def test_a_wrong_reference_is_refused_before_the_first_step(
    case: str, wrong: str, kto: Ran, sft: Ran, tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    policy = sft if case == "first kto" else kto
    stage = "dpo" if case.startswith("dpo") else "kto"
    reference = model_ref("reference", tiny) if wrong == "base" else kto.ref("adapter", "reference")
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            stage,
            FAST,
            {
                "policy": policy.ref("adapter", "policy"),
                "reference": reference,
                "train_data": data_ref(colours[stage]),
            },
            name="wrong",
        )
    assert refused.value.problems[0].code == "train.reference_mismatch"
    assert refused.value.exit_code == 3


@pytest.mark.parametrize("stage", ["kto", "dpo"])
@pytest.mark.parametrize("trap", ["anchored to the last kto", "cold base"])
def test_a_trainer_built_on_the_wrong_reference_is_refused(
    stage: str,
    trap: str,
    kto: Ran,
    sft: Ran,
    colours: dict[str, Path],
    run_step: Runner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The inputs are right, the construction is not: TRL anchors to whatever PeftModel it gets, or to the base."""
    from swiftshell.engines import loading, references

    right = references.build

    def wrong(policy: Any, reference: Any, params: Any, precision: Any) -> Any:
        models = right(policy, reference, params, precision)
        base = loading.load_base(policy.base, precision)
        if trap == "cold base":
            config = loading.saved_adapter_config(policy.adapter)
            return replace(models, model=base, peft_config=config, inject=policy.adapter, mode="adapter_off")
        return replace(models, model=loading.put_adapter(base, policy.adapter, trainable=True), inject=None)

    monkeypatch.setattr(references, "build", wrong)
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            stage,
            FAST,
            {
                "policy": kto.ref("adapter", "policy"),
                "reference": sft.ref("adapter", "reference"),
                "train_data": data_ref(colours[stage]),
            },
            name="trap",
        )
    assert refused.value.problems[0].code == "train.reference_mismatch"


def test_another_reference_by_request(
    kto: Ran, tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    done = run_step(
        "kto",
        {**FAST, "max_steps": 2, "other_reference": True},
        {
            "policy": kto.ref("adapter", "policy"),
            "reference": model_ref("reference", tiny),
            "train_data": data_ref(colours["kto"]),
        },
    )
    assert done.outcome.artifacts["adapter"]["reference"]["path"] == str(tiny)
    assert done.outcome.summary["reference_kept_as"] == "adapter_off"


def test_a_full_sft_model_is_its_own_reference(
    tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    """Fresh LoRA on a fully trained SFT model; then on from there; then the same by full fine-tuning."""
    full = {**FAST, "tuning": "full", "learning_rate": 3e-3}
    sft = run_step(
        "sft",
        {**full, "max_steps": 12},
        {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])},
    )
    assert sft.outcome.artifacts["model"]["stack"] == [{"kind": "model", "path": "."}]
    probe = sft.outcome.artifacts["model"]["probe"]
    assert far(probe["logps"], logps_of(sft.artifacts["model"], None, probe)) < 1e-3
    policy, reference = sft.ref("model", "policy"), sft.ref("model", "reference")
    kto = run_step(
        "kto", FAST, {"policy": policy, "reference": reference, "train_data": data_ref(colours["kto"])}
    )
    assert kto.outcome.summary["reference_kept_as"] == "adapter_off"
    again = run_step(
        "kto",
        FAST,
        {
            "policy": kto.ref("adapter", "policy"),
            "reference": reference,
            "train_data": data_ref(colours["kto"]),
        },
        name="again",
    )
    assert again.ctx.series("rewards/margins")[0] > 0.01
    assert far(again.outcome.summary["reference_logps"], probe["logps"]) < 1e-3
    dpo = run_step(
        "dpo", full, {"policy": policy, "reference": reference, "train_data": data_ref(colours["dpo"])}
    )
    assert dpo.outcome.summary["reference_kept_as"] == "second_model"
    assert far(dpo.outcome.summary["reference_logps"], probe["logps"]) < 1e-3
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "dpo",
            full,
            {
                "policy": policy,
                "reference": model_ref("reference", tiny),
                "train_data": data_ref(colours["dpo"]),
            },
            name="cold",
        )
    assert refused.value.problems[0].code == "train.reference_mismatch"


def test_reference_answers_computed_in_advance_are_checked_too(
    kto: Ran, sft: Ran, colours: dict[str, Path], run_step: Runner
) -> None:
    done = run_step(
        "kto",
        {**FAST, "precompute_ref_log_probs": True},
        {
            "policy": kto.ref("adapter", "policy"),
            "reference": sft.ref("adapter", "reference"),
            "train_data": data_ref(colours["kto"]),
        },
        name="advance",
    )
    plain = run_step(
        "kto",
        FAST,
        {
            "policy": kto.ref("adapter", "policy"),
            "reference": sft.ref("adapter", "reference"),
            "train_data": data_ref(colours["kto"]),
        },
        name="on the fly",
    )
    assert far(done.ctx.series("loss"), plain.ctx.series("loss")) < 1e-3


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_adapters_that_do_not_fit_are_held_as_two_models(
    quantization: str, sft: Ran, tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    """The reference is an SFT adapter of another rank; it is proven like any other."""
    wide = run_step(
        "sft",
        {**FAST, "lora": {"r": 8}},
        {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])},
        name="wide",
    )
    done = run_step(
        "dpo",
        {**FAST, "max_steps": 2, "other_reference": True, "quantization": quantization},
        {
            "policy": sft.ref("adapter", "policy"),
            "reference": wide.ref("adapter", "reference"),
            "train_data": data_ref(colours["dpo"]),
        },
    )
    assert done.outcome.summary["reference_kept_as"] == "second_model"
    assert "train.second_model" in done.ctx.codes()
    if quantization == "none":
        probe = done.outcome.artifacts["adapter"]["reference"]["probe"]
        independent = logps_of(tiny, wide.artifacts["adapter"], probe)
        assert far(done.outcome.summary["reference_logps"], independent) < 1e-3


def test_a_lineage_without_a_probe_is_measured_against_its_own_forward(
    tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    """A model from elsewhere has no recorded probe: rows of the training data take its place."""
    inputs = {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["kto"])}
    done = run_step("kto", {**FAST, "max_steps": 2}, {**inputs, "reference": model_ref("reference", tiny)})
    assert "train.reference_computed" in done.ctx.codes()
    probe = done.outcome.artifacts["adapter"]["reference"]["probe"]
    assert far(done.outcome.summary["reference_logps"], logps_of(tiny, None, probe)) < 1e-3
