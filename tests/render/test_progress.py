"""Progress: a pure function of events, and lines that fit."""

from __future__ import annotations

from typing import Any

import pytest
from rich.cells import cell_len

from swiftshell.render.live import line_of, plain_line_of
from swiftshell.render.progress import RunView, StepView, bar, message_of


def training(**values: Any) -> StepView:
    """A step 30 % through its training at four steps a second."""
    step = StepView("kto", "kto", **values)
    step.take({"kind": "status", "status": "running", "result": None})
    step.take({"kind": "phase", "name": "training", "t": 100.0})
    for n in range(31):
        step.take({"kind": "progress", "done": n, "total": 100, "unit": "steps", "t": 100 + n / 4})
    step.take({"kind": "metric", "name": "loss", "value": 0.43219, "step": 30, "t": 108})
    step.take({"kind": "metric", "name": "rewards/margins", "value": -0.05, "step": 30, "t": 108})
    return step


def test_rate_time_left_and_numbers() -> None:
    step = training()
    assert step.fraction == pytest.approx(0.3)
    assert step.rate == pytest.approx(4.0)
    assert step.left_s == pytest.approx(17.5)
    assert (
        plain_line_of(step)
        == "[kto] training, 30 %, 30/100 steps, 4.0/s, 18 s left, loss 0.4322  margins -0.05"
    )


def test_rate_follows_the_last_half_minute() -> None:
    step = StepView("sft", status="running")
    for second in range(100):
        step.take({"kind": "progress", "done": second, "total": 1000, "unit": "rows", "t": float(second)})
    for second in range(100, 140):
        step.take(
            {
                "kind": "progress",
                "done": 100 + (second - 100) * 10,
                "total": 1000,
                "unit": "rows",
                "t": float(second),
            }
        )
    assert step.rate == pytest.approx(10.0)


def test_a_new_phase_or_attempt_starts_from_nothing() -> None:
    step = training()
    step.take({"kind": "phase", "name": "saving"})
    assert (step.fraction, step.rate, step.amount(), step.phase) == (None, None, "", "saving")
    step = training()
    step.take({"kind": "attempt", "number": 2})
    assert (step.fraction, step.numbers()) == (None, "")


def test_a_single_point_has_no_rate() -> None:
    step = StepView("sft", status="running")
    step.take({"kind": "progress", "done": 50, "total": 100, "unit": "steps", "t": 5.0})
    assert (step.rate, step.left(), step.fraction) == (None, "", 0.5)


def test_units() -> None:
    step = StepView("base", status="running")
    for t in (0, 10):
        step.take(
            {"kind": "progress", "done": t * 2**20, "total": 40 * 2**20, "unit": "bytes", "t": float(t)}
        )
    assert (step.amount(), step.speed(), step.left()) == ("10.0 MiB/40.0 MiB", "1.0 MiB/s", "30 s left")
    for t, done in ((0, 0), (40, 10)):
        step.take({"kind": "progress", "done": done, "total": None, "unit": "steps", "t": float(t + 100)})
    assert (step.amount(), step.fraction) == ("10 steps", None)
    slow = StepView("x", status="running")
    for t, done in ((0, 0), (30, 10)):
        slow.take({"kind": "progress", "done": done, "total": 20, "unit": "steps", "t": float(t)})
    assert slow.speed() == "3.0 s each"


@pytest.mark.parametrize("unicode", [True, False])
@pytest.mark.parametrize("width", [30, 40, 60, 80, 120, 200])
def test_lines_fit_and_keep_what_matters(width: int, unicode: bool) -> None:
    line = line_of(training(), width, unicode=unicode)
    assert cell_len(line.plain) <= width
    assert "kto" in line.plain
    if width >= 40:
        assert "30 %" in line.plain
    if width >= 60:
        assert "18 s left" in line.plain
    if width >= 120:
        assert "4.0/s" in line.plain
        assert "loss 0.4322" in line.plain
    if not unicode:
        assert line.plain.isascii()


def test_lines_of_steps_that_do_not_run() -> None:
    assert "waiting" in line_of(StepView("kto"), 80).plain
    done = StepView("kto", status="over", result="succeeded", duration_s=75.0)
    assert line_of(done, 80).plain.split() == ["✔", "kto", "done", "1:15"]
    reused = StepView("kto", status="over", result="succeeded", duration_s=75.0, restored_from="/x")
    assert line_of(reused, 80).plain.split() == ["↺", "kto", "reused"]


def test_bar() -> None:
    for cells in (8, 24):
        for fraction in (0.0, 0.1, 0.5, 0.99, 1.0):
            for unicode in (True, False):
                done, rest = bar(fraction, cells, unicode=unicode)
                assert len(done + rest) == cells
    assert bar(1.0, 8) == ("━" * 8, "")
    assert bar(0.5, 8, unicode=False) == ("####", "....")


def test_run_view_finds_its_steps() -> None:
    view = RunView([StepView("a"), StepView("b")])
    assert view.take("", {"kind": "status", "status": "running"}) is None
    view.take("b", {"kind": "status", "status": "running", "result": None})
    assert view.active is not None
    assert view.active.id == "b"


def test_messages() -> None:
    event = {"kind": "warning", "code": "data.duplicate", "values": {"first": 1, "row": 3, "file": "x"}}
    problem = message_of(event)
    assert problem is not None
    assert (problem.severity, problem.row, problem.file) == ("warning", 3, "x")
    assert message_of({"kind": "progress"}) is None
