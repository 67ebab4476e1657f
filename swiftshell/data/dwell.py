"""Tell a long look from a long answer: how dwell time goes with length, and what is unusual in one of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from swiftshell.data.signals import DWELL_ADJUSTED, DWELL_Z


@dataclass
class Dwell:
    """How log dwell time goes with log length, from running sums."""

    rows: int = 0
    bounces: int = 0
    idle: int = 0
    _x: float = 0.0
    _y: float = 0.0
    _xx: float = 0.0
    _yy: float = 0.0
    _xy: float = 0.0

    def add(self, seconds: float, characters: int) -> None:
        """Take one dwell time and the length of what was read."""
        x, y = math.log(max(1, characters)), math.log(seconds)
        self.rows += 1
        self._x, self._y = self._x + x, self._y + y
        self._xx, self._yy, self._xy = self._xx + x * x, self._yy + y * y, self._xy + x * y

    @property
    def slope(self) -> float:
        """Return by how much log dwell grows with log length."""
        spread = self._xx - self._x * self._x / self.rows if self.rows else 0.0
        return (self._xy - self._x * self._y / self.rows) / spread if spread > 1e-9 else 0.0

    @property
    def correlation(self) -> float:
        """Return Pearson's correlation of both."""
        if self.rows < 3:
            return 0.0
        xx, yy = self._xx - self._x**2 / self.rows, self._yy - self._y**2 / self.rows
        return (
            (self._xy - self._x * self._y / self.rows) / math.sqrt(xx * yy)
            if xx > 1e-9 and yy > 1e-9
            else 0.0
        )

    def derived(self, seconds: float, characters: int) -> dict[str, float]:
        """Return what a rule may ask of one dwell time."""
        x, y = math.log(max(1, characters)), math.log(seconds)
        usual_x, usual_y = self._x / self.rows, self._y / self.rows
        longer = self.slope * (x - usual_x)
        spread = math.sqrt(max(1e-12, (1 - self.correlation**2) * (self._yy / self.rows - usual_y**2)))
        return {DWELL_Z: (y - usual_y - longer) / spread, DWELL_ADJUSTED: math.exp(y - longer)}
