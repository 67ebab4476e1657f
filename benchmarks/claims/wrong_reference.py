"""Every way known to us in which a preference round gets a wrong reference is caught before its first step.

    python -m benchmarks.claims.wrong_reference

Each wrong construction runs twice: with the product's proof, which has to refuse it, and with the proof switched off, which
shows that nothing else would have: the trainer takes its step without a word. Right constructions have to pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    made = Models(lab, seed)
    rows = {
        "kto": lab.data("kto", [d.row(d.good) for d in starter_rows.draw(seed, 64, "reference")]),
        "dpo": lab.data("dpo", dpo_rows(seed)[:64]),
    }
    found = {}
    for name, case in CASES.items():
        if lab.quick and name not in QUICK:
            continue
        inputs = {
            "policy": common.model(made[case.policy]),
            "reference": common.model(made[case.reference]),
            "train_data": common.dataset(rows[case.stage]),
        }
        with _built(case.trap):
            proven = _try(lab, seed, case, inputs, name)
        scores = {"caught": float(_refused(proven)), "steps": float(len(proven.series("loss")))}
        scores["difference"] = _difference(proven)
        if case.wrong:
            with _built(case.trap), _unproven():
                scores["trained_unproven"] = float(_try(lab, seed, case, inputs, f"{name}, unproven").ok)
        found[name] = scores
    return found


class Models:
    """The models that the constructions are made of, each trained when it is first asked for."""

    def __init__(self, lab: Lab, seed: int) -> None:
        self._lab, self._seed = lab, seed
        thumbs = [d.row(d.good) for d in starter_rows.draw(seed, 320, "round one")]
        self._thumbs = common.dataset(lab.data("kto", thumbs))
        self._full = {**common.kto_settings(lab.quick), **_FULL, "max_steps": 3 if lab.quick else 30}

    def __getitem__(self, name: str) -> Path:
        if name == "base":
            return MODEL_DIR
        made: Made = getattr(self, f"_{name}")()
        return made.out("model" if name.endswith("full") or name == "merged" else "adapter")

    def _sft(self) -> Made:
        return self._lab.sft(self._seed)

    def _kto(self) -> Made:
        return self._preference("sft", common.kto_settings(self._lab.quick))

    def _merged(self) -> Made:
        return self._lab.need("merge", {}, {"adapter": common.model(self["sft"])}, seed=self._seed)

    def _sft_full(self) -> Made:
        params = {k: v for k, v in self._full.items() if k != "beta"} | {"learning_rate": 1e-3}
        chats = common.dataset(self._lab.data("sft", sft_rows(self._seed)[:480]))
        inputs = {"policy": common.model(MODEL_DIR), "train_data": chats}
        return self._lab.need("sft", params, inputs, seed=self._seed)

    def _kto_full(self) -> Made:
        return self._preference("sft_full", self._full)

    def _preference(self, start: str, params: Mapping[str, Any]) -> Made:
        sft = common.model(self[start])
        inputs = {"policy": sft, "reference": sft, "train_data": self._thumbs}
        return self._lab.need("kto", params, inputs, seed=self._seed)


def _try(lab: Lab, seed: int, case: Case, inputs: Mapping[str, Any], variant: str) -> Made:
    few = {"max_steps": 1, "num_train_epochs": 1}
    settings = {**common.kto_settings(lab.quick), **few, **(_FULL if case.full else {})}
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
