"""Say numbers, times, sizes and states in few characters, the same way everywhere."""

from __future__ import annotations

import math
import os
from datetime import datetime
from pathlib import PurePath
from typing import Any

from swiftshell.i18n import has, t

# state → (mark, the same in ASCII, style)
_MARKS = {
    "succeeded": ("✔", "ok", "green"),
    "restored": ("↺", "=", "green"),
    "failed": ("✘", "X", "bold red"),
    "lost": ("✘", "X", "bold red"),
    "timed_out": ("✘", "X", "bold red"),
    "cancelled": ("■", "#", "yellow"),
    "skipped": ("–", "-", "dim"),
    "running": ("▶", ">", "cyan"),
    "starting": ("▶", ">", "cyan"),
    "unsupervised": ("▶", ">", "yellow"),
    "unknown": ("?", "?", "yellow"),
    "queued": ("·", ".", "dim"),
    "waiting": ("·", ".", "dim"),
    "ok": ("✔", "ok", "green"),
    "warn": ("!", "!", "yellow"),
    "bad": ("✘", "X", "bold red"),
}


def mark(state: str, *, unicode: bool = True) -> str:
    """Return the sign of a state."""
    signs = _MARKS.get(state, _MARKS["unknown"])
    return signs[0] if unicode else signs[1]


def style(state: str) -> str:
    """Return the rich style of a state."""
    return _MARKS.get(state, _MARKS["unknown"])[2]


def state_of(step: Any) -> str:
    """Return the one word that stands for a step or run: its result when it is over, else its status.

    Takes the facts as a mapping with `status`, `result` and, for steps, `restored_from`.
    """
    if step.get("restored_from") and step.get("result") in (None, "succeeded"):
        return "restored"
    return str(step.get("result") or step.get("status") or "unknown")


def state_word(state: str) -> str:
    """Return a state in the language in force."""
    return t(f"render.state.{state}") if has(f"render.state.{state}") else state


def with_round(name: str, number: Any) -> str:
    """Return a name with the round it is of, from the second one on."""
    return f"{name} {t('rounds.number', number=number)}" if isinstance(number, int) and number > 1 else name


def phase_word(phase: str) -> str:
    """Return a phase (training, loading …) in the language in force."""
    return t(f"render.phase.{phase}") if has(f"render.phase.{phase}") else phase


def unit_word(unit: str) -> str:
    """Return a unit of progress (steps, rows …) in the language in force."""
    return t(f"render.unit.{unit}") if has(f"render.unit.{unit}") else unit


def duration(seconds: float | None) -> str:
    """Return a time span: 0.4 s, 12 s, 3:05, 1:02:03; empty if unknown."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return ""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def moment(value: Any) -> datetime | None:
    """Return a point in time as records have it (ISO 8601, or seconds since the epoch) in local time."""
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value).astimezone()
    try:
        return datetime.fromisoformat(str(value)).astimezone() if value else None
    except ValueError:
        return None


def size(count: float) -> str:
    """Return a number of bytes with a binary unit: 512 B, 1.4 KiB, 3.2 GiB."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def gib(value: float | None) -> str:
    """Return a size given in GiB; empty if unknown."""
    return "" if value is None else size(value * 2**30)


def number(value: Any) -> str:
    """Return a number with three or four telling digits; anything else as text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "" if value is None else str(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if 1e4 <= abs(value) < 1e9:  # %g would write 94571 rows as 9.457e+04
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1e-3 else f"{value:.4g}" if abs(value) < 1e5 else f"{value:.2e}"


def shortest(path: str) -> str:
    """Return a path relative to the current folder where it lies below it."""
    try:
        return str(PurePath(path).relative_to(os.getcwd()))
    except (ValueError, OSError):
        return path


def percent(share: float | None, digits: int = 0) -> str:
    """Return a share as a percentage; empty if unknown."""
    return "" if share is None else f"{share * 100:.{digits}f} %"
