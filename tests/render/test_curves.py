"""Curves of a training: every width, encoding and language; what went back is forgotten; the newest verdict."""

from __future__ import annotations

import math
from typing import Any

import pytest

from swiftshell.i18n import set_language
from swiftshell.render.board import cells
from swiftshell.render.curves import SHOWN, Curves, curve_lines, plain_lines, sparkline
from swiftshell.render.live import _curves
from swiftshell.render.progress import StepView


def metric(name: str, value: float, step: int) -> dict[str, Any]:
    return {"kind": "metric", "name": name, "value": value, "step": step}


def trained(steps: int = 75) -> Curves:
    curves = Curves()
    for i in range(steps):
        for name in SHOWN:
            curves.take(metric(name, math.sin(i / 10) - 12345.678 * (name == "kl/unclamped"), i))
    return curves


WARNING = {
    "kind": "warning",
    "code": "verdict.both_fall",
    "values": {"chosen": -0.2, "rejected": -0.4, "learning_rate": 1e-3},
}


def test_a_curve_goes_from_lowest_to_highest() -> None:
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == "▁▂▃▄▅▆▇█"
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7], 4) == "▁▃▆█"
    assert sparkline([3.0, 3.0, 3.0], 8) == "▅▅▅"
    assert sparkline([0, 1], 8, unicode=False) == "_#"
    assert sparkline([math.nan, 1.0, math.inf], 8) == "▅"
    assert sparkline([], 8) == sparkline([1.0, 2.0], 0) == ""


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_no_line_is_wider_than_the_terminal(width: int, lang: str, unicode: bool) -> None:
    curves = trained()
    curves.take(WARNING)
    set_language(lang)
    try:
        lines = curve_lines(curves, width, unicode=unicode)
    finally:
        set_language("auto")
    assert len(lines) == len(SHOWN) + 1
    assert all(cells(text) <= width for _, text in lines)
    if unicode and width >= 40:
        assert all("▁" in text for _, text in lines[:-1])
    if not unicode and lang == "en" and width >= 200:
        assert all(text.isascii() for _, text in lines)


def test_where_room_is_short_the_verdict_stays() -> None:
    curves = trained()
    curves.take(WARNING)
    lines = curve_lines(curves, 80, most=2)
    assert len(lines) == 2
    assert "both rewards fall" in lines[1][1]
    assert lines[1][0] == "yellow"


def test_steps_that_an_attempt_repeats_are_drawn_once() -> None:
    curves = Curves()
    for step, value in [(1, 1.0), (2, 2.0), (3, 3.0), (2, 20.0), (3, 30.0)]:
        curves.take(metric("loss", value, step))
    assert curves.values("loss") == [1.0, 20.0, 30.0]


def test_a_long_training_keeps_its_ends_and_little_memory() -> None:
    curves = Curves()
    for step in range(10_000):
        curves.take(metric("loss", float(step), step))
    values = curves.values("loss")
    assert len(values) <= 400
    assert (values[0], values[-1]) == (0.0, 9999.0)
    assert values == sorted(values)


def test_two_points_make_no_curve_and_other_metrics_none() -> None:
    curves = Curves()
    for step in range(2):
        curves.take(metric("loss", 1.0, step))
    for step in range(9):
        curves.take(metric("grad_norm", 1.0, step))
    assert curve_lines(curves, 80) == plain_lines(curves) == []


def test_plain_text_has_numbers_and_no_drawing() -> None:
    lines = plain_lines(trained())
    assert len(lines) == len(SHOWN)
    assert lines[0].startswith("loss: 0 to ")
    assert all(text.isascii() for text in lines)


def test_the_live_view_draws_the_step_at_work_only() -> None:
    view = StepView("kto", "kto", status="running")
    for i in range(5):
        view.take(metric("loss", 1.0 - i / 10, i))
    assert [text.plain.split()[0] for text in _curves(view, 80, 10, True)] == ["loss"]
    assert _curves(view, 80, 0, True) == _curves(None, 80, 10, True) == []
