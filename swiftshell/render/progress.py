"""Keep what is to be shown of a running run: a pure function of its events, drawn by `swiftshell.render.live`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from swiftshell.errors import Problem
from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.curves import Curves

_RATE_WINDOW_S = 30.0
_LEAST_RATE_SPAN_S = 0.5
_TELLING_METRICS = ("loss", "rewards/margins", "eval_loss")


@dataclass
class StepView:
    """One step as it is shown; `take` feeds it events."""

    id: str
    stage: str = ""
    status: str = "waiting"
    result: str | None = None
    duration_s: float | None = None
    restored_from: str | None = None
    phase: str = ""
    done: float = 0.0
    total: float | None = None
    unit: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    curves: Curves = field(default_factory=Curves)
    _points: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=600))

    def take(self, event: Mapping[str, Any]) -> None:
        """Take one event of the step, in the order of its file."""
        kind = event.get("kind")
        self.curves.take(event)
        if kind == "phase":
            self._start_phase(str(event.get("name", "")))
        elif kind == "attempt":
            self._start_phase("")
            self.metrics.clear()
        elif kind == "progress":
            self._progress(event)
        elif kind == "metric" and isinstance(event.get("value"), int | float):
            self.metrics[str(event.get("name"))] = float(event["value"])
        elif kind == "status":
            self.status = str(event.get("status") or self.status)
            self.result = event.get("result")

    def _start_phase(self, name: str) -> None:
        self.phase, self.done, self.total, self.unit = name, 0.0, None, ""
        self._points.clear()

    def _progress(self, event: Mapping[str, Any]) -> None:
        done, moment = float(event.get("done") or 0), float(event.get("t") or 0)
        if done < self.done:
            self._points.clear()
        self.done, self.unit = done, str(event.get("unit") or "")
        self.total = float(event["total"]) if event.get("total") else None
        self._points.append((moment, done))
        while moment - self._points[0][0] > _RATE_WINDOW_S:
            self._points.popleft()

    @property
    def state(self) -> str:
        """Return the word for the step's state (see `words.state_of`)."""
        return words.state_of(vars(self))

    @property
    def is_active(self) -> bool:
        """Tell whether the step's worker is at work."""
        return self.status in ("starting", "running", "unsupervised")

    @property
    def fraction(self) -> float | None:
        """Return how much of the phase is done, from 0 to 1, or None if its length is unknown."""
        return None if not self.total else max(0.0, min(1.0, self.done / self.total))

    @property
    def rate(self) -> float | None:
        """Return units per second over the last half minute, or None until that means something."""
        if len(self._points) < 2:
            return None
        (start, first), (end, last) = self._points[0], self._points[-1]
        return (last - first) / (end - start) if end - start >= _LEAST_RATE_SPAN_S and last > first else None

    @property
    def left_s(self) -> float | None:
        """Return the seconds that the phase still takes at this rate."""
        rate = self.rate
        return (self.total - self.done) / rate if self.total and rate else None

    def amount(self) -> str:
        """Return done and total with their unit: 91/150 steps, 1.2 MiB/3.4 MiB."""
        if not self.unit:
            return ""
        if self.unit == "bytes":
            return "/".join(words.size(n) for n in (self.done, self.total) if n is not None)
        counts = "/".join(words.number(_whole(n)) for n in (self.done, self.total) if n is not None)
        return f"{counts} {words.unit_word(self.unit)}"

    def speed(self) -> str:
        """Return the rate: 4.1/s, 3.1 MiB/s, or for slow units the time of one: 3.2 s each."""
        rate = self.rate
        if rate is None:
            return ""
        if self.unit == "bytes":
            return f"{words.size(rate)}/s"
        if rate >= 0.5:
            return f"{rate:.1f}/s" if rate < 100 else f"{rate:,.0f}/s"
        return t("render.seconds_each", value=f"{1 / rate:.1f}")

    def left(self) -> str:
        """Return the time left in words."""
        seconds = self.left_s
        return "" if seconds is None else t("render.left", value=words.duration(seconds))

    def numbers(self) -> str:
        """Return the last values of the metrics that tell most."""
        shown = [name for name in _TELLING_METRICS if name in self.metrics][:2]
        return "  ".join(
            f"{name.removeprefix('rewards/')} {words.number(self.metrics[name])}" for name in shown
        )

    def doing(self) -> str:
        """Return the phase while the step is at work, else the word for its state."""
        return words.phase_word(self.phase) if self.is_active and self.phase else words.state_word(self.state)


class RunView:
    """All steps of a run as they are shown."""

    def __init__(self, steps: list[StepView]) -> None:
        self.steps = steps
        self._by_id = {step.id: step for step in steps}

    def take(self, step_id: str, event: Mapping[str, Any]) -> StepView | None:
        """Take one event; return the step it belongs to (None: the run itself, or a step that is not known)."""
        step = self._by_id.get(step_id)
        if step is not None:
            step.take(event)
        return step

    @property
    def active(self) -> StepView | None:
        """Return the step at work."""
        return next((step for step in self.steps if step.is_active), None)


def message_of(event: Mapping[str, Any]) -> Problem | None:
    """Return what an event wants a person to read, or None."""
    if event.get("kind") not in ("note", "warning") or not event.get("code"):
        return None
    severity = "warning" if event["kind"] == "warning" else "note"
    values = dict(event.get("values") or {})
    place = {key: values[key] for key in ("file", "line", "row") if values.get(key) is not None}
    return Problem.from_json({"code": event["code"], "values": values, "severity": severity, **place})


def bar(fraction: float, cells: int, *, unicode: bool = True) -> tuple[str, str]:
    """Return the done and the open part of a bar of so many cells."""
    if not unicode:
        full = round(fraction * cells)
        return "#" * full, "." * (cells - full)
    halves = round(fraction * cells * 2)
    done = "━" * (halves // 2) + ("╸" if halves % 2 else "")
    return done, "━" * (cells - len(done))


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else round(value, 1)
