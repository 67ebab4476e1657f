"""Write what a check of a data set found as one HTML file: no script, nothing fetched, light and dark."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem
from swiftshell.i18n import hint_of, language, place, t, what
from swiftshell.render import words
from swiftshell.render.data import length_histograms, more_facts, score_histogram, thumbs_words
from swiftshell.render.histogram import svg_histogram
from swiftshell.render.report_style import STYLE

Json = Mapping[str, Any]

_TONES = {"error": "bad", "warning": "warn", "note": "plain"}
_SHOWN_PER_CODE = 20


def write_page(report: Json, problems: Sequence[Problem], path: Path, *, good: bool) -> None:
    """Write the page, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(page(report, problems, good=good))
        os.chmod(temporary, 0o640)  # rows are quoted in it
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def page(report: Json, problems: Sequence[Problem], *, good: bool) -> str:
    """Return the page in the language in force."""
    title = t("scan.title", name=Path(str(report["path"])).name)
    verdict = t("scan.verdict_good" if good else "scan.verdict_bad", purpose=report["purpose"])
    charts = [svg_histogram(name, histogram) for name, histogram in length_histograms(report)]
    if (scores := score_histogram(report)) is not None:
        charts.append(svg_histogram(*scores))
    body = [
        _header(str(report["path"]), title, verdict, "good" if good else "bad"),
        _section(t("scan.facts"), _table(_facts(report))),
        _section(t("scan.lengths"), f'<div class="charts">{"".join(charts)}</div>') if charts else "",
        _section(t("scan.counts"), _table(_counts(report))) if report.get("counts") else "",
        _problems(problems),
    ]
    return (
        f'<!doctype html>\n<html lang="{language()}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(path: str, title: str, verdict: str, tone: str) -> str:
    return (
        f'<header><p class="kicker">{escape(path)}</p><h1>{escape(title)}</h1>'
        f'<p><span class="state {tone}">{escape(verdict)}</span></p></header>'
    )


def _facts(report: Json) -> list[tuple[str, str]]:
    rows = f"{words.number(report['rows'])} ({t('render.data.usable', rows=words.number(report['usable']))})"
    found = [(t("render.data.rows"), rows)]
    if report.get("format"):
        found.append((t("render.data.format"), str(report["format"])))
        found.append((t("render.data.columns"), ", ".join(f"{k} = {v}" for k, v in report["columns"].items())))
    if report.get("unused"):
        found.append((t("render.data.unused"), ", ".join(report["unused"])))
    if report.get("label_rule"):
        found.append((t("render.data.labels"), t(f"render.label_rule.{report['label_rule']}")))
    if classes := report.get("classes"):
        text = ", ".join(f"{t('render.' + name)} {words.number(n)}" for name, n in classes.items())
        found.append((t("render.data.classes"), text))
    if report.get("thumbs"):
        found.append((t("render.data.thumbs"), thumbs_words(report["thumbs"])))
    return found + more_facts(report)


def _counts(report: Json) -> list[tuple[str, str]]:
    return [(code, words.number(n)) for code, n in sorted(report["counts"].items(), key=lambda item: -item[1])]


def _section(title: str, inner: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{inner}</section>"


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{escape(name)}</td><td>{escape(text).replace(chr(10), '<br/>')}</td></tr>" for name, text in rows)
    return f'<div class="scroll"><table><tbody>{cells}</tbody></table></div>'


def _problems(problems: Sequence[Problem]) -> str:
    """Return a card for every kind of problem, errors first: what to do, and where."""
    kinds: dict[str, list[Problem]] = {}
    for problem in sorted(problems, key=lambda p: ("error", "warning", "note").index(p.severity)):
        if not problem.code.endswith(".and_more"):
            kinds.setdefault(problem.code, []).append(problem)
    if not kinds:
        return ""
    cards = []
    for code, found in kinds.items():
        rows = [(place(p) or "", what(p)) for p in found[:_SHOWN_PER_CODE]]
        head = f"<strong>{escape(t('core.' + found[0].severity))}[{escape(code)}]</strong>"
        cards.append(f'<div class="card {_TONES[found[0].severity]}">{head}<p>{escape(hint_of(found[0]) or "")}</p>'
                     f"{_table(rows)}</div>")
    return _section(t("scan.problems"), "".join(cards))
