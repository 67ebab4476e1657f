"""Write docs/claims.md and docs/claims.zh.md from the results: numbers come from the files, sentences from the texts.

python -m benchmarks.claims.tables
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DOCS = HERE.parents[1] / "docs"
PAGES = {"en": "claims.md", "zh": "claims.zh.md"}
# Claims in the order told, with the columns of their tables.
CLAIMS: dict[str, tuple[str, ...]] = {
    "kto_lifts": ("desirable_share", "preference_auc", "reward_auc", "answer_tokens"),
    "imbalance": ("desirable_share", "reward_auc"),
    "noise": ("desirable_share", "reward_auc", "probe_auc", "recall", "precision"),
    "audit": (
        "desirable_share",
        "reward_auc",
        "probe_auc",
        "recall",
        "precision",
        "detection_auc",
        "estimated",
        "sure",
    ),
    "guard": ("desirable_share", "reward_auc", "restarts", "gave_up", "highest_kl"),
    "wrong_reference": ("caught", "steps", "difference", "trained_unproven"),
    "soft_labels": ("desirable_share", "reward_auc", "wrong_labels"),
    "batches": (
        "desirable_share",
        "reward_auc",
        "reward_auc_within",
        "preference_auc",
        "padding",
        "kl_padding",
        "peak_mib",
    ),
    "nf4": ("desirable_share", "reward_auc"),
}
_PERCENT = {"desirable_share", "precision", "recall", "wrong_labels", "estimated", "sure"}
_AREAS = {"reward_auc", "reward_auc_within", "preference_auc", "probe_auc"}
_COUNTED = {"caught", "trained_unproven", "gave_up"}  # yes or no in each seed
_RANGED = {"difference", "restarts", "steps", "highest_kl"}  # a mean says little: least to most
_DIGITS = {
    "peak_mib": 0,
    "flagged": 0,
    "steps": 0,
    "restarts": 0,
    "answer_tokens": 1,
    "padding": 2,
    "kl_padding": 2,
}
_DIFF = re.compile(r"\{diff:([^|}]+)\|([^|}]+)\|([^|}]+)\}")


def main() -> None:
    """Write both pages."""
    for language, name in PAGES.items():
        (DOCS / name).write_text(page(language), encoding="utf-8")


def results() -> dict[str, dict[str, Any]]:
    """Return the committed results by claim."""
    found = {}
    for name in CLAIMS:
        path = HERE / "results" / f"{name}.json"
        if path.is_file():
            found[name] = json.loads(path.read_text(encoding="utf-8"))
    return found


def texts(language: str) -> dict[str, Any]:
    """Return a language's sentences."""
    found: dict[str, Any] = json.loads((HERE / "texts" / f"{language}.json").read_text(encoding="utf-8"))
    return found


def page(language: str) -> str:
    """Return a whole page."""
    words, measured = texts(language), results()
    told = words["page"]
    parts = [f"# {told['title']}", told["intro"], told["models"], told["judge"]]
    for number, (name, columns) in enumerate(CLAIMS.items(), 1):
        text = words["claims"][name]
        parts += [f"## {number}. {text['title']}", text["about"]]
        result = measured.get(name)
        parts += section(result, text, columns, words) if result else [told["none"]]
    return "\n\n".join(parts) + "\n"


def section(
    result: Mapping[str, Any], text: Mapping[str, Any], columns: Sequence[str], words: Mapping[str, Any]
) -> list[str]:
    """Return conclusion, tables and circumstances of one claim."""
    told = words["page"]
    verdict = _DIFF.sub(
        lambda m: _change(_find(result, *m.groups()), told), text["verdicts"][result["verdict"]]
    )
    parts = [f"**{verdict}**"]
    if text.get("more"):
        parts.append(text["more"])
    parts.append(arms_table(result, text, columns, words))
    if result["differences"]:
        parts.append(differences_table(result, text, words))
    if len(result["seeds"]) < 2:
        parts.append(told["single"])
    return [*parts, f"{told['command'].format(command=result['command'])} {footer(result, told)}"]


def arms_table(
    result: Mapping[str, Any], text: Mapping[str, Any], columns: Sequence[str], words: Mapping[str, Any]
) -> str:
    """Return the arms with mean and interval; a metric that an arm does not have is a dash."""
    used = [c for c in columns if any(c in metrics for metrics in result["arms"].values())]
    lines = [[words["page"]["arm"], *(words["columns"][c] for c in used)]]
    for arm, metrics in result["arms"].items():
        cells = [_cell(metrics[c], c, words["page"]) if c in metrics else "–" for c in used]
        lines.append([label(arm, text), *cells])
    return _table(lines)


def differences_table(result: Mapping[str, Any], text: Mapping[str, Any], words: Mapping[str, Any]) -> str:
    """Return the paired differences."""
    told = words["page"]
    lines = [[told["difference"], "", told["change"]]]
    for d in result["differences"]:
        pair = told["minus"].format(later=label(d["later"], text), earlier=label(d["earlier"], text))
        lines.append([pair, words["columns"][d["metric"]], _change(d, told)])
    return _table(lines)


def label(arm: str, text: Mapping[str, Any]) -> str:
    """Return what an arm is called; a composed one is put together from its words."""
    names: Mapping[str, str] = text["arms"]
    if arm in names:
        return names[arm]
    return str(text["words"]).format(*(names.get(word, word) for word in arm.split()))


def footer(result: Mapping[str, Any], told: Mapping[str, str]) -> str:
    versions = ", ".join(f"{k} {v}" for k, v in result["versions"].items())
    seeds = ", ".join(map(str, result["seeds"]))
    minutes = f"{result['steps_s'] / 60:.0f}" if result["steps_s"] >= 60 else "1"
    return told["footer"].format(
        seeds=seeds, date=result["date"], machine=result["machine"], minutes=minutes, versions=versions
    )


def _find(result: Mapping[str, Any], later: str, earlier: str, metric: str) -> Mapping[str, Any]:
    wanted = (later, earlier, metric)
    found: Mapping[str, Any] = next(
        d for d in result["differences"] if (d["later"], d["earlier"], d["metric"]) == wanted
    )
    return found


def _cell(value: Mapping[str, Any], metric: str, told: Mapping[str, str]) -> str:
    seeds = value["per_seed"]
    if metric in _COUNTED:
        return told["count"].format(count=round(sum(seeds)), total=len(seeds))
    scale, digits, sign = _format(metric)
    if metric in _RANGED:
        ends = [f"{scale * v:.{digits}f}" for v in (min(seeds), max(seeds))]
        return ends[0] if ends[0] == ends[1] else "–".join(ends)
    mean = f"{scale * value['mean']:.{digits}f}{sign}"
    if value["low"] is None or value["low"] == value["high"]:
        return mean
    low, high = value["low"], value["high"]
    if metric in _PERCENT | _AREAS:
        low, high = max(0.0, low), min(1.0, high)
    return f"{mean} [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"


def _change(d: Mapping[str, Any], told: Mapping[str, str]) -> str:
    scale, digits, sign = _format(d["metric"])
    mean = f"{scale * d['mean']:+.{digits}f}{sign and ' ' + told['points']}"
    if d["low"] is None:
        return mean
    return f"{mean} [{scale * d['low']:+.{digits}f}, {scale * d['high']:+.{digits}f}]"


def _format(metric: str) -> tuple[int, int, str]:
    """Return factor, decimals and unit of a metric."""
    return (100, 1, " %") if metric in _PERCENT else (1, _DIGITS.get(metric, 3), "")


def _table(lines: Sequence[Sequence[str]]) -> str:
    head, *rows = [f"| {' | '.join(cells)} |" for cells in lines]
    return "\n".join([head, "|" + "---|" * len(lines[0]), *rows])


if __name__ == "__main__":
    main()
