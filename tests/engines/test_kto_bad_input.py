"""KTO's bad input is refused before weights load, and soft rows go all the way through."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import LANGUAGES, sentence, set_language
from tests.engines.conftest import FAST, Ran, Runner, colour_rows, data_ref, model_ref, write_jsonl

pytestmark = pytest.mark.engine


def refused(
    run_step: Runner, model: Path, rows: list[dict[str, Any]], folder: Path, **params: Any
) -> list[str]:
    """Run KTO; return the codes it is refused with and check that no weights were loaded."""
    data = data_ref(write_jsonl(folder / "rows.jsonl", rows))
    with pytest.raises(SwiftshellError) as caught:
        run_step(
            "kto",
            {**FAST, **params},
            {
                "policy": model_ref("policy", model),
                "reference": model_ref("reference", model),
                "train_data": data,
            },
        )
    for problem in caught.value.problems:
        for language in LANGUAGES:
            set_language(language)
            said = sentence(problem)
            set_language("auto")
            assert not re.search(r"\{\w+\}", said), "every value is filled in"
            assert said.count(problem.code) == 1, "a sentence, not the code alone"
    assert not (folder / "kto" / "out").exists() or not any((folder / "kto" / "out").iterdir())
    return [p.code for p in caught.value.problems]


@pytest.fixture
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail if a model's weights are loaded."""
    from swiftshell.engines import loading

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr(loading, "load_base", load)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"label": None}, "data.label_missing"),
        ({"label": 0.3}, "data.label_score"),
        ({"probability": 1.5}, "data.probability_percent"),
        ({"weight": -1}, "data.weight_negative"),
        ({"completion": [{"role": "assistant", "content": " "}]}, "data.empty_answer"),
        ({"prompt": [{"role": "user", "content": "long " * 300}]}, "train.row_too_long"),
    ],
)
def test_a_bad_row_is_named(
    run_step: Runner, tiny: Path, tmp_path: Path, change: dict[str, Any], code: str
) -> None:
    rows = colour_rows("kto", 8)
    for row in rows:
        row.update(
            {
                name: row["label"] if name != "weight" else 1
                for name in change
                if name in ("probability", "weight")
            }
        )
    rows[2].update(change)
    assert code in refused(run_step, tiny, rows, tmp_path)


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize(
    ("column", "values", "code"),
    [
        ("label", [True], "data.one_class_desirable"),
        ("label", [False], "data.one_class_undesirable"),
        ("weight", [0], "data.weights_all_zero"),
        ("probability", [0.5], "data.probability_all_same"),
    ],
)
def test_a_column_that_tells_nothing_is_refused(
    run_step: Runner, tiny: Path, tmp_path: Path, column: str, values: list[Any], code: str
) -> None:
    rows = [{**row, column: values[0]} for row in colour_rows("kto", 8)]
    assert refused(run_step, tiny, rows, tmp_path) == [code]


@pytest.mark.usefixtures("no_weights")
def test_rows_without_a_label_column_are_refused(run_step: Runner, tiny: Path, tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "label"} for row in colour_rows("kto", 8)]
    assert refused(run_step, tiny, rows, tmp_path) == ["data.no_label_column"]


@pytest.mark.usefixtures("no_weights")
@pytest.mark.parametrize("stage", ["kto", "dpo"])
def test_a_reference_with_another_tokenizer_is_refused(
    run_step: Runner, tiny: Path, tmp_path: Path, colours: dict[str, Path], stage: str
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    held = json.loads((other / "tokenizer.json").read_text())
    vocab = held["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    (other / "tokenizer.json").write_text(json.dumps(held))
    with pytest.raises(SwiftshellError) as caught:
        run_step(
            stage,
            FAST,
            {
                "policy": model_ref("policy", tiny),
                "reference": model_ref("reference", other),
                "train_data": data_ref(colours[stage]),
            },
        )
    (problem,) = caught.value.problems
    assert (problem.code, problem.values["count"]) == ("thumbs.reference_tokenizer", 2)


def soft(run_step: Runner, sft: Ran, folder: Path) -> Ran:
    rows = [
        {**row, "probability": 0.9 if row["label"] else 0.2, "weight": 1.0 + i % 3}
        for i, row in enumerate(colour_rows("kto", 24))
    ]
    for row in rows:
        del row["label"]
    rows[0]["weight"] = 0
    refs = {"policy": sft.ref("adapter", "policy"), "reference": sft.ref("adapter", "reference")}
    held_out = data_ref(write_jsonl(folder / "held.jsonl", rows[8:16]), "eval_data")
    train = data_ref(write_jsonl(folder / "soft.jsonl", rows))
    params = {**FAST, "learning_rate": 1e-3, "eval_steps": 3}
    return run_step("kto", params, {**refs, "train_data": train, "eval_data": held_out})


def test_soft_rows_train_and_are_told(run_step: Runner, sft: Ran, tmp_path: Path) -> None:
    ran = soft(run_step, sft, tmp_path)
    told = ran.outcome.summary
    assert (told["soft_rows"], told["rows_without_effect"]) == (23, 1)
    assert (told["row_weight_min"], told["row_weight_max"]) == (1.0, 3.0)
    assert told["weighted_desirable"] + told["weighted_undesirable"] == pytest.approx(23, abs=0.01)
    assert told["class_ratio"] == pytest.approx(1.15, rel=1e-3)
    assert {"thumbs.balanced", "thumbs.soft", "thumbs.without_effect"} <= set(ran.ctx.codes())
    assert ran.ctx.series("kl/unclamped")
    assert ran.ctx.series("eval_loss")
