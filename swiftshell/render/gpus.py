"""Print GPUs and the queue for them: who has what, since when, until when, and why somebody waits."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import IO, Any

from swiftshell.claims.reason import clock, span
from swiftshell.errors import Problem
from swiftshell.i18n import t, what
from swiftshell.render import words
from swiftshell.render.console import NARROW_COLUMNS, has_unicode, new_table, open_console

Json = Mapping[str, Any]
_STYLES = {"free": "green", "held": "cyan", "foreign": "yellow", "memory": "yellow", "unknown": "red"}


def print_gpus(facts: Json, stream: IO[str] | None = None) -> None:
    """Print what `api.gpus.gpus_facts` returns."""
    from rich.text import Text

    stream = sys.stdout if stream is None else stream
    console = open_console(stream)
    if not facts["gpus"]:
        console.print(t("gpus.none" if facts["answers"] else "gpus.no_answer"))
        return
    table = new_table("GPU", t("gpus.state"), unicode=has_unicode(stream))
    if console.width >= NARROW_COLUMNS:
        table.add_column(t("gpus.memory"), justify="right", no_wrap=True)
    table.add_column(t("gpus.used_by"), overflow="fold")
    for gpu in facts["gpus"]:
        cells: list[Any] = [str(gpu["index"]), Text(t(f"gpus.is_{gpu['state']}"), style=_STYLES[gpu["state"]])]
        cells += [_memory(gpu)] if console.width >= NARROW_COLUMNS else []
        table.add_row(*cells, Text("\n".join(_users(gpu))))
    console.print(table)
    for name in dict.fromkeys(g["name"] for g in facts["gpus"]):
        indices = ", ".join(str(g["index"]) for g in facts["gpus"] if g["name"] == name)
        console.print(f"{indices}: {name}", style="dim")
    console.print(t("gpus.shared" if facts["shared"] else "gpus.not_shared", path=facts["area"]), style="dim")


def _memory(gpu: Json) -> str:
    return f"{gpu['used_gib']:.1f}/{gpu['memory_gib']:.0f} GiB"


def _users(gpu: Json) -> list[str]:
    """Return a line for the job that holds a GPU, one for each process on it, or why it cannot be told."""
    lines = []
    if (holder := gpu["holder"]) is not None:
        lines.append(f"{holder['user']}  {holder['stage']}  {holder['run']}")
        lines.append(_times(holder))
    lines += [_process(p) for p in gpu["processes"] if p["kind"] == "compute"]
    if gpu["state"] == "memory":
        lines.append(t("gpus.hidden"))
    elif gpu["state"] == "unknown":
        lines.append(t("gpus.lock_replaced") if holder is not None else gpu["fault"])
    elif gpu["state"] == "held" and holder is None:
        lines.append(t("gpus.no_record"))
    return lines


def _times(holder: Json) -> str:
    since = t("gpus.since", clock=clock(holder["since"]), span=span(time.time() - holder["since"]))
    until = holder["until"]
    return since if until is None or until <= time.time() else f"{since}{t('gpus.until', clock=clock(until))}"


def _process(process: Json) -> str:
    who = f"PID {process['pid']}"
    if process["command"] is not None:
        who += f" {process['command']}  {process['user']}  {span(time.time() - process['since'])}"
    if process["used_gib"] is not None:
        who += f"  {words.gib(process['used_gib'])}"
    return who if process["through_swiftshell"] else f"{who}  {t('gpus.not_ours')}"


def print_queue(facts: Json, stream: IO[str] | None = None) -> None:
    """Print what `api.gpus.queue_facts` returns: two lines each, so that the reason is read whole."""
    from rich.text import Text

    stream = sys.stdout if stream is None else stream
    console = open_console(stream)
    if not facts["waiting"]:
        console.print(t("queue.nobody"))
        return
    for entry in facts["waiting"]:
        named = "" if entry["priority"] == "normal" else f"  {t('queue.' + entry['priority'])}"
        head = Text.assemble(
            (f"{entry['position']:>2}  ", "bold"),
            (f"{entry['user']}  {entry['stage']}  {entry['run']}", "bold" if entry["mine"] else ""),
            f"  {t('queue.wants', gpus=entry['gpus'])}{named}",
            (f"  {t('queue.for', span=span(entry['waited_s']))}", "dim"),
        )
        console.print(head)
        console.print(Text("    " + what(Problem.from_json(entry["why"])), style="dim"))
