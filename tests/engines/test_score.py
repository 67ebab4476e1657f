"""The stage `score`: log-probabilities of answers that are there, and the policy's implicit reward."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.scoring import read_scores
from swiftshell.errors import SwiftshellError
from swiftshell.stages import registry
from swiftshell.stages.base import Facts
from tests.engines.conftest import (
    FAST,
    Ran,
    Runner,
    build_model,
    colour_rows,
    data_ref,
    make_runner,
    model_ref,
    write_jsonl,
)

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def kto(sft: Ran, colours: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    run = make_runner(tmp_path_factory.mktemp("kto"))
    inputs = {
        "policy": sft.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "train_data": data_ref(colours["kto"]),
    }
    return run("kto", {**FAST, "max_steps": 12, "learning_rate": 5e-3, "guard": {"enabled": False}}, inputs)


def rows_of(ran: Ran) -> list[dict[str, Any]]:
    return [
        json.loads(x)
        for x in (ran.artifacts["scored"] / "scored.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def test_likelihood_is_the_mean_log_probability_of_the_answer(
    run_step: Runner, tiny: Path, colours: dict[str, Path]
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ran = run_step(
        "score", {}, {"policy": model_ref("policy", tiny), "rows": data_ref(colours["kto"], "rows")}
    )
    found = rows_of(ran)
    source = [json.loads(x) for x in colours["kto"].read_text(encoding="utf-8").splitlines()]
    assert [{k: v for k, v in row.items() if k != "score_likelihood"} for row in found] == source
    tokenizer, model = AutoTokenizer.from_pretrained(tiny), AutoModelForCausalLM.from_pretrained(tiny)
    for row in found[:3]:
        text = tokenizer.apply_chat_template(row["prompt"], tokenize=False, add_generation_prompt=True)
        whole = tokenizer.apply_chat_template([*row["prompt"], *row["completion"]], tokenize=False)
        start = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        ids = torch.tensor([tokenizer(whole, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            logps = (
                model(input_ids=ids).logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[start - 1 :]
            )
        assert row["score_likelihood"] == pytest.approx(float(logps.mean()), abs=1e-4)
    assert ran.outcome.metrics["mean_likelihood"] == pytest.approx(
        sum(r["score_likelihood"] for r in found) / len(found), abs=1e-4
    )


def test_the_implicit_reward_tells_what_the_policy_learned(
    run_step: Runner, sft: Ran, kto: Ran, colours: dict[str, Path]
) -> None:
    inputs = {
        "policy": kto.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "rows": data_ref(colours["kto"], "rows"),
    }
    ran = run_step("score", {"scorers": ["implicit_reward", "likelihood"], "beta": 0.1}, inputs)
    found = rows_of(ran)
    means = {
        label: [r["score_implicit_reward"] for r in found if r["label"] is label] for label in (True, False)
    }
    assert sum(means[True]) / len(means[True]) > sum(means[False]) / len(means[False])
    twice = run_step("score", {"scorers": ["implicit_reward"], "beta": 0.2}, inputs, name="twice")
    assert rows_of(twice)[0]["score_implicit_reward"] == pytest.approx(
        2 * found[0]["score_implicit_reward"], abs=1e-5
    )
    scores = read_scores(ran.artifacts["scored"] / "scored.jsonl", ["implicit_reward"])
    assert scores["implicit_reward"][0] == found[0]["score_implicit_reward"]


def test_a_reward_without_a_reference_or_of_one_model_is_refused(
    run_step: Runner, sft: Ran, tiny: Path, colours: dict[str, Path]
) -> None:
    stage = registry.get("score")
    params = stage.params.model_validate({"scorers": ["implicit_reward"]})
    assert [p.code for p in stage.check(params, Facts({}, 0, Path()))] == ["score.needs_reference_model"]
    rows = data_ref(colours["kto"], "rows")
    with pytest.raises(SwiftshellError, match="reference"):
        run_step(
            "score", {"scorers": ["implicit_reward"]}, {"policy": model_ref("policy", tiny), "rows": rows}
        )
    with pytest.raises(SwiftshellError, match="same model"):
        run_step(
            "score",
            {"scorers": ["implicit_reward"]},
            {"policy": model_ref("policy", tiny), "reference": model_ref("reference", tiny), "rows": rows},
        )


def test_answers_that_do_not_fit_get_no_score_and_are_counted(
    run_step: Runner, tiny: Path, tmp_path: Path
) -> None:
    rows = [{"prompt": "What?", "completion": "red " * 400}, {"prompt": "What?", "completion": "red"}]
    ran = run_step(
        "score",
        {},
        {
            "policy": model_ref("policy", tiny),
            "rows": data_ref(write_jsonl(tmp_path / "r.jsonl", rows), "rows"),
        },
    )
    assert [r["score_likelihood"] is None for r in rows_of(ran)] == [True, False]
    assert ("score.too_long", 1) in [(code, values["count"]) for code, values in ran.ctx.notes]
    assert ran.outcome.summary["unscored"] == 1


def test_a_stopped_step_goes_on_where_it_was(run_step: Runner, tiny: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(100)]
    inputs = {
        "policy": model_ref("policy", tiny),
        "rows": data_ref(write_jsonl(tmp_path / "r.jsonl", rows), "rows"),
    }
    whole = rows_of(run_step("score", {}, inputs, name="first"))
    log = tmp_path / "first" / "checkpoints" / "policy.jsonl"
    lines = log.read_bytes().splitlines(keepends=True)
    again = tmp_path / "again" / "checkpoints" / "policy.jsonl"
    again.parent.mkdir(parents=True)
    again.write_bytes(b"".join(lines[:40]) + lines[40][:9])
    resumed = run_step("score", {}, inputs, name="again")
    values = [r["score_likelihood"] for r in rows_of(resumed)]
    assert values == pytest.approx([r["score_likelihood"] for r in whole], abs=1e-5)
    assert len(resumed.ctx.progressed) == 1  # one batch of the two was left
    assert len(again.read_bytes().splitlines()) == len(lines)


def test_the_front_runs_the_stage_and_adds_its_column_to_the_others(tmp_path: Path) -> None:
    from tests.cli.support import as_json, swiftshell

    model = build_model(tmp_path / "model")
    write_jsonl(tmp_path / "rows.jsonl", colour_rows("kto", 12))
    done = swiftshell(
        "data",
        "score",
        "rows.jsonl",
        "-s",
        "repetition",
        "-s",
        "likelihood",
        "--model",
        str(model),
        "-o",
        "out.jsonl",
        "--json",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    found = as_json(done)["data"]
    assert list(found["scores"]) == ["repetition", "likelihood"]
    rows = [json.loads(x) for x in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert all(math.isfinite(r["score_likelihood"]) and r["score_likelihood"] < 0 for r in rows)
    refused = swiftshell(
        "data", "score", "rows.jsonl", "-s", "implicit_reward", "-o", "no.jsonl", cwd=tmp_path
    )
    assert (refused.returncode, "swiftshell run kto" in refused.stderr) == (2, True)
