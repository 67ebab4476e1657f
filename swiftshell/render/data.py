"""Print what a check of a data set found: what it was taken for, how much of it, how long, and what is odd."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO, Any

from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import has_unicode, open_console
from swiftshell.render.histogram import Histogram, print_histogram

_TOLD_SHARE = 0.01  # languages of fewer rows are only counted


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
    for name, text in more_facts(report):
        facts.add_row(name, text)
    console.print(facts)
    for title, histogram in length_histograms(report):
        console.print(title)
        print_histogram(console, histogram, has_unicode(stream))
    if (scores := score_histogram(report)) is not None:
        console.print(scores[0])
        print_histogram(console, scores[1], has_unicode(stream))
    if good:
        key = "scan.good_but" if report.get("counts") else "cli.data_good"
        message = t(key, path=path, rows=report["rows"], purpose=purpose)
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


def length_histograms(report: Mapping[str, Any]) -> list[tuple[str, Histogram]]:
    """Return lengths with their titles: in tokens where a tokenizer counted them, else in characters."""
    tokens = report.get("tokens") or {}
    if tokens:
        limit = tokens["max_length"] or None
        name = t("scan.limit", max_length=limit) if limit else ""
        drawn = Histogram(tokens["edges"], tokens["counts"], limit, name, above=True)
        return [(t("scan.tokens", model=tokens["model"]), drawn)]
    found = []
    for part, lengths in (report.get("characters") or {}).items():
        mean, longest = words.number(float(lengths["mean"])), words.number(lengths["max"])
        title = t("render.data.lengths", part=t(f"render.data.length_{part}"), mean=mean, max=longest)
        found.append((title, Histogram(lengths["edges"], lengths["counts"])))
    return found


def score_histogram(report: Mapping[str, Any]) -> tuple[str, Histogram] | None:
    """Return the scores of a label column with the threshold that cuts them, if labels are scores."""
    scores = report.get("scores") or {}
    if not scores:
        return None
    threshold = scores.get("threshold")
    note = t("scan.no_threshold") if threshold is None else t("scan.threshold", threshold=words.number(threshold))
    # What the threshold lets through is not beyond a limit: the rule alone is drawn, at the first bin that passes.
    return f"{t('scan.scores')} ({note})", Histogram(scores["edges"], scores["counts"], threshold, note)


def more_facts(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what tokens and a deep look add to the facts, as (name, text)."""
    found = []
    if tokens := report.get("tokens"):
        numbers = {name: words.number(tokens[name]) for name in ("mean", "p50", "p95", "p99", "max")}
        text = t("scan.tokens_facts", **numbers)
        if limit := tokens["max_length"]:
            over = tokens["over"]
            share = words.percent(over / tokens["texts"])
            text += "\n" + (t("scan.tokens_over", over=words.number(over), percent=share, max_length=limit) if over
                            else t("scan.tokens_fit", max_length=limit))
        found.append((t("scan.tokens_name"), text))
    deep = report.get("deep") or {}
    if told := deep.get("language_rows"):
        named = {**deep["languages"], t("deep.unknown"): deep["language_unknown"]}
        common = [f"{name} {words.percent(n / told)}" for name, n in named.items() if n / told >= _TOLD_SHARE]
        rest = told - sum(n for n in named.values() if n / told >= _TOLD_SHARE)
        common += [t("deep.other_languages", rows=words.number(rest))] if rest else []
        found.append((t("deep.languages"), t("deep.languages_of", mix=", ".join(common), rows=words.number(told))))
    if "near_duplicates" in deep:
        near = {"number": words.number(deep["near_duplicates"]), "short": words.number(deep["too_short_to_compare"])}
        found.append((t("deep.near"), t("deep.near_of", **near)))
    if other := deep.get("against"):
        found.append((t("deep.against"), t("deep.against_of", path=other["path"], rows=words.number(other["rows"]))))
    return found
