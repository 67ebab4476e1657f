"""Batch inference: one line a row in their order, nothing lost by a kill -9, rows that cannot be read are said."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from swiftshell.engines.rowlog import RowLog
from tests.engines.conftest import COLOURS, THINGS, Ran, Runner, data_ref, model_ref, write_jsonl

pytestmark = pytest.mark.engine


def prompts(count: int) -> list[dict[str, Any]]:
    return [{"id": f"q-{i}", "prompt": [{"role": "user", "content": f"What colour is the {THINGS[i % 8]}? " * (1 + i % 3)}],
             "wanted": COLOURS[i % 5]} for i in range(count)]


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("prompts") / "prompts.jsonl", prompts(30))


def answers_of(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(x) for x in (ran.artifacts["answers"] / "answers.jsonl").read_text().splitlines()]


def inputs(model: Path, data: Path) -> dict[str, Any]:
    return {"model": model_ref("model", model), "prompts": data_ref(data, "prompts")}


def test_one_line_a_row_in_their_order_with_what_it_came_with(tiny: Path, questions: Path, run_step: Runner) -> None:
    ran = run_step("infer", {"max_new_tokens": 8, "batch_size": 7}, inputs(tiny, questions))
    lines = answers_of(ran)
    assert [x["id"] for x in lines] == [f"q-{i}" for i in range(30)]
    assert [x["row"] for x in lines] == list(range(1, 31))
    assert lines[3]["wanted"] == COLOURS[3]
    assert {x["finish_reason"] for x in lines} <= {"stop", "length"}
    assert all(x["tokens"] <= 8 and isinstance(x["answer"], str) for x in lines)
    assert ran.ctx.progressed[-1] == (30, 30, "rows")
    assert ran.outcome.metrics["answer_tokens"] == sum(x["tokens"] for x in lines)


def test_batches_do_not_change_greedy_answers(tiny: Path, questions: Path, run_step: Runner) -> None:
    one = run_step("infer", {"max_new_tokens": 8, "batch_size": 1}, inputs(tiny, questions), name="one")
    many = run_step("infer", {"max_new_tokens": 8, "batch_size": 30}, inputs(tiny, questions), name="many")
    assert [x["answer"] for x in answers_of(one)] == [x["answer"] for x in answers_of(many)]


def test_sampling_follows_the_seed(tiny: Path, questions: Path, run_step: Runner) -> None:
    params = {"max_new_tokens": 8, "temperature": 1.5}
    texts = [[x["answer"] for x in answers_of(run_step("infer", params, inputs(tiny, questions), name=n, seed=s))]
             for n, s in (("a", 1), ("b", 1), ("c", 2))]
    assert texts[0] == texts[1] != texts[2]


def test_prompts_that_do_not_fit_have_a_line_without_answer(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    given = prompts(5)
    given[2]["prompt"] = [{"role": "user", "content": "boat " * 2000}]
    given[4]["prompt"] = [{"role": "user", "content": "What colour is the boat? " * 24}]  # leaves little of 256 tokens
    ran = run_step("infer", {"max_new_tokens": 200, "temperature": 3.0},
                   inputs(tiny, write_jsonl(tmp_path / "long.jsonl", given)))
    lines = answers_of(ran)
    assert (lines[2]["answer"], lines[2]["finish_reason"]) == (None, "prompt_too_long")
    assert lines[4]["finish_reason"] in ("context", "stop")
    assert [v["first"] for c, v in ran.ctx.notes if c == "infer.prompts_too_long"] == [3]


def test_an_adapter_answers_as_itself_not_as_its_base(sft: Ran, tiny: Path, questions: Path, run_step: Runner) -> None:
    base = run_step("infer", {"max_new_tokens": 10}, inputs(tiny, questions), name="base")
    adapter = run_step("infer", {"max_new_tokens": 10}, {**inputs(tiny, questions), "model": sft.ref("adapter", "model")})
    assert [x["answer"] for x in answers_of(base)] != [x["answer"] for x in answers_of(adapter)]


PARAMS = {"max_new_tokens": 64, "batch_size": 1, "temperature": 3.0}  # slow enough to be killed in the middle


def make_step(folder: Path, model: Path, data: Path) -> Path:
    (folder / "attempts" / "001").mkdir(parents=True)
    (folder / "request.json").write_text(json.dumps({
        "v": 1, "run": "r", "step": "infer", "stage": "infer", "seed": 3,
        "params": PARAMS,
        "inputs": {"model": {"kind": "model", "path": str(model), "name": "tiny"},
                   "prompts": {"kind": "dataset", "path": str(data), "name": "prompts", "options": {}}}}))
    return folder


def start(step: Path, attempt: int) -> subprocess.Popen[bytes]:
    (step / "attempts" / f"{attempt:03d}").mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-m", "swiftshell.worker", str(step), str(attempt)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def test_a_kill_9_loses_no_finished_row_and_changes_no_answer(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    data = write_jsonl(tmp_path / "many.jsonl", prompts(80))
    step = make_step(tmp_path / "01-infer", tiny, data)
    log = step / "checkpoints" / "answers.jsonl"
    worker = start(step, 1)
    end = time.monotonic() + 120
    while not (log.is_file() and log.read_bytes().count(b"\n") > 5) and time.monotonic() < end:
        time.sleep(0.005)
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    kept = [line for line in log.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    assert 5 < len(kept) < 81
    whole = run_step("infer", PARAMS, inputs(tiny, data), seed=3)
    assert start(step, 2).wait() == 0
    assert log.read_bytes().startswith(b"".join(kept))
    resumed = step / "out.partial-002" / "answers" / "answers.jsonl"
    assert resumed.read_bytes() == (whole.artifacts["answers"] / "answers.jsonl").read_bytes()
    assert resumed.read_bytes().count(b"\n") == 80


def test_a_row_log_drops_a_torn_line_and_what_belongs_to_something_else(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    log = RowLog(path, "key")
    log.append([{"row": 0}, {"row": 1}])
    log.close()
    with path.open("ab") as file:
        file.write(b'{"row": 2')
    again = RowLog(path, "key")
    assert again.rows == [{"row": 0}, {"row": 1}]
    again.append([{"row": 2}])
    again.close()
    assert [json.loads(x) for x in path.read_text().splitlines()][1:] == [{"row": 0}, {"row": 1}, {"row": 2}]
    assert RowLog(path, "other").rows == []
    assert path.read_text() == '{"key": "other"}\n'
