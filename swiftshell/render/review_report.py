"""Print what reviews tell: after a sitting, over all reviewers, and what applying them changed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swiftshell.data.review.numbers import noise
from swiftshell.data.review.sitting import Sitting
from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import has_unicode, new_table, open_console

_ROWS_SHOWN = 20


def print_sitting(sitting: Sitting, path: Path) -> None:
    """Say what a sitting brought and how to go on."""
    print(t("review.sitting_over", judged=sitting.judged, left=sitting.left, log=str(sitting.log.path)))
    if sitting.per_hour is not None and sitting.judged >= 3:
        print(t("review.sitting_pace", rate=round(sitting.per_hour)))
    print_noise({k: s.as_json() for k, s in noise(sitting.found, sitting.log).items()})
    print(t("review.then", path=str(path), stem=path.stem))


def print_noise(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the unbiased estimate of wrong labels; nothing before there is one."""
    for side, share in found.items():
        if share["total"]:
            values = {
                "share": words.percent(share["share"]),
                "low": words.percent(share["low"]),
                "high": words.percent(share["high"]),
                "hits": share["hits"],
                "total": share["total"],
            }
            print(t(f"review.noise_{side}", **values))


def print_review_report(found: Mapping[str, Any]) -> None:
    """Print what `swiftshell.data.review.numbers.report` returns."""
    console = open_console(sys.stdout)
    print(t("review.report_head", judged=found["judged"], answers=found["answers"], wrong=found["wrong"]))
    table = new_table(
        *(t(f"review.col_{c}") for c in ("by", "up", "down", "edit", "skip", "errors", "pace")),
        unicode=has_unicode(sys.stdout),
    )
    for r in found["reviewers"]:
        pace = "-" if r["per_hour"] is None else words.number(round(r["per_hour"]))
        table.add_row(
            r["by"], *(str(r[k]) for k in ("desirable", "undesirable", "edit", "skip", "errors")), pace
        )
    console.print(table)
    print_noise(found["noise"])
    for pair in found["agreement"]:
        kappa = "-" if pair["kappa"] is None else f"{pair['kappa']:.2f}"
        print(
            t(
                "review.agreement",
                one=pair["one"],
                other=pair["other"],
                same=pair["same"],
                both=pair["both"],
                kappa=kappa,
                judgement=t(f"review.kappa_{kappa_word(pair['kappa'])}"),
            )
        )
        if pair["disagree_rows"]:
            print("  " + t("review.disagree_rows", rows=_rows(pair["disagree_rows"])))
    if found["wrong_rows"]:
        print(t("review.wrong_rows", rows=_rows(found["wrong_rows"])))
    if found["unsettled_rows"]:
        print(t("review.unsettled_rows", rows=_rows(found["unsettled_rows"])))
    for note in found["notes"][:_ROWS_SHOWN]:
        print(t("review.note_line", row=note["row"], by=note["by"], text=note["note"]))
    if found["unreadable_lines"]:
        print(t("review.unreadable_lines", lines=_rows(found["unreadable_lines"]), log=found["log"]))


def kappa_word(kappa: float | None) -> str:
    """Return the usual word for a κ (Landis and Koch's scale, in three)."""
    if kappa is None:
        return "undefined"
    return "good" if kappa > 0.6 else "fair" if kappa > 0.4 else "poor"


def print_applied(found: Mapping[str, Any], out: Path) -> None:
    """Print what applying verdicts changed."""
    print(t("review.applied", rows=found["rows"], written=found["written"], out=str(out)))
    for change, count in found["counts"].items():
        if count:
            rows = [c["row"] for c in found["changes"] if c["change"] == change]
            print("  " + t(f"review.change.{change}", count=count) + (f": {_rows(rows)}" if rows else ""))


def _rows(rows: Sequence[int]) -> str:
    return ", ".join(map(str, rows[:_ROWS_SHOWN])) + (" …" if len(rows) > _ROWS_SHOWN else "")
