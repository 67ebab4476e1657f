"""Draw line charts and intervals as inline SVG: no script, no network, colours from the page's own variables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from swiftshell.render import words

Point = tuple[float, float]

_WIDTH, _HEIGHT = 400, 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 10, 26
_SMOOTH_FROM = 30  # points from which a curve is drawn thin with its moving average over it


@dataclass(frozen=True)
class Line:
    """One curve: its name, its points in order, and its colour (a CSS class)."""

    name: str
    points: Sequence[Point]
    colour: str


def line_chart(
    title: str, lines: Sequence[Line], *, marks: Sequence[float] = (), level: float | None = None
) -> str:
    """Return a figure with a caption and a legend.

    Args:
        title: what is shown.
        lines: the curves; those without a finite point are left out.
        marks: steps at which something happened, drawn as dashed lines.
        level: a value to draw a rule at, such as chance.
    """
    shown = [Line(x.name, [p for p in x.points if math.isfinite(p[1])], x.colour) for x in lines]
    shown = [line for line in shown if line.points]
    if not shown:
        return ""
    xs = [x for line in shown for x, _ in line.points]
    ys = [y for line in shown for _, y in line.points] + ([] if level is None else [level])
    scale = _Scale(min(xs), max(xs), *_padded(min(ys), max(ys)))
    drawn = [_grid(scale)]
    if level is not None:
        drawn.append(_rule(scale, level))
    drawn += [
        f'<line class="mark" x1="{scale.x(m):.1f}" x2="{scale.x(m):.1f}" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>'
        for m in marks
        if scale.low_x <= m <= scale.high_x
    ]
    drawn += [_curve(line, scale) for line in shown]
    legend = "".join(
        f'<span><i class="{line.colour}"></i>{escape(line.name)} '
        f"<b>{escape(words.number(float(f'{line.points[-1][1]:.3g}')))}</b></span>"
        for line in shown
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{"".join(drawn)}</svg><div class="legend">{legend}</div></figure>'
    )


class _Scale:
    """Where a step and a value lie in the picture."""

    def __init__(self, low_x: float, high_x: float, low_y: float, high_y: float) -> None:
        self.low_x, self.high_x, self.low_y, self.high_y = low_x, high_x, low_y, high_y

    def x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - self.low_x) / ((self.high_x - self.low_x) or 1.0)

    def y(self, value: float) -> float:
        return (
            _HEIGHT
            - _BOTTOM
            - (_HEIGHT - _TOP - _BOTTOM) * (value - self.low_y) / ((self.high_y - self.low_y) or 1.0)
        )


def _padded(low: float, high: float) -> tuple[float, float]:
    """Return the range a little wider, and never empty."""
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Return about `count` round numbers between two values."""
    raw = (high - low) / max(count, 1)
    if raw <= 0 or not math.isfinite(raw):
        return [low]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if raw <= power * m)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _grid(scale: _Scale) -> str:
    parts = []
    for value in ticks(scale.low_y, scale.high_y):
        y = scale.y(value)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="end" x="{_LEFT - 6}" y="{y + 4:.1f}">{escape(words.number(float(f"{value:.4g}")))}</text>'
        )
    for value in ticks(scale.low_x, scale.high_x):
        parts.append(f'<text class="middle" x="{scale.x(value):.1f}" y="{_HEIGHT - 8}">{value:g}</text>')
    return "".join(parts)


def _rule(scale: _Scale, level: float) -> str:
    y = scale.y(level)
    return f'<line class="level" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'


def _curve(line: Line, scale: _Scale) -> str:
    smooth = len(line.points) >= _SMOOTH_FROM
    drawn = _path(line.points, scale, f"{line.colour} thin" if smooth else line.colour)
    if smooth:
        drawn += _path(_averaged(line.points), scale, line.colour)
    if len(line.points) <= 12:
        drawn += "".join(
            f'<circle class="{line.colour}" cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="3"/>'
            for x, y in line.points
        )
    return drawn


def _path(points: Sequence[Point], scale: _Scale, colour: str) -> str:
    places = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in points)
    return f'<polyline class="{colour}" points="{places}"/>'


def _averaged(points: Sequence[Point]) -> list[Point]:
    """Return the exponential moving average over about a tenth of the points, without its start-up bias."""
    share = 2 / (max(len(points) / 10, 2) + 1)
    mean = weight = 0.0
    found = []
    for x, y in points:
        mean, weight = mean + share * (y - mean), weight + share * (1 - weight)
        found.append((x, mean / weight))
    return found


def interval(value: float, low: float, high: float, floor: float, ceiling: float, level: float) -> str:
    """Return a small picture of a value with its interval between two ends, and a rule at `level`."""

    def at(v: float) -> float:
        return 4 + 112 * (min(max(v, floor), ceiling) - floor) / ((ceiling - floor) or 1.0)

    return (
        f'<svg class="interval" viewBox="0 0 120 16" aria-hidden="true">'
        f'<line class="grid" x1="4" x2="116" y1="8" y2="8"/>'
        f'<line class="level" x1="{at(level):.1f}" x2="{at(level):.1f}" y1="1" y2="15"/>'
        f'<line class="c1" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="8" y2="8"/>'
        f'<circle class="c1" cx="{at(value):.1f}" cy="8" r="4"/></svg>'
    )
