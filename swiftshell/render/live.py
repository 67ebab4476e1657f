"""Follow a run on the terminal until it is over: lines that move on a terminal, plain lines anywhere else.

Only files are read; leaving (Ctrl-C) stops nothing. The first interrupt is the caller's to interpret.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from swiftshell.jobs import control, reconcile
from swiftshell.render import words
from swiftshell.render.console import can_move, has_unicode, open_console
from swiftshell.render.curves import curve_lines, plain_lines
from swiftshell.render.problems import print_problems
from swiftshell.render.progress import RunView, StepView, bar, message_of

if TYPE_CHECKING:
    from rich.text import Text

    from swiftshell.run.paths import RunPaths

_PLAIN_INTERVAL_S = 5.0
_REDRAWS_PER_S = 8
_ROWS_BESIDE = 3  # elapsed time, the prompt, and one line of air


def follow(run: RunPaths, *, quiet: bool = False, said: set[str] | None = None) -> None:
    """Show a run's progress until nothing of it runs any more.

    Args:
        run: the run; one that is over already returns at once.
        quiet: show nothing, only wait (`--json`).
        said: notes and warnings shown before, which are not repeated; those shown now are added.

    Raises:
        KeyboardInterrupt: passed on, with the terminal put in order.
    """
    if quiet:
        control.wait(run)
        return
    status = reconcile.status(run)
    view = RunView([_view(step) for step in status.steps])
    if can_move(sys.stdout):
        _follow_moving(run, view, said)
    else:
        _follow_plain(run, view, said)


def _view(step: reconcile.StepStatus) -> StepView:
    return StepView(step.id, step.stage, step.status, step.result, step.duration_s, step.restored_from)


def _follow_moving(run: RunPaths, view: RunView, said_before: set[str] | None) -> None:
    """Draw one line a step and redraw them in place; they make room for the final table at the end."""
    from rich.live import Live

    console = open_console()
    unicode = has_unicode(sys.stdout)  # asked now: Live puts something else in its place
    status = reconcile.status(run)
    began_s = _began_s(status)
    seen = _Messages(status.status == "over", said_before)

    def draw() -> Any:
        from rich.console import Group

        lines = [line_of(step, console.width, unicode=unicode) for step in view.steps]
        room = console.height - len(lines) - _ROWS_BESIDE
        return Group(*lines, *_curves(view.active, console.width, room, unicode), _elapsed(time.time() - began_s))

    with Live(
        console=console,
        get_renderable=draw,
        refresh_per_second=_REDRAWS_PER_S,
        transient=True,
        redirect_stderr=False,
    ) as live:

        def on_event(step_id: str, event: Mapping[str, Any]) -> None:
            _take(view, run, step_id, event)
            for problem in seen.new(event):
                live.console.print(_sentence(problem))

        control.wait(run, on_event=on_event)


def _follow_plain(run: RunPaths, view: RunView, said_before: set[str] | None) -> None:
    """Print a line when something changes, and one every few seconds while a phase goes on."""
    said: dict[str, tuple[str, float]] = {}
    seen = _Messages(reconcile.status(run).status == "over", said_before)

    def on_event(step_id: str, event: Mapping[str, Any]) -> None:
        step = _take(view, run, step_id, event)
        for problem in seen.new(event):
            print_problems([problem])
        if step is None or event.get("kind") not in ("status", "phase", "progress"):
            return
        doing, moment = said.get(step.id, ("", 0.0))
        now = time.monotonic()
        is_new = step.doing() != doing
        if is_new or (event["kind"] == "progress" and now - moment >= _PLAIN_INTERVAL_S):
            said[step.id] = (step.doing(), now)
            if step.state != "waiting":
                print(plain_line_of(step), flush=True)
            if event["kind"] == "status" and not step.is_active:
                print("".join(f"[{step.id}] {line}\n" for line in plain_lines(step.curves)), end="", flush=True)

    control.wait(run, on_event=on_event)


def _began_s(status: reconcile.RunStatus) -> float:
    """Return when the run's first step started (seconds since the epoch), or now."""
    moments = [m.timestamp() for step in status.steps if (m := words.moment(step.started)) is not None]
    return min(moments, default=time.time())


class _Messages:
    """Notes and warnings to show: each once, and none of a run that was over before anyone looked."""

    def __init__(self, was_over: bool, seen: set[str] | None = None) -> None:
        self._was_over = was_over
        self._seen: set[str] = set() if seen is None else seen

    def new(self, event: Mapping[str, Any]) -> list[Any]:
        problem = message_of(event)
        if problem is None or self._was_over:
            return []
        key = repr((problem.code, sorted(problem.values.items(), key=str)))
        if key in self._seen:
            return []
        self._seen.add(key)
        return [problem]


def _take(view: RunView, run: RunPaths, step_id: str, event: Mapping[str, Any]) -> StepView | None:
    """Feed the view; what an event of kind status does not carry (duration, origin) is read when a step ends."""
    step = view.take(step_id, event)
    if step is not None and event.get("kind") == "status" and step.status == "over":
        found = next((s for s in reconcile.status(run).steps if s.id == step_id), None)
        if found is not None:
            step.duration_s, step.restored_from = found.duration_s, found.restored_from
    return step


def line_of(step: StepView, width: int, *, unicode: bool = True) -> Text:
    """Return a step's line, cut to `width` cells: what matters most is kept longest."""
    from rich.cells import cell_len
    from rich.text import Text

    line = Text(no_wrap=True, overflow="crop", end="\n")
    line.append(f"{words.mark(step.state, unicode=unicode)} ", style=words.style(step.state))
    name_cells, phase_cells = (8, 8) if width < 60 else (16, 12)
    line.append(_cut(step.id, name_cells), style="bold" if step.is_active else "")
    line.append("  ")
    if not step.is_active:
        line.append(step.doing(), style=words.style(step.state))
        line.append(f"  {words.duration(step.duration_s)}" if step.state != "restored" else "", style="dim")
        line.truncate(width)
        return line
    line.append(_cut(step.doing(), phase_cells) + " ")
    room = width - cell_len(line.plain) - 1
    _append_progress(line, step, room, unicode)
    line.truncate(width)
    return line


def _append_progress(line: Text, step: StepView, room: int, unicode: bool) -> None:
    from rich.cells import cell_len

    tail: list[str] = []
    percent = "" if step.fraction is None else f"{step.fraction * 100:3.0f} %"
    cells = 8 if room < 36 else 12 if room < 100 else 24
    used = cells + 1 + cell_len(percent) if percent else 0
    parts: list[Callable[[], str]] = [step.left, step.numbers, step.amount, step.speed]
    for part in parts:
        text = part()
        if text and used + cell_len(text) + 2 <= room:
            tail.append(text)
            used += cell_len(text) + 2
    if step.fraction is not None:
        done, rest = bar(step.fraction, cells, unicode=unicode)
        line.append(done, style="cyan")
        line.append(rest, style="bright_black")
        line.append(f" {percent}")
    line.append("".join(f"  {text}" for text in tail))


def plain_line_of(step: StepView) -> str:
    """Return a step's line for logs and pipes."""
    if not step.is_active:
        ended = words.duration(step.duration_s) if step.state != "restored" else ""
        return f"[{step.id}] " + ", ".join(part for part in (step.doing(), ended) if part)
    percent = words.percent(step.fraction)
    parts = [step.doing(), percent, step.amount(), step.speed(), step.left(), step.numbers()]
    return f"[{step.id}] " + ", ".join(part for part in parts if part)


def _curves(step: StepView | None, width: int, room: int, unicode: bool) -> list[Text]:
    """Return the curves of the step at work, as many as there is room for."""
    from rich.text import Text

    if step is None or room <= 0:
        return []
    lines = curve_lines(step.curves, width, unicode=unicode, most=room)
    return [Text(text, style=style, no_wrap=True, overflow="crop") for style, text in lines]


def _cut(text: str, cells: int) -> str:
    from rich.cells import set_cell_size

    return set_cell_size(text, cells)


def _elapsed(seconds: float) -> Text:
    from rich.text import Text

    from swiftshell.i18n import t

    return Text(t("render.elapsed", value=words.duration(float(int(seconds)))), style="dim")


def _sentence(problem: Any) -> Text:
    from rich.text import Text

    from swiftshell.i18n import sentence

    return Text(sentence(problem), style="yellow" if problem.severity == "warning" else "dim")
