"""Evaluation: the numbers are those of an independent computation, stops lose nothing, what cannot be measured is said."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from swiftshell.engines import evaluate, generate
from swiftshell.errors import SwiftshellError
from swiftshell.stages.base import Stopped
from tests.engines.conftest import (
    FakeContext,
    Ran,
    Runner,
    colour_rows,
    data_ref,
    make_request,
    model_ref,
    write_jsonl,
)

pytestmark = pytest.mark.engine

ROWS = 24


def heldout(rows: int = ROWS) -> list[dict[str, Any]]:
    return [{"prompt": r["prompt"], "reference": r["chosen"][0]["content"], "chosen": r["chosen"], "rejected": r["rejected"],
             "rules": {"contains": ["The"], "excludes": ["idea"]}} for r in colour_rows("dpo", rows)]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("heldout") / "heldout.jsonl", heldout())


def inputs(data: Path, *models: Any) -> dict[str, Any]:
    return {"models": tuple(models), "eval_data": data_ref(data, "eval_data")}


@pytest.fixture(scope="module")
def report(tiny: Path, sft: Ran, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return an evaluation of the tiny model and its SFT adapter, whose reference is said to be the tiny model."""
    from tests.engines.conftest import make_runner

    adapter = sft.ref("adapter", "models")
    known = {"kind": "model", "path": str(tiny), "stack": [{"kind": "model", "path": str(tiny)}]}
    adapter = replace(adapter, artifact={**(adapter.artifact or {}), "reference": known})
    run = make_runner(tmp_path_factory.mktemp("evaluate"))
    return run("evaluate", {"max_new_tokens": 12}, inputs(rows, model_ref("models", tiny), adapter))


def log_prob(model: Any, tokenizer: Any, prompt: Any, answer: str) -> tuple[float, int]:
    """Return summed log-probability and tokens of an answer, one sequence at a time through the loss."""
    start = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=False)
    whole = tokenizer.apply_chat_template([*prompt, {"role": "assistant", "content": answer}], tokenize=True, return_dict=False)
    ids = torch.tensor([whole])
    labels = ids.clone()
    labels[0, :len(start)] = -100
    tokens = len(whole) - len(start)
    with torch.no_grad():
        return -float(model(input_ids=ids, labels=labels).loss) * tokens, tokens


def test_every_number_equals_an_independent_computation(report: Ran, tiny: Path, sft: Ran, rows: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny)
    base = AutoModelForCausalLM.from_pretrained(tiny).eval()
    models = [base, PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), sft.artifacts["adapter"]).eval()]
    data = [json.loads(line) for line in rows.read_text().splitlines()]
    scored = []
    for model, entry in zip(models, report.outcome.summary["models"], strict=True):
        good = [log_prob(model, tokenizer, r["prompt"], r["chosen"][0]["content"]) for r in data]
        bad = [log_prob(model, tokenizer, r["prompt"], r["rejected"][0]["content"]) for r in data]
        scored.append((good, bad))
        found = {k: v[0] for k, v in entry["metrics"].items()}
        nll = -sum(g[0] for g in good) / sum(g[1] for g in good)
        assert found["perplexity"] == pytest.approx(float(torch.tensor(nll).exp()), rel=1e-3)
        wins = [g[0] / g[1] > b[0] / b[1] for g, b in zip(good, bad, strict=True)]
        assert found["preference_accuracy"] == pytest.approx(sum(wins) / len(wins))
    (base_good, base_bad), (good, bad) = scored
    margins = [(g[0] - bg[0]) - (b[0] - bb[0]) for g, b, bg, bb in zip(good, bad, base_good, base_bad, strict=True)]
    found = report.outcome.summary["models"][1]["metrics"]
    assert found["reward_accuracy"][0] == pytest.approx(sum(x > 0 for x in margins) / len(margins))
    assert "reward_accuracy" not in report.outcome.summary["models"][0]["metrics"]


def test_answers_equal_one_by_one_greedy_generation(report: Ran, tiny: Path, rows: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(tiny), AutoModelForCausalLM.from_pretrained(tiny).eval()
    answers = [json.loads(x) for x in (report.artifacts["report"] / "answers-01.jsonl").read_text().splitlines()]
    for line in answers[:6]:
        start = tokenizer.apply_chat_template(line["prompt"], add_generation_prompt=True, return_tensors="pt", return_dict=True)
        with torch.no_grad():
            out = model.generate(**start, max_new_tokens=12, do_sample=False, eos_token_id=tokenizer.eos_token_id)
        assert line["answer"] == tokenizer.decode(out[0, start["input_ids"].shape[1]:], skip_special_tokens=True)


def test_the_report_holds_rows_answers_and_what_changed(report: Ran) -> None:
    folder = report.artifacts["report"]
    written = json.loads((folder / "report.json").read_text())
    assert [e["kind"] for e in written["models"]] == ["model", "adapter"]
    assert written["models"][1]["compared_with"] == written["models"][0]["name"]
    for entry in written["models"]:
        for value, low, high, n in entry["metrics"].values():
            assert low <= value <= high
            assert n == ROWS
    before, after = (e["metrics"]["perplexity"][0] for e in written["models"])
    change = written["models"][1]["change"]["perplexity"]
    assert change[0] == pytest.approx(after - before)
    assert change[1] <= change[0] <= change[2] < 0  # training made the references likelier
    lines = [json.loads(x) for x in (folder / "answers-02.jsonl").read_text().splitlines()]
    assert [x["row"] for x in lines] == list(range(1, ROWS + 1))
    for line in lines:
        assert line["desirable"] is ("The" in line["answer"] and "idea" not in line["answer"])
        assert line["desirable"] is (line["failed_rules"] == [])
    share = sum(x["desirable"] for x in lines) / ROWS
    assert written["models"][1]["metrics"]["desirable_share"][0] == pytest.approx(share)
    assert len((folder / "rows.jsonl").read_text().splitlines()) == ROWS


def test_progress_counts_prompts_over_all_models(report: Ran) -> None:
    done = [d for d, total, unit in report.ctx.progressed if (total, unit) == (2 * ROWS, "prompts")]
    assert done == sorted(done)
    assert done[-1] == 2 * ROWS


@dataclass
class StopAfter(FakeContext):
    """Ask for a stop once this many prompts are done."""

    prompts: float = 1e9

    def stop_requested(self) -> bool:
        return any(unit == "prompts" and done >= self.prompts for done, _, unit in self.progressed)


def test_a_stop_loses_no_answer_and_changes_no_number(tiny: Path, sft: Ran, rows: Path, tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    params = {"max_new_tokens": 12, "batch_size": 4}
    given = inputs(rows, model_ref("models", tiny), sft.ref("adapter", "models"))
    whole = evaluate.run(make_request("evaluate", params, given), FakeContext(tmp_path / "whole"))
    asked: list[int] = []
    answer = generate.answer
    monkeypatch.setattr(generate, "answer", lambda m, t, batch, how: asked.append(len(batch)) or answer(m, t, batch, how))
    with pytest.raises(Stopped):
        evaluate.run(make_request("evaluate", params, given), StopAfter(tmp_path / "stopped", prompts=8))
    before = sum(asked)
    assert 0 < before < 2 * ROWS
    log = next((tmp_path / "stopped" / "checkpoints").glob("01-*.jsonl"))
    with log.open("ab") as file:
        file.write(b'{"row": 23, "answer": "torn')  # a kill -9 in the middle of a write
    resumed = evaluate.run(make_request("evaluate", params, given), FakeContext(tmp_path / "stopped"))
    assert sum(asked) == 2 * ROWS
    assert resumed.summary == whole.summary
    report = "out/report/answers-01.jsonl"
    assert (tmp_path / "stopped" / report).read_bytes() == (tmp_path / "whole" / report).read_bytes()


def test_other_rows_do_not_take_old_answers(tiny: Path, tmp_path: Path) -> None:
    one = write_jsonl(tmp_path / "one.jsonl", heldout(4))
    two = write_jsonl(tmp_path / "two.jsonl", [{**r, "reference": "green"} for r in heldout(4)])
    ctx = FakeContext(tmp_path / "step")
    first = evaluate.run(make_request("evaluate", {"max_new_tokens": 4}, inputs(one, model_ref("models", tiny))), ctx)
    second = evaluate.run(make_request("evaluate", {"max_new_tokens": 4}, inputs(two, model_ref("models", tiny))), ctx)
    assert first.metrics["tiny/perplexity"] != second.metrics["tiny/perplexity"]


def test_metrics_without_their_columns_are_left_out_and_said(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    data = write_jsonl(tmp_path / "plain.jsonl", [{"prompt": r["prompt"], "reference": r["reference"]} for r in heldout(4)])
    ran = run_step("evaluate", {"max_new_tokens": 4}, inputs(data, model_ref("models", tiny)))
    assert set(ran.outcome.summary["models"][0]["metrics"]) == {"exact_match", "perplexity", "answer_tokens"}
    assert ran.outcome.summary["left_out"] == ["desirable_share", "preference_accuracy", "preference_auc"]
    assert [v["metric"] for c, v in ran.ctx.notes if c == "evaluate.left_out"] == ran.outcome.summary["left_out"]


def test_labelled_completions_give_an_area_but_no_pairs(tiny: Path, colours: dict[str, Path], run_step: Runner) -> None:
    ran = run_step("evaluate", {"max_new_tokens": 4}, inputs(colours["kto"], model_ref("models", tiny)))
    found = ran.outcome.summary["models"][0]["metrics"]
    assert 0 <= found["preference_auc"][0] <= 1
    assert "preference_accuracy" not in found


def test_nothing_to_measure_is_refused(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    data = write_jsonl(tmp_path / "bare.jsonl", [{"prompt": r["prompt"], "reference": r["reference"]} for r in heldout(4)])
    with pytest.raises(SwiftshellError) as caught:
        run_step("evaluate", {"metrics": ["desirable_share"]}, inputs(data, model_ref("models", tiny)))
    assert caught.value.problems[0].code == "evaluate.nothing_to_measure"


def test_rows_that_are_too_long_are_all_named_before_weights_load(tiny: Path, tmp_path: Path, run_step: Runner,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    given = heldout(4)
    for number in (1, 3):
        given[number]["prompt"] = [{"role": "user", "content": "What colour is the boat? " * 100}]
    data = write_jsonl(tmp_path / "long.jsonl", given)
    monkeypatch.setattr(evaluate, "assemble", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(SwiftshellError) as caught:
        run_step("evaluate", {}, inputs(data, model_ref("models", tiny)))
    assert [(p.code, p.row, p.line) for p in caught.value.problems] == [("evaluate.row_too_long", n, n) for n in (2, 4)]
    assert caught.value.problems[0].values["limit"] == 256
    assert caught.value.exit_code == 2


def test_a_model_without_chat_template_is_measured_on_plain_text(tiny_plain: Path, rows: Path, run_step: Runner) -> None:
    ran = run_step("evaluate", {"max_new_tokens": 4, "limit": 5}, inputs(rows, model_ref("models", tiny_plain)))
    found = ran.outcome.summary["models"][0]["metrics"]
    assert found["perplexity"][0] > 1
    assert found["perplexity"][3] == 5


def test_wrong_rules_are_refused_with_their_row(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    given = heldout(3)
    given[1]["rules"] = {"containz": ["The"]}
    with pytest.raises(SwiftshellError) as caught:
        run_step("evaluate", {}, inputs(write_jsonl(tmp_path / "rules.jsonl", given), model_ref("models", tiny)))
    assert caught.value.problems[0].row == 2
    assert "contains" in str(caught.value)  # the nearest rule


def test_a_real_model_prefers_a_storys_own_ending(shared_data: Path, tmp_path: Path, run_step: Runner) -> None:
    """A pretrained model without chat template, on the kind of text it knows: the numbers must mean something."""
    text = (shared_data / "real" / "data" / "tinystories_2M_cased.txt").read_text(encoding="utf-8")
    stories = [" ".join(s.split()) for s in text.split("<|endoftext|>")]
    short = [s for s in stories if 300 < len(s) < 700][:160]
    halves = [(s[: s.index(". ", len(s) // 2) + 1], s[s.index(". ", len(s) // 2) + 1:]) for s in short
              if ". " in s[len(s) // 2:]]
    data = [{"prompt": start, "reference": end, "chosen": end, "rejected": halves[(i + 1) % len(halves)][1]}
            for i, (start, end) in enumerate(halves)]
    ran = run_step("evaluate", {"max_new_tokens": 4},
                   inputs(write_jsonl(tmp_path / "stories.jsonl", data),
                          model_ref("models", shared_data / "real" / "models" / "stories260k")))
    found = ran.outcome.summary["models"][0]["metrics"]
    assert found["preference_accuracy"][1] > 0.6, found  # even the low end of the interval
    assert found["perplexity"][0] < 12
