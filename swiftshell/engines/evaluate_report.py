"""Turn measurements into the report: numbers with intervals, what each step changed, and every answer with its verdict.

The shape of `summary` (also `report.json`), which the final table reads:

    {"rows": 400, "data": "heldout", "models": [
       {"name": "kto.adapter", "kind": "adapter", "compared_with": "sft.adapter",
        "metrics": {"desirable_share": [value, low, high, rows], …},
        "change": {"desirable_share": [difference, low, high], …}}, …],
     "scoring": {metric: how it was computed}, "left_out": [metric, …], "max_new_tokens": 48}
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.data.rules import judge
from swiftshell.engines import metrics as m
from swiftshell.engines.heldout import HeldoutRow
from swiftshell.run.files import write_json

METRIC_COLUMNS = {
    "desirable_share": "rules",
    "exact_match": "reference",
    "perplexity": "reference",
    "preference_accuracy": "chosen, rejected",
    "preference_auc": "chosen, rejected | completion, label",
}
# How each number is computed; part of the report, so that nobody has to guess.
SCORING = {
    "desirable_share": "share of greedy answers that meet every rule of their row; Wilson 95 %",
    "exact_match": "share of greedy answers equal to the reference after NFKC, case and space folding; Wilson 95 %",
    "perplexity": "exp(-sum log p / tokens) of the reference given the prompt, end of turn included; bootstrap 95 %",
    "preference_accuracy": "share of pairs with a higher mean log p per token for chosen than for rejected; Wilson 95 %",
    "preference_auc": "ROC area of the mean log p per token, desirable against undesirable; bootstrap 95 %",
    "reward_accuracy": "share of pairs whose implicit reward (summed log p minus the recorded reference model's) is higher "
                       "for chosen than for rejected; Wilson 95 %",
    "reward_auc": "ROC area of the implicit reward against the recorded reference model; bootstrap 95 %",
    "answer_tokens": "mean tokens of a greedy answer; bootstrap 95 %",
}
_SHARES = {"desirable_share", "exact_match", "preference_accuracy", "reward_accuracy"}


@dataclass
class Measured:
    """What was measured of one model, by row index.

    Attributes:
        answers: row -> {"answer", "tokens", "finish_reason"}.
        scores: row -> {"reference" | "good0" | "bad0" …: [summed log-probability (nats), tokens]}.
    """

    answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    scores: dict[int, dict[str, list[float]]] = field(default_factory=dict)
    tokenizer: str = ""

    def take(self, row: Mapping[str, Any]) -> None:
        """Take one row as it stands in the log."""
        if "answer" in row:
            self.answers[row["row"]] = {k: row[k] for k in ("answer", "tokens", "finish_reason")}
        else:
            self.scores[row["row"]] = row["scores"]


@dataclass
class Series:
    """One metric of one model over its rows: the statistic, and the per-row values where it is a share."""

    rows: int
    statistic: m.Statistic
    values: list[float] | None = None

    def interval(self, share: bool) -> list[float | None]:
        """Return [value, low, high, rows]."""
        value = m.over_all(self.rows, self.statistic)
        if share and self.values is not None:
            low, high = m.wilson(sum(self.values), self.rows)
        else:
            low, high = m.bootstrap(self.rows, self.statistic)
        return [m.finite(value), m.finite(low), m.finite(high), self.rows]


Judged = tuple[str, str, Measured, Measured | None]  # name, kind, measured, its reference model's measurements


def write_report(folder: Path, rows: Sequence[HeldoutRow], where: Mapping[str, list[int]], models: Sequence[Judged],
                 left_out: list[str], settings: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, Any]]:
    """Write the report's files and return (flat metrics, summary)."""
    folder.mkdir(parents=True, exist_ok=True)
    table: list[dict[str, Any]] = []
    before: dict[str, Series] = {}
    flat: dict[str, float] = {}
    for number, (name, kind, measured, reference) in enumerate(models):
        verdicts = _verdicts(rows, measured)
        series = _series(rows, where, measured, reference, verdicts)
        entry: dict[str, Any] = {"name": name, "kind": kind,
                                 "metrics": {k: s.interval(k in _SHARES) for k, s in series.items()}}
        if number:
            entry["compared_with"] = models[number - 1][0]
            entry["change"] = _change(series, before)
        table.append(entry)
        flat |= {f"{name}/{k}": v[0] for k, v in entry["metrics"].items() if v[0] is not None}
        _write_lines(folder / f"answers-{number + 1:02d}.jsonl", _answer_lines(name, rows, measured, verdicts))
        before = series
    used = {k for entry in table for k in entry["metrics"]}
    summary = {"rows": len(rows), "models": table, "scoring": {k: v for k, v in SCORING.items() if k in used},
               "left_out": left_out, **settings}
    _write_lines(folder / "rows.jsonl", _row_lines(rows))
    write_json(folder / "report.json", {"v": 1, **summary})
    return flat, summary


def _verdicts(rows: Sequence[HeldoutRow], measured: Measured) -> dict[int, tuple[bool, tuple[str, ...]]]:
    found = {}
    for i, got in measured.answers.items():
        rules = rows[i].rules
        if rules is not None:
            verdict = judge(got["answer"], rules)
            found[i] = (verdict.ok, verdict.failed)
    return found


def _exact(row: HeldoutRow, answer: str) -> bool:
    return row.reference is not None and m.normalised(answer) == m.normalised(row.reference)


def _series(rows: Sequence[HeldoutRow], where: Mapping[str, list[int]], measured: Measured, reference: Measured | None,
            verdicts: Mapping[int, tuple[bool, tuple[str, ...]]]) -> dict[str, Series]:
    """Compute every metric that can be computed for one model, in the table's order."""
    found: dict[str, Series] = {}
    if picked := where.get("desirable_share"):
        found["desirable_share"] = _share([float(verdicts[i][0]) for i in picked])
    if picked := where.get("exact_match"):
        found["exact_match"] = _share([float(_exact(rows[i], measured.answers[i]["answer"])) for i in picked])
    if picked := where.get("perplexity"):
        pairs = [measured.scores[i]["reference"] for i in picked]
        found["perplexity"] = Series(len(pairs), m.perplexity_of([p[0] for p in pairs], [int(p[1]) for p in pairs]))
    found |= _preference("preference", where, lambda i: {k: v[0] / max(1, v[1]) for k, v in measured.scores[i].items()})
    if reference is not None and reference is not measured and _comparable(measured, reference, where):
        found |= _preference("reward", where, lambda i: {k: v[0] - reference.scores[i][k][0]
                                                         for k, v in measured.scores[i].items() if k != "reference"})
    if measured.answers:
        lengths = [float(measured.answers[i]["tokens"]) for i in sorted(measured.answers)]
        found["answer_tokens"] = Series(len(lengths), m.mean_of(lengths))
    return found


def _share(values: list[float]) -> Series:
    return Series(len(values), m.mean_of(values), values)


def _preference(name: str, where: Mapping[str, list[int]],
                scores: Callable[[int], dict[str, float]]) -> dict[str, Series]:
    """Compute accuracy over pairs and ROC area over all completions from a row's scores by completion."""
    found: dict[str, Series] = {}
    if picked := where.get("preference_accuracy"):
        found[f"{name}_accuracy"] = _share([_win(scores(i)["good0"], scores(i)["bad0"]) for i in picked])
    if picked := where.get("preference_auc"):
        good = [[v for k, v in scores(i).items() if k.startswith("good")] for i in picked]
        bad = [[v for k, v in scores(i).items() if k.startswith("bad")] for i in picked]
        found[f"{name}_auc"] = Series(len(picked), m.auc_of(good, bad))
    return found


def _win(good: float, bad: float) -> float:
    return 0.5 if good == bad else float(good > bad)


def _comparable(policy: Measured, reference: Measured, where: Mapping[str, list[int]]) -> bool:
    """Tell whether two models scored the same tokens: an implicit reward between tokenizers means nothing."""
    picked = set(where.get("preference_accuracy", [])) | set(where.get("preference_auc", []))
    return bool(picked) and all(
        i in reference.scores and all(reference.scores[i].get(k, [0, -1])[1] == v[1]
                                      for k, v in policy.scores[i].items() if k != "reference") for i in picked)


def _change(series: Mapping[str, Series], before: Mapping[str, Series]) -> dict[str, list[float | None]]:
    """Return later minus earlier on the same rows, with 95 % intervals, for what both have."""
    found = {}
    for name in (n for n in series if n in before and series[n].rows == before[n].rows):
        values = m.paired_difference(series[name].rows, series[name].statistic, before[name].statistic)
        found[name] = [m.finite(v) for v in values]
    return found


def _answer_lines(name: str, rows: Sequence[HeldoutRow], measured: Measured,
                  verdicts: Mapping[int, tuple[bool, tuple[str, ...]]]) -> list[dict[str, Any]]:
    lines = []
    for i in sorted(measured.answers):
        line = {"row": rows[i].number, "model": name, "prompt": rows[i].prompt, **measured.answers[i]}
        if i in verdicts:
            line |= {"desirable": verdicts[i][0], "failed_rules": list(verdicts[i][1])}
        if rows[i].reference is not None:
            line["exact_match"] = _exact(rows[i], line["answer"])
        lines.append(line)
    return lines


def _row_lines(rows: Sequence[HeldoutRow]) -> list[dict[str, Any]]:
    return [{"row": r.number, "prompt": r.prompt, "reference": r.reference, "rules": r.rules,
             "good": list(r.good), "bad": list(r.bad)} for r in rows]


def _write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
