"""Score the answers of a file by log-probabilities: the policy's own, or its distance to the reference.

Sums are appended to a log in the step's checkpoints as they come, so a stopped or killed step goes on where it was.
"""

from __future__ import annotations

import json
import math
from array import array
from pathlib import Path
from typing import Any

from swiftshell.data.scorers.base import Answer
from swiftshell.data.scores import AnswerFile, scored_rows
from swiftshell.engines import generate
from swiftshell.engines.assemble import (
    assemble,
    context_of,
    forget,
    load_config,
    load_tokenizer,
    stack_of,
    trained_on,
    use_available_cores,
)
from swiftshell.engines.rowlog import RowLog, key_of
from swiftshell.errors import fail
from swiftshell.stages.base import Context, InputRef, Outcome, StepRequest, Stopped

_CHUNK = 64
_ROLES = ("policy", "reference")
Pair = tuple[tuple[int, ...], tuple[int, ...]]  # token ids of prompt and answer


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Score every row with the models the scorers need; one column each, all other columns as they were."""
    use_available_cores()
    params, ref = request.params, request.input("rows")
    ctx.phase("checking")
    file = AnswerFile(ref.path, ref.options.get("columns"))
    answers = list(file.answers())
    models = {role: request.input(role) for role in _ROLES if request.inputs.get(role)}
    if "implicit_reward" not in params.scorers:
        models.pop("reference", None)
    elif "reference" not in models:
        raise fail("score.needs_reference_model")
    elif _parts(models["policy"]) == _parts(models["reference"]):
        raise fail("score.same_models", name=models["policy"].name or models["policy"].path.name)
    if any(trained_on(m.artifact) != "none" or m.kind == "quantized_model" for m in models.values()):
        import bitsandbytes  # noqa: F401 - before PEFT, which looks for it once and remembers
    pairs, too_long = _tokenized(answers, models, params.max_length, ctx)
    sums = {
        role: _sums(model, pairs, request, ctx, done=number / len(models), of=len(models))
        for number, (role, model) in enumerate(models.items())
    }
    return _outcome(file, params, pairs, sums, too_long, ctx)


def _parts(model: InputRef) -> list[str]:
    return [str(Path(entry["path"]).resolve()) for entry in stack_of(model.artifact, model.path)]


def _tokenized(
    answers: list[Answer], models: dict[str, InputRef], max_length: int, ctx: Context
) -> tuple[list[Pair | None], int]:
    """Return each answer's token ids, None for one that does not fit; the policy's tokenizer counts."""
    ctx.phase("tokenizing")
    stack = stack_of(models["policy"].artifact, models["policy"].path)
    tokenizer = load_tokenizer(stack)
    limit = min(max_length, context_of(load_config(Path(stack[0]["path"]))))
    found: list[Pair | None] = []
    for answer in answers:
        prompt, said = generate.completion_ids(
            tokenizer, list(answer.prompt), list(answer.completion), answer.tools
        )
        fits = len(prompt) + len(said) <= limit and bool(said)
        found.append((tuple(prompt), tuple(said)) if fits else None)
    left = sum(pair is None for pair in found)
    if left:
        first = next(a.number for a, pair in zip(answers, found, strict=True) if pair is None)
        ctx.warn("score.too_long", count=left, total=len(found), limit=limit, first=first)
    return found, left


def _sums(
    model: InputRef, pairs: list[Pair | None], request: StepRequest, ctx: Context, *, done: float, of: int
) -> dict[Pair, float]:
    """Return every different answer's summed log-probability (nats) under one model."""
    wanted = sorted({pair for pair in pairs if pair is not None})
    key = key_of(_parts(model), (model.artifact or {}).get("id"), wanted, request.params.dtype)
    log = RowLog(ctx.checkpoints / f"{model.slot}.jsonl", key)
    found = {wanted[row["n"]]: float(row["sum"]) for row in log.rows}
    missing = [n for n, pair in enumerate(wanted) if pair not in found]
    if missing:
        ctx.phase("loading")
        loaded, _ = assemble(model.artifact, model.path, dtype=request.params.dtype)
        ctx.phase("evaluating")
        missing.sort(key=lambda n: -sum(map(len, wanted[n])))
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            values = generate.score(loaded, [wanted[n] for n in chunk])
            log.append([{"n": n, "sum": value} for n, value in zip(chunk, values, strict=True)])
            found |= {wanted[n]: value for n, value in zip(chunk, values, strict=True)}
            share = done + len(found) / len(wanted) / of
            ctx.progress(round(share * len(pairs), 1), len(pairs), "rows")
            if ctx.stop_requested():
                log.close()
                raise Stopped
        forget(loaded)
    log.close()
    return found


def _outcome(
    file: AnswerFile,
    params: Any,
    pairs: list[Pair | None],
    sums: dict[str, dict[Pair, float]],
    left: int,
    ctx: Context,
) -> Outcome:
    ctx.phase("saving")
    scores: dict[str, array[float]] = {}
    if "likelihood" in params.scorers:
        scores["likelihood"] = array(
            "d", (math.nan if p is None else sums["policy"][p] / len(p[1]) for p in pairs)
        )
    if "implicit_reward" in params.scorers:
        policy, reference = sums["policy"], sums["reference"]
        scores["implicit_reward"] = array(
            "d", (math.nan if p is None else params.beta * (policy[p] - reference[p]) for p in pairs)
        )
    folder = ctx.out / "scored"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "scored.jsonl").open("w", encoding="utf-8") as out:
        for row in scored_rows(file, scores):
            out.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
    means = {f"mean_{name}": _mean(numbers) for name, numbers in scores.items()}
    facts = {"kind": "dataset", "rows": len(pairs), "data_files": ["scored.jsonl"]}
    summary = {"rows": len(pairs), "unscored": left, "scorers": list(scores), **means}
    return Outcome({"scored": facts}, {k: v for k, v in means.items() if math.isfinite(v)}, summary)


def _mean(numbers: array[float]) -> float:
    kept = [v for v in numbers if not math.isnan(v)]
    return sum(kept) / len(kept) if kept else math.nan
