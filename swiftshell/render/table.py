"""Print the final table: every step, how it ended, its time, and what it did to the model on held-out prompts."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO, Any

from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import has_unicode, new_table, open_console

Json = Mapping[str, Any]

# Metrics in the table's order; the first is shown with its interval. Shares are percentages.
_METRICS = ("desirable_share", "exact_match", "perplexity", "preference_accuracy")
_SHARES = frozenset(("desirable_share", "exact_match", "preference_accuracy"))
_TABLE_COLUMNS = 70  # below this the numbers stand under each step instead of beside it
_SINGLE = ("train_loss", "eval_preference_auc", "eval_loss", "loss", "top1_agreement", "mean_kld", "max_abs_logit_difference")


def print_final_table(facts: Json, stream: IO[str] | None = None) -> None:
    """Print what became of a run, from `api.runs.run_facts`."""
    stream = sys.stdout if stream is None else stream
    console = open_console(stream)
    unicode = has_unicode(stream)
    measured, report = _measured(facts["steps"])
    title = t("render.run_title", run=facts.get("run", ""), state=words.state_word(words.state_of(facts)))
    console.print()
    console.print(title, style="bold " + words.style(words.state_of(facts)))
    rows = _rows(facts["steps"], measured)
    draw = _narrow if console.width < _TABLE_COLUMNS else _wide
    console.print(draw(rows, unicode, console.width))
    for line in _below(facts, report, unicode):
        console.print(line, style="dim")


def _measured(steps: list[Json]) -> tuple[dict[str, Json], Json | None]:
    """Return the evaluated models by name, in order, and the last evaluation's summary."""
    for step in reversed(steps):
        summary = step.get("summary") or {}
        if step.get("stage") == "evaluate" and summary.get("models"):
            return {str(model["name"]): model for model in summary["models"]}, summary
    return {}, None


def _rows(steps: list[Json], measured: dict[str, Json]) -> list[tuple[Json | None, str, Json | None]]:
    """Pair steps with what they did to the model; models that no step of this run made come under the steps."""
    left = dict(measured)
    rows: list[tuple[Json | None, str, Json | None]] = []
    for step in steps:
        name = next((n for n in left if _made_by(n, str(step["id"]))), None)
        rows.append((step, str(step["id"]), left.pop(name) if name is not None else None))
    return [*rows, *((None, name, model) for name, model in left.items())]


def _made_by(model: str, step: str) -> bool:
    """Tell whether a model's name (`sft.adapter`, or an id `run/sft/adapter`) says that a step made it."""
    return model == step or model.split(".")[0] == step or (len(p := model.split("/")) == 3 and p[1] == step)


def _wide(rows: list[tuple[Json | None, str, Json | None]], unicode: bool, width: int) -> Any:
    from rich.text import Text

    shown = [m for m in _METRICS if any(model and m in model["metrics"] for _, _, model in rows)]
    with_stage = width >= 90 and any(step and step.get("stage") != step["id"] for step, _, _ in rows)
    with_words = width >= 78 or not shown
    table = new_table(t("render.step"), unicode=unicode)
    if with_stage:
        table.add_column(t("render.stage"))
    if with_words:
        table.add_column(t("render.status"), no_wrap=True)
    table.add_column(t("render.time"), justify="right", no_wrap=True)
    for metric in shown:
        table.add_column(t(f"render.metric.{metric}"), justify="right", no_wrap=True)
    details = not shown and any(_details(step) for step, _, _ in rows if step)
    if details:
        table.add_column(t("render.numbers"))
    for step, name, model in rows:
        state = words.state_of(step) if step else ""
        mark = words.mark(state, unicode=unicode) if step else ""
        cells: list[Any] = [
            Text(f"{mark:<2} {name}" if not unicode else f"{mark:<1} {name}", overflow="fold")
        ]
        cells += [step.get("stage", "") if step else ""] if with_stage else []
        cells += [words.state_word(state) if step else ""] if with_words else []
        cells.append(words.duration(_seconds(step)))
        cells += [_aligned(_cell(model, metric, unicode)) for metric in shown]
        cells += [_details(step) if step else ""] if details else []
        table.add_row(
            *cells, style=words.style(state) if state in ("failed", "lost", "skipped", "waiting") else None
        )
    return table


def _aligned(cell: str) -> str:
    """Return a cell whose digits stand under those of cells that end in a sign of change."""
    return f"{cell}  " if cell and (cell[-1].isdigit() or cell[-1] in "%]") else cell


def _narrow(rows: list[tuple[Json | None, str, Json | None]], unicode: bool, width: int) -> Any:
    """Return two lines a step, for terminals too narrow for a table."""
    from rich.text import Text

    lines = Text()
    for step, name, model in rows:
        state = words.state_of(step) if step else ""
        head = [words.mark(state, unicode=unicode) if step else " ", name]
        head += [words.state_word(state), words.duration(_seconds(step))] if step else []
        lines.append(
            "  ".join(part for part in head if part) + "\n", style=words.style(state) if step else ""
        )
        values = [
            f"{t(f'render.short.{m}')} {_cell(model, m, unicode)}"
            for m in _METRICS
            if _cell(model, m, unicode)
        ]
        if not any(model for _, _, model in rows) and step and (details := _details(step)):
            values = [details]
        for value in values:
            lines.append(f"   {value}\n")
    lines.rstrip()
    return lines


def _seconds(step: Json | None) -> float | None:
    return step.get("duration_s") if step and not step.get("restored_from") else None


def _cell(model: Json | None, metric: str, unicode: bool) -> str:
    """Return a value, the first metric's 95 % interval, and the sign of the change from the model before."""
    found = (model or {}).get("metrics", {}).get(metric)
    if not found or found[0] is None:
        return ""
    value, low, high = [*found, None, None][:3]
    sign = _sign((model or {}).get("change", {}).get(metric), unicode)
    if metric not in _SHARES:
        return f"{words.number(value)}{sign}"
    if metric != _METRICS[0] or low is None or high is None:
        return f"{words.percent(value)}{sign}"
    dash = "–" if unicode else "-"
    return f"{words.percent(value)} [{low * 100:.0f}{dash}{high * 100:.0f}]{sign}"


def _sign(change: Any, unicode: bool) -> str:
    if not change or None in change[1:3] or len(change) < 3:
        return ""
    _, low, high = change[:3]
    if low > 0:
        return " ▲" if unicode else " +"
    if high < 0:
        return " ▼" if unicode else " -"
    return " ≈" if unicode else " ~"


def _details(step: Json) -> str:
    """Return a few numbers of a step's own, for runs that evaluate nothing."""
    metrics = step.get("metrics") or {}
    names = [n for n in _SINGLE if n in metrics] or [n for n in metrics if "/" not in n]
    return ", ".join(f"{name} {words.number(metrics[name])}" for name in names[:2])


def _below(facts: Json, report: Json | None, unicode: bool) -> list[str]:
    """Return the lines under the table: what the numbers are, what was reused, where the results lie, what next."""
    lines = []
    if report is not None:
        up, down, same = ("▲", "▼", "≈") if unicode else ("+", "-", "~")
        lines.append(t("render.legend", rows=report.get("rows", ""), data=report.get("data", "")))
        if any(model.get("change") for model in report["models"]):
            lines.append(t("render.legend_change", up=up, down=down, same=same))
        if report.get("left_out"):
            lines.append(t("render.left_out", metrics=", ".join(_metric_word(m) for m in report["left_out"])))
    restored = [str(s["id"]) for s in facts["steps"] if s.get("restored_from")]
    if restored:
        lines.append(t("render.restored", steps=", ".join(restored)))
    lines += [
        t("render.output", slot=slot, path=words.shortest(path))
        for slot, path in _last_outputs(facts).items()
    ]
    if facts.get("status") == "over" and facts.get("result") != "succeeded":
        refused = any(s.get("result") == "failed" and s.get("outputs") for s in facts["steps"])
        lines.append(t("render.set_aside") if refused else t("render.resume", run=facts.get("run", "")))
    return lines


def _metric_word(metric: str) -> str:
    return t(f"render.metric.{metric}").replace("\n", " ")


def _last_outputs(facts: Json) -> dict[str, str]:
    """Return the last result of every kind that a person may want to open."""
    found: dict[str, str] = {}
    for step in facts["steps"]:
        if step.get("stage") != "download":
            for slot, path in (step.get("outputs") or {}).items():
                found[slot] = path
    return found
