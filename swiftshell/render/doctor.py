"""Print what the doctor found: a verdict, what was found, one thing to do."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO

from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import has_unicode, open_console


def print_findings(findings: Sequence[Mapping[str, str]], stream: IO[str] | None = None) -> None:
    """Print findings from `api.doctor.examine`, and a sum."""
    from rich.table import Table
    from rich.text import Text

    stream = sys.stdout if stream is None else stream
    unicode = has_unicode(stream)
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for finding in findings:
        verdict = finding["verdict"]
        text = Text(finding["found"])
        if finding.get("todo"):
            text.append(f"\n{'→' if unicode else '->'} {finding['todo']}", style="cyan")
        table.add_row(
            Text(words.mark(verdict, unicode=unicode), style=words.style(verdict)), finding["check"], text
        )
    console = open_console(stream)
    console.print(table)
    bad = sum(finding["verdict"] == "bad" for finding in findings)
    warnings = sum(finding["verdict"] == "warn" for finding in findings)
    if bad or warnings:
        console.print(t("render.doctor_sum", bad=bad, warnings=warnings), style="dim")
    else:
        console.print(t("cli.doctor_ok"), style="dim")
