"""Draw a training's numbers as small curves of block characters, one line each, for any width and any encoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from swiftshell.errors import Problem
from swiftshell.i18n import t, what
from swiftshell.render import words
from swiftshell.render.board import cells, cut, pad

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII = "_.-=+*#"
_MOST_POINTS = 400  # kept for each curve; beyond, every second one is dropped
_LEAST_POINTS = 3  # fewer make no curve
_LABEL_CELLS, _NUMBER_CELLS = 20, 20
_NARROW = 60  # below this labels are cut short, and only the last number is told
_NARROW_LABEL_CELLS, _NARROW_NUMBER_CELLS = 12, 8
_CURVE_CELLS = (8, 48)  # least and most

# metric → style; in this order, as far as they were logged
SHOWN = {
    "loss": "cyan",
    "kl/unclamped": "yellow",
    "rewards/chosen": "green",
    "rewards/rejected": "red",
    "rewards/margins": "magenta",
    "eval_preference_auc": "blue",
    "eval_preference_accuracy": "blue",
    "eval_length_ratio": "bright_black",
}


@dataclass
class Curves:
    """The numbers of one step as they come, and the newest verdict on them."""

    points: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    verdict: Problem | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of a step; anything but metrics and verdicts is passed over."""
        code = str(event.get("code", ""))
        if event.get("kind") == "metric":
            self._add(str(event.get("name")), event.get("value"), event.get("step"))
        elif event.get("kind") in ("note", "warning") and code.startswith("verdict."):
            severity = "warning" if event["kind"] == "warning" else "note"
            self.verdict = Problem.from_json(
                {"code": code, "values": event.get("values") or {}, "severity": severity}
            )

    def _add(self, name: str, value: Any, step: Any) -> None:
        if name not in SHOWN or not isinstance(value, int | float) or not isinstance(step, int | float):
            return
        found = self.points.setdefault(name, [])
        while (
            found and found[-1][0] >= step
        ):  # an attempt or the guard went back: what came after did not count
            found.pop()
        found.append((float(step), float(value)))
        if len(found) > _MOST_POINTS:
            del found[1:-1:2]

    def values(self, name: str) -> list[float]:
        """Return a curve's values in order."""
        return [value for _, value in self.points.get(name, [])]


def curve_lines(
    curves: Curves, width: int, *, unicode: bool = True, most: int | None = None
) -> list[tuple[str, str]]:
    """Return (style, text) of every curve that can be drawn and of the newest verdict; none is wider than `width`.

    Args:
        curves: the numbers.
        width: cells of the terminal.
        unicode: whether block characters can be shown.
        most: lines there is room for; the verdict is kept longest.
    """
    drawn = [
        (style, name) for name, style in SHOWN.items() if len(curves.points.get(name, [])) >= _LEAST_POINTS
    ]
    labels = {name: t(f"report.curve.{name.replace('/', '_')}") for _, name in drawn}
    is_narrow = width < _NARROW
    most_cells = _NARROW_LABEL_CELLS if is_narrow else _LABEL_CELLS
    label_cells = min(most_cells, max(map(cells, labels.values()), default=0))
    room = width - label_cells - 6 - (_NARROW_NUMBER_CELLS if is_narrow else _NUMBER_CELLS)
    lines = []
    for style, name in drawn:
        values = curves.values(name)
        numbers = _short(values[-1]) if is_narrow else _first_and_last(values, unicode)
        length = max(0, min(_CURVE_CELLS[1], room))
        curve = f"{sparkline(values, length, unicode=unicode)}  " if length >= _CURVE_CELLS[0] else ""
        lines.append(
            (style, cut(f"  {pad(cut(labels[name], label_cells), label_cells)}  {curve}{numbers}", width))
        )
    verdict = []
    if curves.verdict is not None:
        bad = curves.verdict.severity == "warning"
        verdict = [
            ("yellow" if bad else "green", cut(f"  {'!' if bad else '*'} {what(curves.verdict)}", width))
        ]
    kept = lines if most is None else lines[: max(0, most - len(verdict))]
    return [*kept, *verdict]


def sparkline(values: Sequence[float], length: int, *, unicode: bool = True) -> str:
    """Return values as a row of at most `length` characters, each the mean of its share, from lowest to highest."""
    marks = _BLOCKS if unicode else _ASCII
    shares = _shares([v for v in values if v == v and abs(v) != float("inf")], length)
    if not shares:
        return ""
    low, high = min(shares), max(shares)
    span = high - low
    if span <= 1e-12 * max(1.0, abs(high)):
        return marks[len(marks) // 2] * len(shares)
    return "".join(marks[min(len(marks) - 1, int((v - low) / span * len(marks)))] for v in shares)


def _shares(values: Sequence[float], length: int) -> list[float]:
    """Return the means of at most `length` equal shares of the values."""
    if len(values) <= length:
        return list(values)
    if length <= 0:
        return []
    edges = [i * len(values) // length for i in range(length + 1)]
    return [sum(values[a:b]) / (b - a) for a, b in pairwise(edges)]


def _first_and_last(values: Sequence[float], unicode: bool) -> str:
    arrow = "→" if unicode else "->"
    return f"{_short(values[0])} {arrow} {_short(values[-1])}"


def _short(value: float) -> str:
    """Return a number with three telling digits."""
    return words.number(float(f"{value:.3g}"))


def plain_lines(curves: Curves) -> list[str]:
    """Return what the curves say as words and numbers, for logs, pipes and screen readers."""
    lines = []
    for name in SHOWN:
        values = curves.values(name)
        if len(values) >= _LEAST_POINTS:
            lowest, highest = _short(min(values)), _short(max(values))
            lines.append(
                t(
                    "report.curve_words",
                    name=t(f"report.curve.{name.replace('/', '_')}"),
                    first=_short(values[0]),
                    last=_short(values[-1]),
                    lowest=lowest,
                    highest=highest,
                )
            )
    return lines
