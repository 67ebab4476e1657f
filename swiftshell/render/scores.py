"""Print scores: a histogram for each with its threshold, what the calibration is worth, what a judge said."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import has_unicode

_BAR_CELLS = 32


def print_scores(found: Mapping[str, Any]) -> None:
    """Print what `api.scoring.Scoring.run` returns."""
    for name, facts in found["scores"].items():
        mean = "-" if facts["mean"] is None else words.number(round(facts["mean"], 4))
        print(t("score.head", scorer=name, rows=words.number(facts["rows"]), mean=mean))
        if facts["without"]:
            print("  " + t("score.without", rows=words.number(facts["without"])))
        print_histogram(facts["histogram"])
    if (judge := found["judge"]) is not None:
        print(
            t("score.judged", **{k: words.number(v) if isinstance(v, int) else v for k, v in judge.items()})
        )
    if (calibration := found["calibration"]) is not None:
        _print_calibration(calibration)
    if (combined := found["combined"]) is not None:
        numbers = {"rows": words.number(combined["rows"]), "desirable": words.number(combined["desirable"])}
        print(t("score.combined", **numbers))
        print_histogram(combined["histogram"])
    print(t("logs.written", rows=words.number(found["written"]), path=found["out"]))
    print(
        t(
            "score.then" if found["labelled"] or combined is not None else "score.then_combine",
            path=found["out"],
        )
    )


def print_histogram(histogram: Mapping[str, Any]) -> None:
    """Print one bin a line, the threshold as a line between them."""
    for line in histogram_lines(histogram, unicode=has_unicode(sys.stdout)):
        print("  " + line)


def histogram_lines(histogram: Mapping[str, Any], *, unicode: bool) -> list[str]:
    """Return the lines of `swiftshell.data.histogram.histogram`: its bins from low to high, cut by the threshold."""
    counts, edges = histogram["counts"], histogram["edges"]
    threshold = histogram.get("threshold")
    if not counts:
        return []
    most, lines, cut = max(counts), [], threshold is None
    labels = [words.number(float(f"{edge:.4g}")) for edge in edges]
    width = max(map(len, labels))
    for i, count in enumerate(counts):
        if not cut and edges[i] >= threshold:
            lines.append(_cut(histogram, width, unicode))
            cut = True
        cells = max(1, round(count / most * _BAR_CELLS)) if count else 0
        lines.append(f"{labels[i]:>{width}} {('█' if unicode else '#') * cells} {words.number(count)}")
    return lines if cut else [*lines, _cut(histogram, width, unicode)]


def _cut(histogram: Mapping[str, Any], width: int, unicode: bool) -> str:
    rule = ("─" if unicode else "-") * 4
    return f"{words.number(histogram['threshold']):>{width}} {rule} " + t(
        "score.threshold", below=words.number(histogram["below"]), above=words.number(histogram["above"])
    )


def _print_calibration(found: Mapping[str, Any]) -> None:
    numbers = {k: words.number(v) for k, v in found.items() if isinstance(v, int)}
    values = {k: f"{found[k]:.3f}" for k in ("auc", "auc_low", "log_loss", "base_loss")}
    print(t("score.calibration", **numbers, **values))
    weights = ", ".join(
        f"{name} {weight:+.2f}" for name, weight in found["weights"].items() if name != "intercept"
    )
    print("  " + t("score.weights", weights=weights))
    print("  " + t("score.bins"))
    for p, share, rows in found["bins"]:
        print(f"    {words.percent(p):>5} → {words.percent(share):>5}  ({words.number(rows)})")
