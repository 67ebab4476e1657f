"""Print what an audit of labels found, and what it is not sure of."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftshell.i18n import has, t
from swiftshell.render import words
from swiftshell.render.console import has_unicode, new_table, open_console
from swiftshell.render.review import harmless

_LINES = 10


def print_audit(found: Mapping[str, Any], *, data: str, cleaned: Path) -> None:
    """Print the report of `swiftshell.engines.noise_audit`."""
    console = open_console(sys.stdout)
    print(t("audit.head", **{k: found[k] for k in ("rows", "desirable", "undesirable")}))
    columns = [t(f"audit.col_{c}") for c in ("detector", "auc", "interval", "believed")]
    table = new_table(*columns, unicode=has_unicode(sys.stdout))
    rows = [(t(f"audit.name.{name}"), auc, auc["learned"]) for name, auc in found["detectors"].items()]
    for name, auc, believed in [*rows, (t("audit.together"), found["combined"], found["learned"])]:
        interval = f"{auc['low']:.2f} – {auc['high']:.2f}"
        table.add_row(name, f"{auc['auc']:.2f}", interval, t("audit.yes" if believed else "audit.no"))
    console.print(table)
    if not found["learned"]:
        print(t("audit.unsure"))
    for side in ("desirable", "undesirable"):
        if (share := found["wrong_share"][side]) is not None:
            print(t(f"audit.wrong_{side}", **{k: words.percent(v) for k, v in share.items()}))
    print(t("audit.flagged", flagged=found["flagged"]))
    doubtful = found["most_doubtful"][:_LINES] if found["learned"] or found["conflicts"] else []
    if doubtful:
        print(t("audit.doubtful"))
    for row in doubtful:
        print("  " + doubtful_line(row))
    print(t("audit.then", path=data, cleaned=str(cleaned)))


def doubtful_line(row: Mapping[str, Any]) -> str:
    """Return one doubtful row as a line: where, how likely it is wrong, how sure that is, why."""
    reason = t(row["reason"]) if has(row["reason"]) else harmless(row["reason"]) or "-"
    answer = " ".join(harmless(row["answer"]).split())
    told = t(
        "audit.doubtful_line",
        row=row["row"],
        label=t("render.desirable" if row["label"] else "render.undesirable"),
        share=words.percent(row["p_wrong"]),
        sure=t(f"audit.sure.{row['sure']}"),
        reason=reason,
    )
    return f"{told}\n      {answer[:100]}" if answer else told
