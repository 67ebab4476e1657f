"""Print what a check of a data set found: what it was taken for, how much of it, how long, and what is odd."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO, Any

from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import has_unicode, open_console

_BAR_CELLS = 24


def print_report(
    report: Mapping[str, Any], *, good: bool, path: str, purpose: str, stream: IO[str] | None = None
) -> None:
    """Print `DataReport.as_json()`; its problems are printed by the caller, to standard error."""
    from rich.table import Table

    stream = sys.stdout if stream is None else stream
    console = open_console(stream)
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="cyan", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row(t("render.data.rows"), _rows(report))
    if report.get("format"):
        facts.add_row(t("render.data.format"), report["format"])
        facts.add_row(t("render.data.columns"), ", ".join(f"{k} = {v}" for k, v in report["columns"].items()))
    if report.get("unused"):
        facts.add_row(t("render.data.unused"), ", ".join(report["unused"]))
    if report.get("label_rule"):
        facts.add_row(t("render.data.labels"), t(f"render.label_rule.{report['label_rule']}"))
    if report.get("classes"):
        facts.add_row(t("render.data.classes"), _classes(report["classes"]))
    if report.get("thumbs"):
        facts.add_row(t("render.data.thumbs"), thumbs_words(report["thumbs"]))
    if images := report.get("images"):
        facts.add_row(t("images.label"), t("images.in_data", rows=images["rows"], files=images["files"]))
    if report.get("counts"):
        counts = sorted(report["counts"].items(), key=lambda item: -item[1])
        facts.add_row(t("render.data.found"), ", ".join(f"{code} × {n}" for code, n in counts))
    console.print(facts)
    for part, histogram in (report.get("characters") or {}).items():
        _print_histogram(console, t(f"render.data.length_{part}"), histogram, has_unicode(stream))
    if good:
        message = t("cli.data_good", path=path, rows=report["rows"], purpose=purpose)
        console.print(message, style="green", soft_wrap=True)


def _rows(report: Mapping[str, Any]) -> str:
    text = words.number(report["rows"])
    if report["usable"] != report["rows"]:
        text += f", {t('render.data.usable', rows=words.number(report['usable']))}"
    if report.get("bad_rows"):
        text += f", {t('render.data.bad', rows=words.number(report['bad_rows']))}"
    return text


def _classes(classes: Mapping[str, int]) -> str:
    total = sum(classes.values()) or 1
    return ", ".join(f"{t('render.' + name)} {n} ({words.percent(n / total)})" for name, n in classes.items())


def thumbs_words(thumbs: Mapping[str, Any]) -> str:
    """Return what KTO weighs in words; what is plain (no probabilities, all weights alike) is left out."""
    weighed = thumbs["weight_min"] != thumbs["weight_max"]
    parts = []
    if thumbs["soft"]:
        parts.append(t("render.thumbs.soft", rows=words.number(thumbs["soft"])))
    if weighed:
        low, high = words.number(thumbs["weight_min"]), words.number(thumbs["weight_max"])
        parts.append(t("render.thumbs.weights", low=low, high=high))
    if thumbs["weightless"]:
        parts.append(t("render.thumbs.weightless", rows=words.number(thumbs["weightless"])))
    if thumbs["soft"] or weighed:
        both = {name: words.number(thumbs[name]) for name in ("desirable", "undesirable")}
        parts.append(t("render.thumbs.counts", **both))
    if "desirable_weight" in thumbs:
        both = {name: words.number(thumbs[name]) for name in ("desirable_weight", "undesirable_weight")}
        capped = f" ({t('render.thumbs.capped')})" if thumbs["capped"] else ""
        parts.append(t("render.thumbs.classes", **both) + capped)
    return "\n".join(parts)


def _print_histogram(console: Any, title: str, histogram: Mapping[str, Any], unicode: bool) -> None:
    """Print lengths in characters, one bin a line, empty bins at both ends left out."""
    counts, edges = list(histogram["counts"]), list(histogram["edges"])
    filled = [i for i, n in enumerate(counts) if n]
    if not filled:
        return
    most = max(counts)
    mean, longest = words.number(float(histogram["mean"])), words.number(histogram["max"])
    console.print(t("render.data.lengths", part=title, mean=mean, max=longest))
    for i in range(filled[0], filled[-1] + 1):
        upper = f"{edges[i + 1] - 1}" if i + 1 < len(edges) else ""
        cells = max(1, round(counts[i] / most * _BAR_CELLS)) if counts[i] else 0
        label = f"{edges[i]}-{upper}"
        console.print(f"  {label:>11} {('█' if unicode else '#') * cells} {words.number(counts[i])}")
