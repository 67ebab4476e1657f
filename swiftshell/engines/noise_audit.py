"""Find labels that are likely wrong, without a person.

Several detectors give every answer a score, each by something that has not seen the answer's own label. A detector is only
believed if its scores go along with the labels (its AUC, with an interval). Those that are believed are put together by
their ranks; from the whole follow the share of wrong labels in each class and each row's probability of being one of them
(`swiftshell.engines.audit_numbers`). Where nothing is believed, nothing is flagged, and that is said.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from swiftshell.data.load import load_input
from swiftshell.data.review.apply import plain_row
from swiftshell.data.review.items import P_WRONG, REASON, SURE, content_hash
from swiftshell.data.row import Row, text_of
from swiftshell.data.tally import prompt_key
from swiftshell.engines import audit_numbers as numbers
from swiftshell.engines import audit_probes as probes
from swiftshell.errors import SwiftshellError, fail
from swiftshell.stages.base import Context, Outcome, StepRequest
from swiftshell.stages.shared import training_problems

Array = Any
FLAGGED, ROW = "audit_flagged", "audit_row"
_LEAST_ROWS = 20  # of each label: with fewer no detector can be told from chance
_MODEL_DETECTORS = ("reference", "hidden", "early", "crossfit")
_LISTED = 30
_HIGH_AUC = 0.75  # of all probes together, lower end: no single figure is called sure below it
_IN_SAMPLE = (
    "early",
)  # trained on the labels it questions: its AUC proves nothing, so it is never believed alone


@dataclass
class Detected:
    """A detector's scores (NaN: it cannot say), and how well they go along with the labels."""

    name: str
    scores: Array
    auc: numbers.Auc


@dataclass
class Findings:
    """What all detectors together say.

    Attributes:
        p_wrong: (rows,); reasons and sure: per row; flagged: (rows,) bool.
        shares: class → estimated share of wrong labels with its interval, or None where it cannot be told.
    """

    p_wrong: Array
    reasons: list[str]
    sure: list[str]
    flagged: Array
    learned: bool
    combined: numbers.Auc
    shares: dict[str, dict[str, float] | None]
    confident: dict[str, int]
    conflicts: int
    detectors: list[Detected] = field(default_factory=list)


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Score the answers, question their labels, write them with what was found."""
    problems = [p for p in training_problems(request.params) if p.severity == "error"]
    if problems:
        raise SwiftshellError(problems)
    ctx.phase("checking")
    ref = request.input("train_data")
    rows, _ = load_input(ref, "kto", drop_budget=request.params.drop_budget)
    labels = np.array([bool(r.data["label"]) for r in rows])
    if min(int(labels.sum()), int((~labels).sum())) < _LEAST_ROWS:
        raise fail(
            "audit.too_few",
            file=str(ref.path),
            desirable=int(labels.sum()),
            undesirable=int((~labels).sum()),
            least=_LEAST_ROWS,
        )
    hashes = [content_hash(r.data) for r in rows]
    prompts = [prompt_key(r.data).hex() for r in rows]
    folds = probes.fold_of(prompts, hashes, labels, request.params.folds)
    detected = _detect(request, ctx, rows, labels, folds)
    ctx.phase("reporting")
    found = combine(detected, labels, folds, _conflicts(hashes, labels, request), request)
    return _outcome(request, ctx, rows, labels, found)


def _detect(
    request: StepRequest, ctx: Context, rows: Sequence[Row], labels: Array, folds: Array
) -> list[Detected]:
    wanted = request.params.detectors
    prompts = [_text(r.data["prompt"]) for r in rows]
    answers = [_text(r.data["completion"]) for r in rows]
    scores: dict[str, Array] = {}
    if "rules" in wanted:
        scores["rules"] = probes.rule_scores(prompts, answers, labels, folds)
    if "text" in wanted:
        scores["text"] = probes.text_scores(answers, labels, folds)
    by_model = [d for d in wanted if d in _MODEL_DETECTORS]
    if by_model and request.inputs.get("policy"):
        scores |= _by_model(request, ctx, rows, labels, folds, by_model)
    elif by_model:
        ctx.note("audit.no_model", detectors=", ".join(by_model))
    found = [Detected(name, s, numbers.auc(s, labels)) for name, s in scores.items()]
    for d in found:
        ctx.metric(f"auc/{d.name}", round(d.auc.value, 5))
    return found


def _by_model(
    request: StepRequest,
    ctx: Context,
    rows: Sequence[Row],
    labels: Array,
    folds: Array,
    wanted: Sequence[str],
) -> dict[str, Array]:
    """Return the scores of detectors that need the SFT model or policies trained from it."""
    from swiftshell.engines import assemble, audit_model, preference, training
    from swiftshell.engines.rowlog import key_of
    from swiftshell.engines.rows import prepare

    training.start(ctx)
    opened = preference.open_step(_as_pair(request), "kto")
    data = prepare(request.input("train_data"), opened.reading, ctx)
    if data.pictures:
        ctx.note("audit.pictures", detectors=", ".join(wanted))
        return {}
    places = _places(rows, data.examples)
    pairs = [(list(e.prompt_ids), list(e.answers[0])) for e in data.examples]
    training.load_libraries(request.params)
    ctx.phase("evaluating")
    policy = request.input("policy")
    model, _ = assemble.assemble(policy.artifact, policy.path)
    before = audit_model.per_token(model, pairs, ctx)
    scores: dict[str, Array] = {}
    if "reference" in wanted:
        scores["reference"] = _spread(before, places, len(rows))
    if "hidden" in wanted:
        held = audit_model.hidden_means(model, pairs, ctx)
        scores["hidden"] = _spread(
            probes.dense_scores(held, labels[places], folds[places]), places, len(rows)
        )
    assemble.forget(model)
    del model
    if not {"early", "crossfit"} & set(wanted):
        return scores
    key = key_of(
        [content_hash(r.data) for r in rows],
        labels.tolist(),
        folds.tolist(),
        request.fingerprint,
        request.params.model_dump(),
        request.seed,
    )
    written = [{k: v for k, v in rows[p].data.items() if k != "id"} for p in places]
    policies = audit_model.Policies(request, ctx, written, pairs, before, key)
    everything = np.arange(len(places))
    if "early" in wanted:
        ctx.phase("training")
        scores["early"] = _spread(policies.rewards("early", everything, everything), places, len(rows))
    if "crossfit" in wanted:
        rewards = np.zeros(len(places))
        for fold in range(request.params.folds):
            ctx.phase("training")
            held = folds[places] == fold
            rewards[held] = policies.rewards(f"fold-{fold + 1}", everything[~held], everything[held])
        scores["crossfit"] = _spread(rewards, places, len(rows))
    return scores


def _as_pair(request: StepRequest) -> StepRequest:
    """Return the request with the SFT model as policy and as reference, as the next KTO would have it."""
    from dataclasses import replace

    policy = request.input("policy")
    return replace(request, inputs={**request.inputs, "reference": replace(policy, slot="reference")})


def _places(rows: Sequence[Row], examples: Sequence[Any]) -> Array:
    """Return for each example the index of its row; rows that were too long have none."""
    found, at = [], 0
    for example in examples:
        while (rows[at].file or example.file, rows[at].number) != (
            example.file,
            example.number,
        ) or not _same_answer(rows[at], example):
            at += 1
        found.append(at)
        at += 1
    return np.array(found, dtype=int)


def _same_answer(row: Row, example: Any) -> bool:
    """Tell whether a row is the example's: of a pair, both rows have one number."""
    answer = example.data["completion"]
    return (answer if isinstance(answer, str) else _text(answer)).strip() == _text(
        row.data["completion"]
    ).strip()


def _spread(values: Array, places: Array, count: int) -> Array:
    out = np.full(count, np.nan)
    out[places] = values
    return out


def _conflicts(hashes: Sequence[str], labels: Array, request: StepRequest) -> Array:
    """Return for each row the share of its copies with the other label; 0 where there are none."""
    votes: dict[str, list[int]] = {}
    for digest, label in zip(hashes, labels, strict=True):
        votes.setdefault(digest, [0, 0])[int(label)] += 1
    wanted = "conflicts" in request.params.detectors
    return np.array(
        [votes[h][1 - int(y)] / sum(votes[h]) if wanted else 0.0 for h, y in zip(hashes, labels, strict=True)]
    )


def combine(
    detected: Sequence[Detected], labels: Array, folds: Array, conflicts: Array, request: StepRequest
) -> Findings:
    """Put the detectors together by their ranks, the believed ones only, and question every label by the whole."""
    believed = [d for d in detected if d.auc.learned]
    if all(d.name in _IN_SAMPLE for d in believed):
        believed = []
    telling = believed or [d for d in detected if d.auc.value > 0.5]
    ranks = {d.name: numbers.normal_scores(d.scores, folds) for d in telling}
    whole = sum(
        (r * (d.auc.value - 0.5) for d, r in zip(telling, ranks.values(), strict=True)), np.zeros(len(labels))
    )
    if len(believed) > 1:
        whole = probes.dense_scores(np.stack([ranks[d.name] for d in believed], axis=1), labels, folds)
        whole = numbers.normal_scores(whole, folds)
    combined = numbers.auc(whole, labels)
    learned = bool(believed) and combined.sure
    chance = numbers.levels(whole, labels)
    shares = (numbers.wrong_share(whole, labels), numbers.wrong_share(-whole, ~labels))
    p = numbers.p_wrong(chance, labels, shares if learned else (numbers.PRIOR, numbers.PRIOR))
    if not learned:
        p = np.minimum(p, 2 * numbers.PRIOR)
    by_conflict = conflicts > p
    p = np.maximum(p, conflicts)
    reasons = _reasons(telling, ranks, labels, by_conflict)
    flag = request.params.flag
    side = labels if flag == "desirable" else np.ones(len(labels), dtype=bool)
    flagged = (p >= request.params.flag_above) & side & (learned | (conflicts > 0.5)) & (flag != "none")
    told: dict[str, dict[str, float] | None] = {"desirable": None, "undesirable": None}
    if learned:
        for name, share, s, y in (
            ("desirable", shares[0], whole, labels),
            ("undesirable", shares[1], -whole, ~labels),
        ):
            low, high = numbers.interval(s, y, request.seed)
            told[name] = {"share": round(share, 4), "low": round(low, 4), "high": round(high, 4)}
    return Findings(
        p,
        reasons,
        _sure(p, learned, combined, by_conflict, ranks, labels),
        flagged,
        learned,
        combined,
        told,
        numbers.confident_counts(chance, labels),
        int((conflicts > 0).sum()),
        list(detected),
    )


def _reasons(
    telling: Sequence[Detected], ranks: dict[str, Array], labels: Array, by_conflict: Array
) -> list[str]:
    """Return for each row the detector that speaks most against its label."""
    if not telling:
        return ["audit.reason.conflict" if c else "" for c in by_conflict]
    names = [d.name for d in telling]
    against = np.stack(
        [np.where(labels, -ranks[d.name], ranks[d.name]) * (d.auc.value - 0.5) for d in telling]
    )
    most = against.argmax(0)
    return [
        "audit.reason.conflict" if c else f"audit.reason.{names[i]}" if against[i, n] > 0 else ""
        for n, (c, i) in enumerate(zip(by_conflict, most, strict=True))
    ]


def _sure(
    p: Array, learned: bool, combined: numbers.Auc, by_conflict: Array, ranks: dict[str, Array], labels: Array
) -> list[str]:
    """Return how sure each row's figure is: by how clear it is, how good the probes are, and whether they agree."""
    sides = (
        np.stack([np.where(labels, -r, r) > 0 for r in ranks.values()])
        if ranks
        else np.zeros((1, len(p)), dtype=bool)
    )
    agree = np.abs(sides.mean(0) - 0.5) >= 0.3
    clear = np.abs(p - 0.5) >= 0.3
    found = []
    for n in range(len(p)):
        if by_conflict[n]:
            found.append("high" if p[n] > 0.5 else "medium")
        elif not learned:
            found.append("low")
        else:
            high = clear[n] and agree[n] and combined.low > _HIGH_AUC
            found.append("high" if high else "medium" if clear[n] or agree[n] else "low")
    return found


def _outcome(
    request: StepRequest, ctx: Context, rows: Sequence[Row], labels: Array, found: Findings
) -> Outcome:
    from swiftshell.engines.audit_model import write_report

    lines = []
    for n, row in enumerate(rows):
        more = {
            P_WRONG: round(float(found.p_wrong[n]), 4),
            REASON: found.reasons[n],
            SURE: found.sure[n],
            FLAGGED: bool(found.flagged[n]),
            ROW: row.number,
        }
        lines.append({**plain_row(row), **more})
    cleaned = [plain_row(row) for row, out in zip(rows, found.flagged, strict=True) if not out]
    for slot, name, content in (("audited", "audited.jsonl", lines), ("cleaned", "cleaned.jsonl", cleaned)):
        (ctx.out / slot).mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(line, ensure_ascii=False, default=str) + "\n" for line in content)
        (ctx.out / slot / name).write_text(text, encoding="utf-8")
    summary = _summary(rows, labels, found, request)
    write_report(ctx.out / "report", summary)
    _tell(summary, ctx)
    metrics = {"auc": found.combined.value, "flagged": float(found.flagged.sum())}
    metrics |= {f"wrong_share/{side}": s["share"] for side, s in found.shares.items() if s is not None}
    for name, value in metrics.items():
        ctx.metric(name, round(value, 5))
    return Outcome(
        {
            "audited": {"kind": "dataset", "data_files": ["audited.jsonl"], "rows": len(lines)},
            "cleaned": {"kind": "dataset", "data_files": ["cleaned.jsonl"], "rows": len(cleaned)},
            "report": {"kind": "report"},
        },
        metrics,
        summary,
    )


def _summary(rows: Sequence[Row], labels: Array, found: Findings, request: StepRequest) -> dict[str, Any]:
    worst = np.argsort(-found.p_wrong, kind="stable")[:_LISTED]
    listed = [
        {
            "row": rows[n].number,
            "label": bool(labels[n]),
            "p_wrong": round(float(found.p_wrong[n]), 3),
            "reason": found.reasons[n],
            "sure": found.sure[n],
            "answer": _text(rows[n].data["completion"])[:200],
        }
        for n in worst
    ]
    return {
        "v": 1,
        "rows": len(rows),
        "desirable": int(labels.sum()),
        "undesirable": int((~labels).sum()),
        "learned": found.learned,
        "combined": found.combined.as_json(),
        "detectors": {d.name: d.auc.as_json() for d in found.detectors},
        "conflicts": found.conflicts,
        "flagged": int(found.flagged.sum()),
        "flag": request.params.flag,
        "wrong_share": found.shares,
        "confident_learning": found.confident,
        "most_doubtful": listed,
    }


def _tell(summary: dict[str, Any], ctx: Context) -> None:
    """Say what came out, 'not sure' included."""
    auc = summary["combined"]
    values = {"auc": f"{auc['auc']:.2f}", "low": f"{auc['low']:.2f}", "high": f"{auc['high']:.2f}"}
    if not summary["learned"]:
        ctx.warn("audit.not_sure", **values, conflicts=summary["conflicts"])
        return
    share = summary["wrong_share"]["desirable"]
    told = {k: f"{100 * share[k]:.0f} %" for k in ("share", "low", "high")}
    ctx.note(
        "audit.found",
        flagged=summary["flagged"],
        rows=summary["rows"],
        share=told["share"],
        from_=told["low"],
        to=told["high"],
        auc=values["auc"],
    )


def _text(turns: Any) -> str:
    return turns if isinstance(turns, str) else "\n".join(text_of(t.get("content")) for t in turns)
