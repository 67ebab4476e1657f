"""Draw a histogram: bars of text in a terminal, bars of SVG in a page; a limit is shown where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from swiftshell.render import words

_BAR_CELLS = 24
_WIDTH, _HEIGHT = 400, 220
_LEFT, _TOP, _BOTTOM = 48, 18, 26


@dataclass(frozen=True)
class Histogram:
    """Bins by their lower edges, the last one open.

    Attributes:
        edges, counts: lower edge and number of every bin.
        limit: an edge from which on bins are beyond the limit; None without one.
        limit_name: what the limit is called.
        above: bins hold what lies above their edge, up to and with the next (tokens), not what lies from it on.
    """

    edges: Sequence[float]
    counts: Sequence[int]
    limit: float | None = None
    limit_name: str = ""
    above: bool = False

    def label(self, at: int) -> str:
        """Return what a bin holds, "32-63"; the last one is open, and a bin of one value is that value."""
        low = self.edges[at] + (1 if self.above else 0)
        if at + 1 == len(self.edges):
            return f"{_plain(low)}-" if at or self.above else _plain(low)
        high = self.edges[at + 1] - (0 if self.above else 1)
        return _plain(low) if high <= low else f"{_plain(low)}-{_plain(high)}"

    def is_beyond(self, at: int) -> bool:
        """Tell whether a bin lies beyond the limit."""
        return self.limit is not None and self.edges[at] >= self.limit


def print_histogram(console: Any, histogram: Histogram, unicode: bool) -> None:
    """Print one bin a line; empty bins at both ends are left out."""
    filled = [at for at, number in enumerate(histogram.counts) if number]
    if not filled:
        return
    most, ruled = max(histogram.counts), False
    for at in range(filled[0], filled[-1] + 1):
        beyond = histogram.is_beyond(at)
        if beyond and not ruled:
            ruled = True
            rule = ("─" if unicode else "-") * 6
            console.print(f"  {rule} {histogram.limit_name} {rule}", style="yellow")
        number = histogram.counts[at]
        cells = max(1, round(number / most * _BAR_CELLS)) if number else 0
        bar = ("█" if unicode else "#") * cells
        console.print(f"  {histogram.label(at):>13} {bar} {words.number(number)}", style="yellow" if beyond else None)


def svg_histogram(title: str, histogram: Histogram) -> str:
    """Return a figure with its caption; empty for a histogram of nothing."""
    if not any(histogram.counts):
        return ""
    bins, most = len(histogram.counts), max(histogram.counts)
    width = (_WIDTH - _LEFT) / bins
    floor = _HEIGHT - _BOTTOM
    drawn = [f'<text class="end" x="{_LEFT - 6}" y="{_TOP + 4}">{words.number(most)}</text>',
             f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH}" y1="{floor}" y2="{floor}"/>']
    every = max(1, -(-bins // 6))
    for at, number in enumerate(histogram.counts):
        x, height = _LEFT + at * width, number / most * (floor - _TOP)
        colour = "c4" if histogram.is_beyond(at) else "c1"
        drawn.append(f'<rect class="{colour}" style="fill:var(--own)" x="{x + 1:.1f}" y="{floor - height:.1f}" '
                     f'width="{max(1.0, width - 2):.1f}" height="{height:.1f}">'
                     f"<title>{escape(histogram.label(at))}: {words.number(number)}</title></rect>")
        if at % every == 0:
            drawn.append(f'<text x="{x:.1f}" y="{_HEIGHT - 8}">{escape(_plain(histogram.edges[at]))}</text>')
    drawn.append(_limit_line(histogram, width, floor))
    return (f'<figure><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
            f"{''.join(drawn)}</svg><figcaption>{escape(title)}</figcaption></figure>")


def _limit_line(histogram: Histogram, width: float, floor: float) -> str:
    at = next((n for n in range(len(histogram.edges)) if histogram.is_beyond(n)), None)
    if at is None:
        return ""
    x = _LEFT + at * width
    side = ' class="end"' if x > _WIDTH / 2 else ""
    return (f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{floor}"/>'
            f'<text{side} x="{x + (-4 if side else 4):.1f}" y="{_TOP - 6}">{escape(histogram.limit_name)}</text>')


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.4g}"
