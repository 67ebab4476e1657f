"""The shipped recipe on the shipped starter really moves the model, and wrong labels move it the wrong way.

One run trains everything; the tests read its report. What is asserted is generated text on held-out prompts, judged by the
rules the rows carry: base < SFT < KTO < DPO, merged equals the adapter, nf4 loses little, inverted thumbs fall below SFT.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swiftshell import SwiftApp
from swiftshell.recipe.catalog import find
from swiftshell.recipe.document import read_document
from swiftshell.starter import DATA_DIR

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]  # whole runs: a busy machine may take its time


def _recipe(folder: Path) -> dict[str, Any]:
    """Return the shipped recipe with one more step: KTO with every thumb turned over."""
    path = find("starter/all-stages")
    assert path is not None
    recipe: dict[str, Any] = read_document(path).data
    inverted = folder / "inverted.jsonl"
    with (DATA_DIR / "kto.jsonl").open(encoding="utf-8") as source, inverted.open("w", encoding="utf-8") as target:
        for line in source:
            row = json.loads(line)
            target.write(json.dumps({**row, "label": not row["label"]}, ensure_ascii=False) + "\n")
    recipe["data"]["inverted"] = {"path": str(inverted)}
    steps = recipe["steps"]
    kto = next(s for s in steps if s["id"] == "kto")
    wrong = {**kto, "id": "wrong", "inputs": {**kto["inputs"], "train_data": "data.inverted"}}
    steps.insert(len(steps) - 1, wrong)
    steps[-1]["inputs"]["models"].append("wrong.adapter")
    return recipe


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Run it all once; return the report's models by step, with the run's facts."""
    folder = tmp_path_factory.mktemp("starter")
    facts = SwiftApp(_recipe(folder), workspace=folder).run(show=False)
    score = next(s for s in facts["steps"] if s["stage"] == "evaluate")
    report = Path(score["outputs"]["report"])
    models = json.loads((report / "report.json").read_text(encoding="utf-8"))["models"]
    return {"facts": facts, "report": report, "models": {m["name"].split(".")[0]: m["metrics"] for m in models},
            "change": {m["name"].split(".")[0]: m.get("change", {}) for m in models}}


def share(run: dict[str, Any], step: str) -> float:
    return float(run["models"][step]["desirable_share"][0])


def test_every_stage_succeeded(run: dict[str, Any]) -> None:
    stages = {s["stage"]: s["result"] for s in run["facts"]["steps"]}
    assert stages == dict.fromkeys(("download", "sft", "kto", "dpo", "merge", "infer", "quantize", "evaluate"), "succeeded")


def test_intervals_are_shown_and_rows_are_many(run: dict[str, Any]) -> None:
    for name, metrics in run["models"].items():
        value, low, high, rows = metrics["desirable_share"][:4]
        assert rows >= 300, name
        assert low <= value <= high, name
        assert high - low > 0.005, name


def test_sft_rises_clearly_over_base(run: dict[str, Any]) -> None:
    base, sft = run["models"]["starter" if "starter" in run["models"] else "base"], run["models"]["sft"]
    assert sft["desirable_share"][1] > base["desirable_share"][2], "the intervals do not even touch"


def test_thumbs_raise_it_further(run: dict[str, Any]) -> None:
    """The same rows are answered by both, so the paired difference is what counts, and its interval excludes 0."""
    assert run["change"]["kto"]["desirable_share"][1] > 0


def test_pairs_raise_it_too(run: dict[str, Any]) -> None:
    """DPO continues KTO, which is already near what the model knows: far above SFT, and no step back from KTO."""
    assert run["models"]["dpo"]["desirable_share"][1] > run["models"]["sft"]["desirable_share"][2]
    assert run["change"]["dpo"]["desirable_share"][2] >= 0
    assert share(run, "dpo") > share(run, "kto") - 0.01


def test_inverted_thumbs_fall_below_sft(run: dict[str, Any]) -> None:
    assert run["models"]["wrong"]["desirable_share"][2] < run["models"]["sft"]["desirable_share"][0]


def test_merged_answers_are_the_adapters(run: dict[str, Any]) -> None:
    assert abs(share(run, "merged") - share(run, "dpo")) <= 0.005
    assert run["models"]["merged"]["perplexity"][0] == pytest.approx(run["models"]["dpo"]["perplexity"][0], rel=1e-3)


def test_nf4_loses_little(run: dict[str, Any]) -> None:
    assert share(run, "quantized") > share(run, "merged") - 0.05


def test_the_stages_fit_into_the_time_promised(run: dict[str, Any]) -> None:
    """Not a benchmark: a loaded machine gets three times the five minutes a quiet one is promised."""
    promised = [s["duration_s"] for s in run["facts"]["steps"] if s["id"] != "wrong"]
    assert sum(promised) < 3 * 300
