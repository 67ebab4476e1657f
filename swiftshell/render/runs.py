"""Print runs and jobs, one a line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from swiftshell.errors import Problem
from swiftshell.i18n import t, what
from swiftshell.render import words
from swiftshell.render.console import NARROW_COLUMNS, has_unicode, new_table, open_console


def print_runs(runs: Sequence[Mapping[str, Any]], stream: IO[str] | None = None) -> None:
    """Print runs in the given order, from `api.runs.runs_facts` or `live_runs`."""
    from rich.text import Text

    stream = sys.stdout if stream is None else stream
    console = open_console(stream)
    wide = console.width >= NARROW_COLUMNS
    with_gpus = any(_gpus(facts) for facts in runs)
    table = new_table("", t("render.run"), t("render.status"), unicode=has_unicode(stream))
    if wide:
        table.add_column(t("render.steps"), overflow="fold")
        if with_gpus:
            table.add_column("GPU", no_wrap=True)
        table.add_column(t("render.started"), no_wrap=True)
        table.add_column(t("render.time"), justify="right", no_wrap=True)
    for facts in runs:
        state = words.state_of(facts)
        cells: list[Any] = [
            Text(words.mark(state, unicode=has_unicode(stream)), style=words.style(state)),
            Text(str(facts["run"]), overflow="fold"),
            words.state_word(state),
        ]
        held = [_gpus(facts)] if with_gpus else []
        cells += [_steps(facts), *held, _started(facts), words.duration(_seconds(facts))] if wide else []
        table.add_row(*cells)
    console.print(table)
    for facts in runs:
        for step in facts.get("steps") or []:
            if step.get("waiting"):
                console.print(f"{facts['run']}: {what(Problem.from_json(step['waiting']))}", style="dim")


def _gpus(facts: Mapping[str, Any]) -> str:
    """Return the indices of the GPUs that a run holds now."""
    return ",".join(str(index) for step in facts.get("steps") or [] for index in step.get("gpus") or [])


def _steps(facts: Mapping[str, Any]) -> str:
    """Return done of all, and the step that is at work or went wrong."""
    steps = facts.get("steps") or []
    done = sum(1 for step in steps if step.get("result") == "succeeded")
    telling = next((s for s in steps if s.get("status") in ("queued", "starting", "running", "unsupervised")), None)
    telling = telling or next(
        (s for s in steps if s.get("result") not in (None, "succeeded", "skipped")), None
    )
    numbers = [((step.get("summary") or {}).get("rounds") or {}).get("number") or 1 for step in steps]
    text = f"{done}/{len(steps)}" + (f" {telling['id']}" if telling is not None else "")
    return words.with_round(text, max(numbers, default=1))


def _started(facts: Mapping[str, Any]) -> str:
    moments = [m for step in facts.get("steps") or [] if (m := words.moment(step.get("started"))) is not None]
    return min(moments).astimezone().strftime("%m-%d %H:%M") if moments else ""


def _seconds(facts: Mapping[str, Any]) -> float | None:
    steps = [s for s in facts.get("steps") or [] if not s.get("restored_from")]
    known = [float(s["duration_s"]) for s in steps if s.get("duration_s") is not None]
    return sum(known) if known else None
