"""Fit text into terminal cells: a Chinese character takes two, and nothing is cut in its middle."""

from __future__ import annotations

from swiftshell.render.board import cells, cut, pad
from swiftshell.render.wrap import wrap

__all__ = ["cells", "cut", "pad", "wrap"]
