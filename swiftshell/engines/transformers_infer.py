"""Answer a file of prompts in batches with transformers; every finished batch survives a kill -9."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from swiftshell.data.load import load_input
from swiftshell.engines import generate
from swiftshell.engines.assemble import assemble, context_length, stack_of, use_available_cores
from swiftshell.engines.rowlog import RowLog, key_of
from swiftshell.stages.base import Context, Outcome, StepRequest, Stopped

TOO_LONG = "prompt_too_long"


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Answer every row of `prompts` with the model of `model`; one line for each row, in their order."""
    use_available_cores()
    params, ref = request.params, request.input("model")
    loaded, _ = load_input(request.input("prompts"), "prompts", limit=params.limit)
    ctx.phase("loading")
    model, tokenizer = assemble(ref.artifact, ref.path, dtype=params.dtype)
    ctx.phase("tokenizing")
    ids = [generate.prompt_ids(tokenizer, row.data["prompt"], row.data.get("tools")) for row in loaded]
    stack = [entry["path"] for entry in stack_of(ref.artifact, ref.path)]
    key = key_of(stack, (ref.artifact or {}).get("id"), ids, request.seed, params.max_new_tokens, params.temperature,
                 params.top_p, params.dtype)
    log = RowLog(ctx.checkpoints / "answers.jsonl", key)
    done = {row["row"]: row for row in log.rows}
    _mark_too_long(loaded, ids, context_length(model), done, log, ctx)
    ctx.phase("answering")
    size = params.batch_size if params.batch_size != "auto" else generate.auto_batch_size(model)
    roomy = context_length(model) - params.max_new_tokens
    for number, batch in enumerate(generate.by_length([len(i) for i in ids], size, roomy)):
        if ctx.stop_requested():
            raise Stopped
        missing = [i for i in batch if i not in done]
        if not missing:
            continue
        # The whole batch again, even if a part is there: the same neighbours and seed give the same answers.
        fit = [i for i in batch if done.get(i, {}).get("finish_reason") != TOO_LONG]
        how = generate.Sampling(params.max_new_tokens, params.temperature, params.top_p, seed=request.seed + number)
        answers = dict(zip(fit, generate.answer(model, tokenizer, [ids[i] for i in fit], how), strict=True))
        lines: list[dict[str, Any]] = [{"row": i, "answer": answers[i].text, "finish_reason": answers[i].finish_reason,
                                        "tokens": answers[i].tokens} for i in missing]
        log.append(lines)
        done |= {line["row"]: line for line in lines}
        ctx.progress(len(done), len(ids), "rows")
    log.close()
    return _outcome(ctx.out / "answers" / "answers.jsonl", loaded, done, tokens_in=sum(map(len, ids)))


def _mark_too_long(loaded: list[Any], ids: list[list[int]], context: int, done: dict[int, dict[str, Any]], log: RowLog,
                   ctx: Context) -> None:
    """Give rows that the model cannot read a line without an answer, and say how many they are."""
    long = [i for i in range(len(ids)) if len(ids[i]) >= context]
    new: list[dict[str, Any]] = [{"row": i, "answer": None, "finish_reason": TOO_LONG, "tokens": 0}
                                 for i in long if i not in done]
    log.append(new)
    done |= {line["row"]: line for line in new}
    if long:
        ctx.warn("infer.prompts_too_long", count=len(long), total=len(ids), limit=context, first=loaded[long[0]].number)


def _outcome(path: Path, loaded: list[Any], done: dict[int, dict[str, Any]], *, tokens_in: int) -> Outcome:
    """Write the answers beside what each row came with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for i, row in enumerate(loaded):
            found = {k: v for k, v in done[i].items() if k != "row"}
            line = {**row.extra, **row.data, "row": row.number, **found}
            file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
    reasons = [done[i]["finish_reason"] for i in range(len(loaded))]
    tokens = sum(done[i]["tokens"] for i in range(len(loaded)))
    summary = {"rows": len(loaded), "prompt_tokens": tokens_in, "answer_tokens": tokens,
               "finish_reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))}}
    return Outcome({"answers": {"kind": "answers", "rows": len(loaded), "data_files": [path.name]}},
                   {"rows": float(len(loaded)), "answer_tokens": float(tokens)}, summary)
