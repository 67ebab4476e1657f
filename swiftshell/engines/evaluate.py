"""Put the same held-out rows through every model, one after the other, and measure what each step did.

Answers are generated greedily; completions are scored by their log-probability. Both are kept row by row in the step's
checkpoints as they come, so a stopped or killed evaluation goes on where it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.data.load import load_input
from swiftshell.engines import generate
from swiftshell.engines.assemble import (
    assemble,
    context_length,
    context_of,
    forget,
    load_config,
    load_tokenizer,
    stack_of,
    tokenizer_folder,
    trained_on,
    use_available_cores,
)
from swiftshell.engines.evaluate_report import METRIC_COLUMNS, Measured, write_report
from swiftshell.engines.heldout import (
    HeldoutRow,
    TokenRow,
    heldout_row,
    measurable,
    refuse_long_rows,
    tokens_of,
)
from swiftshell.engines.rowlog import RowLog, key_of
from swiftshell.errors import fail
from swiftshell.stages.base import Context, InputRef, Outcome, StepRequest, Stopped

_ANSWERING_SHARE = 0.7  # of a model's work when its rows are also scored; only the bar depends on it


@dataclass
class Subject:
    """A model to measure.

    Attributes:
        key: paths of its stack: two subjects with one key are one model.
        answers: generate answers (a model that only serves as reference is only scored).
    """

    name: str
    kind: str
    record: Any
    path: Path
    answers: bool = True
    key: tuple[str, ...] = ()
    tokens: list[TokenRow] = field(default_factory=list)
    measured: Measured = field(default_factory=Measured)


class Bar:
    """Progress in prompts over all models."""

    def __init__(self, ctx: Context, rows: int, models: int) -> None:
        self._ctx, self._rows, self._models = ctx, rows, models
        self._before = 0.0

    def inside(self, fraction: float) -> None:
        """Say how much of the current model is done."""
        self._ctx.progress(round((self._before + fraction) * self._rows, 1), self._rows * self._models, "prompts")

    def next_model(self) -> None:
        """Count the current model as done."""
        self._before += 1
        self.inside(0.0)


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Measure every model of the `models` slot on the rows of `eval_data`."""
    use_available_cores()
    params, data = request.params, request.input("eval_data")
    rows = _rows(data, params.limit)
    where, left_out = _what_can_be_measured(params.metrics, rows, ctx)
    if not request.many("models"):
        raise fail("evaluate.no_models")
    subjects = [_subject(ref, number) for number, ref in enumerate(request.many("models"))]
    references = _references(subjects) if {"preference_accuracy", "preference_auc"} & set(where) else []
    if any(s.kind == "quantized_model" or trained_on(s.record) != "none" for s in subjects):
        import bitsandbytes  # noqa: F401 - before PEFT, which looks for it once and remembers
    ctx.phase("tokenizing")
    for subject in (*subjects, *references):
        _tokenize(subject, rows, where, params.max_length, data)
    bar = Bar(ctx, len(rows), len(subjects) + len(references))
    for number, subject in enumerate((*subjects, *references)):
        _measure(subject, number, rows, where, params, ctx, bar)
    ctx.phase("reporting")
    by_key = {s.key: s.measured for s in (*subjects, *references)}
    judged = [(s.name, s.kind, s.measured, by_key.get(_reference_key(s))) for s in subjects]
    metrics, summary = write_report(ctx.out / "report", rows, where, judged, left_out,
                                    {"max_new_tokens": params.max_new_tokens, "data": data.name or data.path.name})
    for name, value in metrics.items():
        ctx.metric(name, value)
    return Outcome({"report": {"kind": "report"}}, metrics, summary)


def _rows(data: InputRef, limit: int) -> list[HeldoutRow]:
    loaded, _ = load_input(data, "heldout", limit=limit)
    return [heldout_row(row.number, row.line, row.data, row.file or str(data.path)) for row in loaded]


def _what_can_be_measured(metrics: Sequence[str], rows: list[HeldoutRow],
                          ctx: Context) -> tuple[dict[str, list[int]], list[str]]:
    """Return metric -> rows that have its columns, and the metrics left out (each said in a note)."""
    found = measurable(rows)
    where = {name: found[name] for name in metrics if found[name]}
    left_out = [name for name in metrics if name not in where]
    for name in left_out:
        ctx.note("evaluate.left_out", metric=name, columns=METRIC_COLUMNS[name])
    if not where:
        raise fail("evaluate.nothing_to_measure", metrics=", ".join(metrics),
                   columns=", ".join(sorted({METRIC_COLUMNS[m] for m in metrics})))
    return where, left_out


def _subject(ref: InputRef, number: int) -> Subject:
    name = ref.name or (ref.artifact or {}).get("name") or ref.path.name or f"model {number + 1}"
    key = tuple(str(Path(entry["path"]).resolve()) for entry in stack_of(ref.artifact, ref.path))
    return Subject(name=str(name), kind=ref.kind, record=ref.artifact, path=ref.path, key=key)


def _reference_key(subject: Subject) -> tuple[str, ...]:
    """Return the stack of the model that a policy was trained against; () if none is recorded or it is gone."""
    reference = (subject.record or {}).get("reference") or {}
    stack = reference.get("stack") or ([{"path": reference["path"]}] if reference.get("path") else [])
    paths = tuple(str(Path(entry["path"]).resolve()) for entry in stack if entry.get("path"))
    return paths if paths and all(Path(p).is_dir() for p in paths) else ()


def _references(subjects: list[Subject]) -> list[Subject]:
    """Return the reference models that are not measured anyway: they are only scored."""
    known = {s.key for s in subjects}
    found: dict[tuple[str, ...], Subject] = {}
    for subject in subjects:
        key = _reference_key(subject)
        if key and key not in known and key not in found:
            record = dict(subject.record["reference"])
            record.setdefault("quantization", subject.record.get("quantization"))
            found[key] = Subject(name=f"{subject.name} reference", kind=record.get("kind", "model"), record=record,
                                 path=Path(key[-1]), answers=False, key=key)
    return list(found.values())


def _tokenize(subject: Subject, rows: list[HeldoutRow], where: dict[str, list[int]], max_length: int,
              data: InputRef) -> None:
    """Tokenize all rows for a model and refuse those it cannot take, before any weights load."""
    stack = stack_of(subject.record, subject.path)
    tokenizer = load_tokenizer(stack)
    kinds = [kind for kind, names in (("reference", {"perplexity"}),
                                      ("preference", {"preference_accuracy", "preference_auc"})) if names & set(where)]
    if not subject.answers:
        kinds = [kind for kind in kinds if kind == "preference"]
    subject.tokens = [tokens_of(tokenizer, row, kinds) for row in rows]
    context = context_of(load_config(Path(stack[0]["path"])))
    source = "max_length" if max_length <= context else "max_position_embeddings"
    refuse_long_rows(rows, subject.tokens, min(context, max_length), subject.name, source)
    subject.measured.tokenizer = str(tokenizer_folder(stack))


def _measure(subject: Subject, number: int, rows: list[HeldoutRow], where: dict[str, list[int]], params: Any,
             ctx: Context, bar: Bar) -> None:
    """Fill a subject's measurements, taking what an earlier attempt already wrote."""
    safe = re.sub(r"[^\w.-]+", "_", subject.name)
    key = key_of(subject.key, [r.prompt for r in rows], [t.pairs for t in subject.tokens], params.max_new_tokens,
                 params.dtype, (subject.record or {}).get("id"))
    log = RowLog(ctx.checkpoints / f"{number + 1:02d}-{safe}.jsonl", key)
    for row in log.rows:
        subject.measured.take(row)
    to_answer = subject.answers and bool({"desirable_share", "exact_match"} & set(where))
    unanswered = [i for i in range(len(rows)) if i not in subject.measured.answers] if to_answer else []
    unscored = [i for i, t in enumerate(subject.tokens) if t.pairs and i not in subject.measured.scores]
    if unanswered or unscored:
        ctx.phase("loading")
        model, tokenizer = assemble(subject.record, subject.path, dtype=params.dtype)
        ctx.phase("evaluating")
        share = _ANSWERING_SHARE if any(t.pairs for t in subject.tokens) else 1.0
        if to_answer:
            _answer(model, tokenizer, subject, params, log, ctx, lambda done: bar.inside(done * share))
        _score(model, subject, log, ctx, lambda done: bar.inside(share + done * (1 - share)))
        forget(model)
    log.close()
    bar.next_model()


def _answer(model: Any, tokenizer: Any, subject: Subject, params: Any, log: RowLog, ctx: Context, tell: Any) -> None:
    """Generate the answers that are missing; batches are the same in every attempt, and so are their answers."""
    size = params.batch_size if params.batch_size != "auto" else generate.auto_batch_size(model)
    lengths = [len(t.prompt) for t in subject.tokens]
    how = generate.Sampling(max_new_tokens=params.max_new_tokens)
    for batch in generate.by_length(lengths, size, context_length(model) - params.max_new_tokens):
        if all(i in subject.measured.answers for i in batch):
            continue
        answers = generate.answer(model, tokenizer, [subject.tokens[i].prompt for i in batch], how)
        found = [{"row": i, "answer": a.text, "tokens": a.tokens, "finish_reason": a.finish_reason}
                 for i, a in zip(batch, answers, strict=True) if i not in subject.measured.answers]
        _keep(found, subject, log)
        tell(len(subject.measured.answers) / len(lengths))
        if ctx.stop_requested():
            log.close()
            raise Stopped


def _score(model: Any, subject: Subject, log: RowLog, ctx: Context, tell: Any) -> None:
    """Score the completions that are missing; equal ones (a reference that is also the chosen answer) only once."""
    rows = [i for i, t in enumerate(subject.tokens) if t.pairs and i not in subject.measured.scores]
    step = 64
    for start in range(0, len(rows), step):
        chunk = rows[start:start + step]
        keys = sorted({(tuple(p), tuple(c)) for i in chunk for p, c in subject.tokens[i].pairs.values()})
        sums = dict(zip(keys, generate.score(model, keys), strict=True))
        found = [{"row": i, "scores": {name: [sums[tuple(p), tuple(c)], len(c)]
                                       for name, (p, c) in subject.tokens[i].pairs.items()}} for i in chunk]
        _keep(found, subject, log)
        tell((start + len(chunk)) / len(rows))
        if ctx.stop_requested():
            log.close()
            raise Stopped


def _keep(found: list[dict[str, Any]], subject: Subject, log: RowLog) -> None:
    log.append(found)
    for row in found:
        subject.measured.take(row)
