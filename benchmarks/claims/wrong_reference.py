"""Every way known to us in which a preference round gets a wrong reference is caught before its first step.

    python -m benchmarks.claims.wrong_reference

Each wrong construction runs twice: with the product's proof, which has to refuse it, and with the proof switched off, which
shows that nothing else would have: the trainer takes its step without a word. Right constructions have to pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.claims import common, starter_rows
from benchmarks.claims.common import Claim, Lab, Made, Scores
from swiftshell.starter import MODEL_DIR
from swiftshell.starter.rows import dpo_rows, sft_rows

Build = Callable[[Any, Any, Any, Any], Any]
_FULL = {"tuning": "full", "learning_rate": 1e-4}


@dataclass(frozen=True)
class Case:
    """A construction.

    Attributes:
        inputs: what a person gives as policy and as reference.
        trap: how the trainer is built wrongly from right inputs; "" for as the product builds it.
        wrong: the reference ends up as another model than SFT.
    """

    stage: str
    policy: str
    reference: str
    wrong: bool
    trap: str = ""
    full: bool = False


CASES = {
    # Right: what the product does itself.
    "sft_adapter": Case("kto", "sft", "sft", False),
    "fresh_on_merged": Case("kto", "merged", "merged", False),
    "kto_continued": Case("kto", "kto", "sft", False),
    "dpo_after_kto": Case("dpo", "kto", "sft", False),
    "full": Case("kto", "sft_full", "sft_full", False, full=True),
    "full_continued": Case("kto", "kto_full", "sft_full", False, full=True),
    # Wrong: another model given.
    "base_given": Case("kto", "sft", "base", True),
    "base_given_merged": Case("kto", "merged", "base", True),
    "previous_kto_given": Case("kto", "kto", "kto", True),
    "dpo_base_given": Case("dpo", "kto", "base", True),
    "dpo_previous_kto_given": Case("dpo", "kto", "kto", True),
    "full_base_given": Case("kto", "sft_full", "base", True, full=True),
    "full_previous_kto_given": Case("kto", "kto_full", "kto_full", True, full=True),
    # Wrong: the right models given, the trainer built so that TRL takes another one.
    "anchored_to_previous_kto": Case("kto", "kto", "sft", True, "anchored"),
    "dpo_anchored_to_previous_kto": Case("dpo", "kto", "sft", True, "anchored"),
    "cold_base": Case("kto", "sft", "sft", True, "cold"),
    "dpo_cold_base": Case("dpo", "kto", "sft", True, "cold"),
    "full_reread_from_base": Case("kto", "sft_full", "sft_full", True, "reread", full=True),
}


QUICK = ("sft_adapter", "base_given", "dpo_cold_base", "full_reread_from_base")


def measure(lab: Lab, seed: int) -> dict[str, Scores]:
    """Try every construction; no training beyond one step."""
    made = _models(lab, seed)
    rows = {
        "kto": lab.data("kto", [d.row(d.good) for d in starter_rows.draw(seed, 64, "reference")]),
        "dpo": lab.data("dpo", dpo_rows(seed)[:64]),
    }
    found = {}
    for name, case in CASES.items():
        if lab.quick and name not in QUICK:
            continue
        with _built(case.trap):
            proven = _try(lab, seed, case, made, rows, name)
        scores = {"caught": float(_refused(proven)), "steps": float(len(proven.series("loss")))}
        scores["difference"] = _difference(proven)
        if case.wrong:
            with _built(case.trap), _unproven():
                scores["trained_unproven"] = float(_try(lab, seed, case, made, rows, f"{name}, unproven").ok)
        found[name] = scores
    return found


def _models(lab: Lab, seed: int) -> dict[str, Path]:
    """Train the models that the constructions are made of."""
    sft = lab.sft(seed)
    kto = lab.kto(seed, [d.row(d.good) for d in starter_rows.draw(seed, 320, "round one")], sft)
    merged = lab.need("merge", {}, {"adapter": common.model(sft.out("adapter"))}, seed=seed)
    full = {**common.kto_settings(lab.quick), **_FULL, "max_steps": 4 if lab.quick else 30}
    chats = common.dataset(lab.data("sft", sft_rows(seed)[:480]))
    start = common.model(MODEL_DIR)
    sft_params = {k: v for k, v in full.items() if k != "beta"} | {"learning_rate": 1e-3}
    sft_full = lab.need("sft", sft_params, {"policy": start, "train_data": chats}, seed=seed)
    thumbs = common.dataset(
        lab.data("kto", [d.row(d.good) for d in starter_rows.draw(seed, 320, "round one")])
    )
    whole = common.model(sft_full.out("model"))
    kto_full = lab.need("kto", full, {"policy": whole, "reference": whole, "train_data": thumbs}, seed=seed)
    return {
        "base": MODEL_DIR,
        "sft": sft.out("adapter"),
        "kto": kto.out("adapter"),
        "merged": merged.out("model"),
        "sft_full": sft_full.out("model"),
        "kto_full": kto_full.out("model"),
    }


def _try(lab: Lab, seed: int, case: Case, made: dict[str, Path], rows: dict[str, Path], variant: str) -> Made:
    settings = {
        **common.kto_settings(lab.quick),
        "max_steps": 1,
        "num_train_epochs": 1,
        **(_FULL if case.full else {}),
    }
    inputs = {
        "policy": common.model(made[case.policy]),
        "reference": common.model(made[case.reference]),
        "train_data": common.dataset(rows[case.stage]),
    }
    return lab.step(case.stage, settings, inputs, seed=seed, variant=variant)


def _refused(made: Made) -> bool:
    """Tell whether the step was refused for its reference; any other failure of a construction is an error here."""
    if made.ok or "train.reference_mismatch" in made.codes:
        return not made.ok
    raise common.StepFailed(f"{made.root}: {made.codes}")


def _difference(made: Made) -> float:
    """Return the largest difference found, in nats per completion token."""
    if made.ok:
        return float(made.summary["reference_difference"])
    return float(made.report["problems"][0]["values"]["difference"])


@contextmanager
def _built(trap: str) -> Iterator[None]:
    """Let the trainer be built wrongly, in one of the ways in which TRL takes another reference than one thinks."""
    if not trap:
        yield
        return
    from swiftshell.engines import references

    right, wrong = references.build, {"anchored": _anchored, "cold": _cold, "reread": _reread}[trap]

    def build(policy: Any, reference: Any, params: Any, precision: Any) -> Any:
        return wrong(right, policy, reference, params, precision)

    with mock.patch.object(references, "build", build):
        yield


def _anchored(right: Build, policy: Any, reference: Any, params: Any, precision: Any) -> Any:
    """Hand TRL the previous round's adapter as a PeftModel: TRL freezes a copy of *that* as the reference."""
    from swiftshell.engines import loading

    base = loading.load_base(policy.base, precision)
    models = right(policy, reference, params, precision)
    return replace(models, model=loading.put_adapter(base, policy.adapter, trainable=True), inject=None)


def _cold(right: Build, policy: Any, reference: Any, params: Any, precision: Any) -> Any:
    """Hand TRL the base and a LoRA configuration: the reference is the base with the adapter switched off."""
    from swiftshell.engines import loading

    models = right(policy, reference, params, precision)
    base = loading.load_base(policy.base, precision)
    config = loading.saved_adapter_config(policy.adapter)
    return replace(models, model=base, peft_config=config, inject=policy.adapter, mode="adapter_off")


def _reread(right: Build, policy: Any, reference: Any, params: Any, precision: Any) -> Any:
    """Hand TRL a model changed in memory and no reference: it reads the reference again from where the model came from."""
    from swiftshell.engines import loading

    models = right(policy, reference, params, precision)
    changed = loading.load_base(MODEL_DIR, precision)
    changed.load_state_dict(models.model.state_dict())
    return replace(models, model=changed, ref_model=None)


@contextmanager
def _unproven() -> Iterator[None]:
    from swiftshell.engines import preference

    with mock.patch.object(preference.ReferenceProof, "check", return_value=None):
        yield


def verdict(result: dict[str, Any]) -> str:
    arms = {name: (CASES[name].wrong, metrics) for name, metrics in result["arms"].items()}
    caught = all(m["caught"]["mean"] == 1 and m["steps"]["mean"] == 0 for wrong, m in arms.values() if wrong)
    passed = all(m["caught"]["mean"] == 0 for wrong, m in arms.values() if not wrong)
    return "holds" if caught and passed else "fails"


CLAIM = Claim("wrong_reference", measure, (), verdict)

if __name__ == "__main__":
    common.main(CLAIM)
