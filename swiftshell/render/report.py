"""Write a run's report as one HTML file: no script, nothing fetched, light and dark, narrow and wide."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem
from swiftshell.i18n import has, hint_of, language, t, what
from swiftshell.recipe.describe import describe_param
from swiftshell.render import words
from swiftshell.render.charts import Line, interval, line_chart
from swiftshell.render.report_style import STYLE

Json = Mapping[str, Any]

# (title, ((metric, colour), …), rule): what is drawn, as far as it was logged
_CHARTS: tuple[tuple[str, tuple[tuple[str, str], ...], float | None], ...] = (
    ("loss", (("loss", "c1"), ("eval_loss", "c2")), None),
    ("rewards", (("rewards/chosen", "c3"), ("rewards/rejected", "c4"), ("rewards/margins", "c1")), 0.0),
    ("kl", (("kl/unclamped", "c2"), ("kl", "c5"), ("kl/probe", "c1")), 0.0),
    ("per_token", (("logratios/chosen_per_token", "c3"), ("logratios/rejected_per_token", "c4")), 0.0),
    ("held_out", (("eval_preference_auc", "c1"), ("eval_preference_accuracy", "c3")), 0.5),
    ("length", (("eval_length_ratio", "c2"), ("eval_reward_length_correlation", "c5")), 0.0),
    ("accuracy", (("mean_token_accuracy", "c1"), ("rewards/accuracies", "c3")), None),
)
_HELD_OUT = (
    "preference_auc",
    "preference_accuracy",
    "threshold_accuracy",
    "reward_chosen",
    "reward_rejected",
    "length_ratio",
    "reward_length_correlation",
    "length_auc",
    "preference_auc_per_token",
)
_TOLD = (
    "rows",
    "rows_trained",
    "rows_dropped",
    "rows_repeated",
    "desirable",
    "undesirable",
    "desirable_weight",
    "undesirable_weight",
    "pairs",
    "one_sided_batches",
    "padding",
    "kl_padding",
    "optimizer_steps",
    "epochs",
    "effective_batch_size",
    "trainable_parameters",
)


def write_report(facts: Json, path: Path) -> None:
    """Write the page, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(page(facts))
        os.chmod(temporary, 0o640)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def page(facts: Json) -> str:
    """Return the report of `api.report.report_facts` in the language in force."""
    title = f"{facts.get('name') or facts.get('run')} · {facts.get('run')}"
    body = [
        _header(facts),
        *(_problem_card(p) for p in facts.get("problems") or []),
        *(_step(step, many=len(facts["steps"]) > 1) for step in facts["steps"]),
        _next(facts),
        _footer(facts),
    ]
    return (
        f'<!doctype html>\n<html lang="{language()}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>{''.join(body)}</main></body></html>\n"
    )


def _header(facts: Json) -> str:
    state = words.state_of(facts)
    return (
        f'<header><p class="kicker">{escape(t("report.title"))}</p><h1>{escape(str(facts.get("run")))}</h1>'
        f'<p><span class="state {_tone(state)}">{escape(words.state_word(state))}</span> {escape(_when(facts))}</p></header>'
    )


def _when(facts: Json) -> str:
    moments = [m for s in facts["steps"] if (m := words.moment(s.get("started"))) is not None]
    seconds = sum(
        float(s["duration_s"]) for s in facts["steps"] if s.get("duration_s") and not s.get("restored_from")
    )
    started = min(moments).strftime("%Y-%m-%d %H:%M") if moments else ""
    return "  ".join(part for part in (started, words.duration(seconds)) if part)


def _tone(state: str) -> str:
    good = state in ("succeeded", "restored")
    return "good" if good else "bad" if state in ("failed", "lost", "timed_out") else "plain"


def _step(step: Json, *, many: bool) -> str:
    summary = step.get("summary") or {}
    parts = [
        _verdicts(summary),
        _held_out(summary.get("heldout")),
        _charts(step),
        _evaluated(summary.get("models")),
        _guard(summary.get("guard")),
        _side_by_side(_table(t("report.data"), _data(summary)), _table(t("report.lineage"), _lineage(step))),
        _settings(step),
        _messages(step),
    ]
    body = "".join(part for part in parts if part)
    state = words.state_of(step)
    head = f"{step['id']} <small>{escape(str(step['stage']))} · {escape(words.state_word(state))}"
    head += (
        f" · {escape(words.duration(step.get('duration_s')))}</small>"
        if step.get("duration_s")
        else "</small>"
    )
    problems = "".join(_problem_card(p) for p in step.get("problems") or []) if many else ""
    return f"<section><h2>{head}</h2>{problems}{body}</section>"


def _problem_card(problem: Json) -> str:
    return _card(Problem.from_json(problem), "bad" if problem.get("severity", "error") != "note" else "plain")


def _card(problem: Problem, tone: str) -> str:
    hint = hint_of(problem)
    below = f"<p>{escape(t('report.do'))} {escape(hint)}</p>" if hint else ""
    return f'<div class="card {tone}"><strong>{escape(what(problem))}</strong>{below}</div>'


def _verdicts(summary: Json) -> str:
    tones = {"warning": "warn", "note": "good"}
    found = [Problem.from_json(v) for v in summary.get("verdicts") or []]
    return "".join(
        _card(p, "plain" if p.code == "verdict.unclear" else tones.get(p.severity, "plain")) for p in found
    )


def _held_out(told: Json | None) -> str:
    """Return the held-out numbers: at the start, at the end, with intervals, and what changed."""
    if not told:
        return ""
    rows = []
    for name in _HELD_OUT:
        start, end = (told.get("start") or {}).get(name), (told.get("end") or {}).get(name)
        if end is None:
            continue
        known = (told.get("intervals") or {}).get(name)
        change = (told.get("change") or {}).get(name)
        picture = interval(known[0], known[1], known[2], 0.0, 1.0, 0.5) if known and None not in known else ""
        between = f"{_n(known[1])} – {_n(known[2])}" if known and None not in known else ""
        moved = (
            f"{change[0]:+.3f} [{change[1]:+.3f}, {change[2]:+.3f}]" if change and None not in change else ""
        )
        rows.append(
            [_word("metric", name), _n(start), f"<b>{_n(end)}</b>", f"{between} {picture}".strip(), moved]
        )
    heads = [t(f"report.{key}") for key in ("measure", "start", "end", "interval", "change")]
    counts = t(
        "report.held_out_counts",
        answers=told.get("answers", 0),
        prompts=told.get("prompts", 0),
        pairs=told.get("pairs", 0),
    )
    return f"<h3>{escape(t('report.held_out'))}</h3><p>{escape(counts)}</p>{_grid(heads, rows, 'numbers')}"


def _charts(step: Json) -> str:
    series = step.get("series") or {}
    trips = [
        float(m["values"]["step"])
        for m in step.get("messages") or []
        if str(m.get("code", "")).startswith("guard.")
        and m.get("severity") == "warning"
        and isinstance((m.get("values") or {}).get("step"), int | float)
    ]
    drawn = []
    for title, metrics, level in _CHARTS:
        lines = [
            Line(_word("metric", name), series[name], colour)
            for name, colour in metrics
            if len(series.get(name, [])) > 1
        ]
        drawn.append(line_chart(t(f"report.chart.{title}"), lines, marks=trips, level=level))
    figures = "".join(drawn)
    if not figures:
        return ""
    note = f"<p><small>{escape(' '.join([t('report.how_to_read'), *([t('report.trip_marks')] if trips else [])]))}</small></p>"
    return f'<h3>{escape(t("report.curves"))}</h3>{note}<div class="charts">{figures}</div>'


def _evaluated(models: Sequence[Json] | None) -> str:
    """Return an evaluation's table: every model, every metric with its interval."""
    if not models:
        return ""
    names = list(dict.fromkeys(name for model in models for name in model.get("metrics", {})))
    rows = []
    for model in models:
        cells = [f"<code>{escape(str(model.get('name')))}</code>"]
        for name in names:
            value, low, high = [*(model["metrics"].get(name) or []), None, None, None][:3]
            between = (
                f" <small>{_n(low)} – {_n(high)}</small>" if low is not None and high is not None else ""
            )
            cells.append(f"{_n(value)}{between}")
        rows.append(cells)
    heads = [t("report.model"), *(_word("metric", name) for name in names)]
    return f"<h3>{escape(t('report.evaluated'))}</h3>{_grid(heads, rows, 'numbers')}"


def _guard(told: Json | None) -> str:
    legs = (told or {}).get("legs") or []
    if not told or not legs:
        return ""
    if len(legs) == 1 and not told.get("gave_up"):
        return f"<h3>{escape(t('report.guard'))}</h3><p>{escape(t('report.guard_calm'))}</p>"
    rows = []
    for leg in legs:
        trip = leg.get("trip") or {}
        why = what(Problem(str(trip["code"]), _short(trip))) if trip.get("code") else t("report.leg_ended")
        rows.append(
            [
                str(leg.get("number")),
                str(leg.get("start_step")),
                _n(leg.get("learning_rate")),
                _n(leg.get("beta")),
                escape(why),
                "" if leg.get("back_to") is None else str(leg["back_to"]),
            ]
        )
    heads = [
        t(f"report.leg.{key}") for key in ("number", "start_step", "learning_rate", "beta", "end", "back_to")
    ]
    return f"<h3>{escape(t('report.guard'))}</h3>{_grid(heads, rows)}"


def _data(summary: Json) -> list[tuple[str, str]]:
    rows = [
        (_word("fact", name), _n(summary[name]))
        for name in _TOLD
        if isinstance(summary.get(name), int | float) and not isinstance(summary.get(name), bool)
    ]
    replay = summary.get("replay") or {}
    if replay.get("rows"):
        rows.append(
            (
                _word("fact", "replay"),
                t(
                    "report.replay",
                    rows=replay["rows"],
                    available=replay["available"],
                    relabelled=replay["relabelled"],
                ),
            )
        )
    return rows


def _lineage(step: Json) -> list[tuple[str, str]]:
    """Return where the model comes from, what it was held against and how that was proven, and its round."""
    summary, rows = step.get("summary") or {}, []
    for item in step.get("inputs") or []:
        if item.get("slot") in ("policy", "reference", "train_data", "replay_data", "eval_data"):
            rows.append((_word("slot", str(item["slot"])), f"<code>{escape(str(item.get('name')))}</code>"))
    record: Json = next(iter((step.get("records") or {}).values()), {})
    stack = [str(e.get("name") or e.get("id") or e.get("path")) for e in record.get("stack") or []]
    if stack:
        rows.append((t("report.stack"), " → ".join(f"<code>{escape(name)}</code>" for name in stack)))
    if summary.get("reference_difference") is not None:
        rows.append(
            (
                t("report.proof"),
                escape(
                    t(
                        "report.proven",
                        name=summary.get("reference"),
                        difference=f"{summary['reference_difference']:.1g}",
                    )
                ),
            )
        )
    rounds = summary.get("rounds") or {}
    if rounds.get("number"):
        previous = f" ← <code>{escape(str(rounds['previous']))}</code>" if rounds.get("previous") else ""
        rows.append((t("report.round"), f"{rounds['number']}{previous}"))
    for name, (by, low, high) in (rounds.get("difference") or {}).items():
        against = f"{by:+.3f} [{low:+.3f}, {high:+.3f}] {_word('metric', name)}"
        rows.append((t("report.against_previous"), escape(against)))
    data: Json = record.get("dataset") or {}
    if data.get("sha256"):
        rows.append((t("report.digest"), f"<code>{escape(str(data['sha256'])[:16])}</code>"))
    return rows


def _settings(step: Json) -> str:
    settings = step.get("settings") or []
    chosen = [s for s in settings if s["source"] != "default"]
    rest = [s for s in settings if s["source"] == "default"]
    heads = [t("report.setting"), t("report.value"), t("report.source")]
    shown = (
        f"<h3>{escape(t('report.settings'))}</h3>{_grid(heads, [_setting(s) for s in chosen])}"
        if chosen
        else ""
    )
    if rest:
        shown += (
            f"<details><summary>{escape(t('report.defaults', count=len(rest)))}</summary>"
            f"{_grid(heads, [_setting(s) for s in rest])}</details>"
        )
    return shown


def _setting(setting: Json) -> list[str]:
    about = escape(describe_param(str(setting["stage"]), str(setting["name"])), quote=True)
    value = setting["value"]
    text = (
        words.number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
    )
    return [
        f'<code title="{about}">{escape(str(setting["name"]))}</code>',
        escape(text),
        escape(str(setting["source"])),
    ]


def _messages(step: Json) -> str:
    found = [
        Problem.from_json(m)
        for m in step.get("messages") or []
        if not str(m.get("code", "")).startswith("verdict.")
    ]
    if not found:
        return ""
    rows = "".join(
        f'<li class="{"warn" if p.severity == "warning" else ""}">{escape(what(p))}</li>' for p in found
    )
    return f"<details><summary>{escape(t('report.messages', count=len(found)))}</summary><ul>{rows}</ul></details>"


def _next(facts: Json) -> str:
    """Return what to do: the hints of what went wrong stand at their places, here are the commands."""
    commands = list(facts.get("next") or [])
    if facts.get("status") == "over" and facts.get("result") != "succeeded":
        commands = [f"swiftshell resume {facts.get('run')}", f"swiftshell logs {facts.get('run')}"]
    rows = "".join(f"<li><code>{escape(command)}</code></li>" for command in commands)
    return f"<section><h2>{escape(t('report.next'))}</h2><ul>{rows}</ul></section>" if rows else ""


def _footer(facts: Json) -> str:
    made: dict[str, str] = {}
    for step in facts["steps"]:
        for record in (step.get("records") or {}).values():
            made |= record.get("made_by") or {}
    versions = ", ".join(f"{name} {version}" for name, version in made.items())
    parts = [str(facts.get("command") or ""), t("report.seed", seed=facts.get("seed")), versions]
    return f"<footer>{''.join(f'<p>{escape(p)}</p>' for p in parts if p)}</footer>"


def _side_by_side(*parts: str) -> str:
    return (
        f'<div class="beside">{"".join(f"<div>{part}</div>" for part in parts if part)}</div>'
        if any(parts)
        else ""
    )


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    if not rows:
        return ""
    return f"<h3>{escape(title)}</h3>{_grid((), [[escape(name), value] for name, value in rows])}"


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]], look: str = "") -> str:
    """Return a table of HTML cells that scrolls by itself where the page is too narrow for it."""
    head = f"<thead><tr>{''.join(f'<th>{escape(h)}</th>' for h in heads)}</tr></thead>" if heads else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table class="{look}">{head}<tbody>{body}</tbody></table></div>'


def _word(kind: str, name: str) -> str:
    """Return a metric, fact or slot in words; its own name where there are none."""
    key = f"report.{kind}.{name.replace('/', '_')}"
    return t(key) if has(key) else name


def _short(values: Json) -> dict[str, Any]:
    """Return values with three telling digits, for a sentence."""
    return {k: float(f"{v:.3g}") if isinstance(v, float) else v for k, v in values.items()}


def _n(value: Any) -> str:
    if isinstance(value, float):
        value = float(f"{value:.3g}")
    return escape(words.number(value))
