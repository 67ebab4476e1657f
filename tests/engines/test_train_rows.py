"""Rows are checked before weights load: every one that would be cut or teaches nothing is told with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from swiftshell.errors import SwiftshellError
from tests.engines.conftest import FAST, FakeContext, Runner, colour_rows, data_ref, model_ref, write_jsonl

pytestmark = pytest.mark.engine
TWO = {**FAST, "max_steps": 2}


@pytest.fixture(autouse=True)
def no_weights_before_the_check(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Fail a refusal test that loads weights first."""
    if "refused" in request.node.name:
        from swiftshell.engines import loading

        def loaded(*_: Any) -> None:
            raise AssertionError("weights were loaded before the rows were checked")

        monkeypatch.setattr(loading, "load_base", loaded)


def long_row(words: int) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": "What colour? " + "apple " * words}],
        "completion": [{"role": "assistant", "content": "The apple is red."}],
        "label": True,
    }


def codes(error: SwiftshellError) -> list[str]:
    return [p.code for p in error.problems]


def test_rows_over_max_length_are_refused_all_at_once(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    rows = colour_rows("kto", 8)
    rows[2:2] = [long_row(100)]
    rows += [long_row(120)]
    path = write_jsonl(tmp_path / "thumbs.jsonl", rows)
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "kto",
            TWO,
            {
                "policy": model_ref("policy", tiny),
                "reference": model_ref("reference", tiny),
                "train_data": data_ref(path),
            },
        )
    assert codes(refused.value) == ["train.row_too_long", "train.row_too_long", "train.rows_too_long"]
    assert [p.row for p in refused.value.problems[:2]] == [3, 10]
    assert [p.line for p in refused.value.problems[:2]] == [3, 10]
    total = refused.value.problems[-1].values
    assert (total["count"], total["total"], total["limit"]) == (2, 10, 96)
    assert refused.value.exit_code == 2
    text = str(refused.value)
    assert f"{path}:3" in text
    assert "max_length is 96" in text


def test_rows_over_the_models_context_are_refused(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    path = write_jsonl(tmp_path / "thumbs.jsonl", [*colour_rows("kto", 4), long_row(400)])
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "kto",
            {**TWO, "max_length": 1024},
            {
                "policy": model_ref("policy", tiny),
                "reference": model_ref("reference", tiny),
                "train_data": data_ref(path),
            },
        )
    assert codes(refused.value) == ["train.row_beyond_context", "train.rows_beyond_context"]
    assert refused.value.problems[-1].values["limit"] == 256


def test_a_drop_budget_leaves_rows_out_and_says_so(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    rows = colour_rows("dpo", 8)
    rows[5]["chosen"][0]["content"] = "apple " * 150
    path = write_jsonl(tmp_path / "pairs.jsonl", rows)
    done = run_step(
        "dpo",
        {**TWO, "drop_budget": 1},
        {
            "policy": model_ref("policy", tiny),
            "reference": model_ref("reference", tiny),
            "train_data": data_ref(path),
        },
    )
    assert (
        done.outcome.summary["rows"],
        done.outcome.summary["rows_trained"],
        done.outcome.summary["rows_dropped"],
    ) == (8, 7, 1)
    (values,) = [v for code, v in done.ctx.notes if code == "train.rows_dropped"]
    assert values["rows"] == "6"


def test_thumbs_that_all_say_the_same_are_refused(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    path = write_jsonl(tmp_path / "thumbs.jsonl", [r for r in colour_rows("kto") if r["label"]])
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "kto",
            TWO,
            {
                "policy": model_ref("policy", tiny),
                "reference": model_ref("reference", tiny),
                "train_data": data_ref(path),
            },
        )
    assert "one_class" in codes(refused.value)[0]


def test_the_real_thumbs_are_too_long_for_a_small_base_refused(shared_data: Path, run_step: Runner) -> None:
    """The base reads 512 tokens and has no chat template; both facts are told, the rows counted."""
    base = shared_data / "real/models/stories260k"
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "kto",
            TWO | {"max_length": 1024},
            {
                "policy": model_ref("policy", base),
                "reference": model_ref("reference", base),
                "train_data": data_ref(shared_data / "real/data/kto_en_demo.json"),
            },
        )
    assert codes(refused.value)[0] == "train.chat_needs_template"
    assert refused.value.problems[0].values == {"count": 77, "total": 300}
    total = refused.value.problems[-1]
    assert total.code == "train.rows_beyond_context"
    assert total.values["limit"] == 512
    assert len(total.values["rows"]) == total.values["count"] > 100


@pytest.mark.parametrize("stage", ["sft", "kto", "dpo"])
def test_a_base_without_template_trains_on_plain_text(
    stage: str, tiny_plain: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    """Prompt and completion follow each other as they stand, ended by the end-of-text token."""
    inputs = {"policy": model_ref("policy", tiny_plain), "train_data": data_ref(colours[stage])}
    if stage != "sft":
        inputs["reference"] = model_ref("reference", tiny_plain)
    done = run_step(stage, TWO, inputs)
    assert done.outcome.artifacts["adapter"]["chat_template_sha256"] is None
    (values,) = [v for code, v in done.ctx.notes if code == "train.plain_text"]
    assert values["rows"] == 32
    probe = done.outcome.artifacts["adapter"]["probe"]
    assert all(row["completion_ids"].split()[-1] == "1" for row in probe["rows"])


def test_answers_are_learned_and_questions_are_not(
    tiny: Path, colours: dict[str, Path], run_step: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl import SFTTrainer

    seen: dict[str, Any] = {}
    inner = SFTTrainer.train

    def train(self: Any, **kwargs: Any) -> Any:
        seen["row"], seen["tokenizer"] = self.train_dataset[1], self.processing_class
        return inner(self, **kwargs)

    monkeypatch.setattr(SFTTrainer, "train", train)
    done = run_step("sft", TWO, {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])})
    learned = [i for i in seen["row"]["labels"] if i != -100]
    assert seen["tokenizer"].decode(learned) == "The river is green.<|end|>"
    assert done.outcome.summary["assistant_only_loss"] is True


def test_without_markers_the_last_answer_is_learned(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    from tests.engines.conftest import TEMPLATE, build_model

    bare = build_model(
        tmp_path / "bare",
        template=TEMPLATE.replace("{% generation %}", "").replace("{% endgeneration %}", ""),
    )
    rows = colour_rows("sft", 8)
    rows[0]["messages"] += rows[1]["messages"]
    done = run_step(
        "sft",
        TWO,
        {
            "policy": model_ref("policy", bare),
            "train_data": data_ref(write_jsonl(tmp_path / "chat.jsonl", rows)),
        },
    )
    assert ("train.last_turn_only", {"rows": 1}) in done.ctx.notes
    assert done.outcome.summary["assistant_only_loss"] is False


def test_engine_arguments_that_break_promises_are_refused(
    tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    bad = {
        "output_dir": "/elsewhere",
        "trust_remote_code": True,
        "train_sampling_strategy": "random",
        "push_to_hub": True,
        "ref_adapter_name": "x",
        "remove_unused_columns": False,
        "beta": 0.3,
    }
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "kto",
            {**TWO, "engine_args": bad},
            {
                "policy": model_ref("policy", tiny),
                "reference": model_ref("reference", tiny),
                "train_data": data_ref(colours["kto"]),
            },
        )
    assert {p.values["name"] for p in refused.value.problems} == set(bad)


def test_an_unknown_engine_argument_names_the_nearest(
    tiny: Path, colours: dict[str, Path], run_step: Runner
) -> None:
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "sft",
            {**TWO, "engine_args": {"neftune_noise_alfa": 5}},
            {"policy": model_ref("policy", tiny), "train_data": data_ref(colours["sft"])},
        )
    assert refused.value.problems[0].values["nearest"] == "neftune_noise_alpha"


def test_a_stop_during_tokenizing_is_obeyed(tiny: Path, colours: dict[str, Path], tmp_path: Path) -> None:
    from swiftshell.engines import loading, rows
    from swiftshell.stages.base import Stopped

    class Stopping(FakeContext):
        def stop_requested(self) -> bool:
            return bool(self.progressed)

    how = rows.Reading("kto", loading.load_tokenizer(tiny), 96, None, 0)
    with pytest.raises(Stopped):
        rows.prepare(data_ref(colours["kto"]), how, Stopping(tmp_path / "ctx"))
