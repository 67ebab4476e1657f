"""The final table: every step with what it did to the model, at 80 and 40 columns, in zh and en, and in ASCII."""

from __future__ import annotations

import pytest
from rich.cells import cell_len

from swiftshell.render.table import print_final_table
from tests.render.conftest import Json, Show, measured, step


def line_with(text: str, word: str) -> str:
    return next(line for line in text.splitlines() if f" {word} " in f"{line} ")


def test_every_step_with_state_time_and_numbers(show: Show, finished: Json) -> None:
    text = show(print_final_table, finished)
    assert "2026-11-25-all-k3f9: done" in text
    assert line_with(text, "base").split()[:2] == ["↺", "base"]
    assert "reused" in line_with(text, "base")
    assert "5 % [1–9]" in line_with(text, "base")
    assert "0.1 s" not in text  # the time of a reused result is not this run's
    for name, time, share in (("sft", "1:01", "40 % [36–44] ▲"), ("kto", "1:02:05", "80 % [76–84] ▲"),
                              ("merged", "12 s", "80 % [76–84] ≈"), ("quantized", "12 s", "70 % [66–74] ▼")):  # fmt: skip
        line = line_with(text, name)
        assert (time in line, share in line, "3.142" in line, "90 %" in line) == (True, True, True, True), (
            line
        )
    assert "400 held-out rows" in text
    assert "reused from an earlier run: base" in text
    assert "/w/steps/03-kto/out/adapter" in text
    assert "/w/steps/02-sft/out/adapter" not in text  # the last adapter only


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [40, 64, 80, 120])
def test_fits_the_terminal(show: Show, finished: Json, width: int, lang: str) -> None:
    text = show(print_final_table, finished, width=width, lang=lang)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    for name in ("base", "sft", "kto", "merged", "quantized", "score"):
        assert name in text
    for share in ("5 % [1–9]", "40 % [36–44]", "80 % [76–84]", "70 % [66–74]"):
        assert share in " ".join(text.split())
    if lang == "zh":
        assert "完成" in text
        assert "合意率" in text


def test_columns_are_aligned_in_chinese(show: Show, finished: Json) -> None:
    text = show(print_final_table, finished, lang="zh")
    table = [line for line in text.splitlines() if "[" in line and "–" in line]
    assert len(table) == 5
    assert len({cell_len(line) for line in table}) == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_ascii_where_the_encoding_has_no_more(show: Show, finished: Json, encoding: str) -> None:
    text = show(print_final_table, finished, encoding=encoding)
    assert text.isascii()
    assert not set("?|+") & set(text.partition("400 held-out")[0].replace("] +", ""))
    assert "-----" in text
    assert "40 % [36-44] +" in text
    assert "80 % [76-84] ~" in text
    assert "70 % [66-74] -" in text


def test_models_of_other_runs_stand_under_the_steps(show: Show) -> None:
    models = [measured("sft.adapter", 0.4), measured("run-1/kto/adapter", 0.6, [0.2, 0.1, 0.3])]
    facts = {"run": "r", "status": "over", "result": "succeeded", "steps": [
        step("evaluate", "evaluate", summary={"rows": 400, "data": "h", "models": models})]}  # fmt: skip
    text = show(print_final_table, facts)
    order = [next(n for n, line in enumerate(text.splitlines()) if f" {name} " in f"{line} ")
             for name in ("evaluate", "sft.adapter", "run-1/kto/adapter")]  # fmt: skip
    assert order == sorted(order)
    assert "60 % [56–64] ▲" in text


def test_runs_that_measure_nothing_show_their_own_numbers(show: Show) -> None:
    facts = {"run": "r", "status": "over", "result": "succeeded", "steps": [
        step("sft", "sft", metrics={"train_loss": 1.23456, "steps": 150, "other/x": 2})]}  # fmt: skip
    for width in (80, 40):
        text = show(print_final_table, facts, width=width)
        assert "train_loss 1.235" in text
        assert "held-out" not in text


@pytest.mark.parametrize(
    ("result", "word"),
    [("failed", "failed"), ("cancelled", "stopped"), ("lost", "lost"), ("timed_out", "timed out")],
)
def test_a_run_that_did_not_succeed_says_how_to_go_on(show: Show, result: str, word: str) -> None:
    steps = [
        step("sft", "sft"),
        step("kto", "kto", result=result),
        step("merged", "merge", status="waiting", result=None),
    ]
    text = show(print_final_table, {"run": "r1", "status": "over", "result": result, "steps": steps})
    assert f"r1: {word}" in text
    assert word in line_with(text, "kto")
    assert "waiting" in line_with(text, "merged")
    assert "swiftshell resume r1" in text


def test_metrics_that_were_left_out_are_named(show: Show) -> None:
    model = {"name": "sft.adapter", "metrics": {"perplexity": [2.0, 1.9, 2.1, 9]}}
    summary = {"rows": 9, "data": "h", "models": [model], "left_out": ["desirable_share", "preference_auc"]}
    facts = {
        "run": "r",
        "status": "over",
        "result": "succeeded",
        "steps": [step("score", "evaluate", summary=summary)],
    }
    text = show(print_final_table, facts, width=120)
    assert "not measured" in text
    assert "preference AUC" in text


def test_values_that_could_not_be_computed_are_blank(show: Show) -> None:
    model = {"name": "sft.adapter", "metrics": {"desirable_share": [0.5, None, None, 9], "perplexity": [None, None, None, 9]},
             "change": {"desirable_share": [None, None, None]}}  # fmt: skip
    steps = [step("sft", "sft"), step("score", "evaluate", summary={"rows": 9, "models": [model]})]
    text = show(print_final_table, {"run": "r", "status": "over", "result": "succeeded", "steps": steps})
    assert "50 %" in line_with(text, "sft")
    assert "None" not in text
