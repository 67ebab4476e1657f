"""Rows without padding: several follow each other in one sequence, and none may see another.

TRL flattens a batch and hands over positions that start anew with every row. What keeps the rows apart is then the
model's attention: FlashAttention reads the boundaries, transformers' other implementations derive a mask from the
positions. A model that ignores them trains every row on its neighbours, and its loss looks fine. So it is proven on the
loaded model before training, instead of being assumed from the name of an attention implementation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from swiftshell.engines import rows
from swiftshell.engines.loading import Precision
from swiftshell.engines.rows import Example
from swiftshell.errors import fail
from swiftshell.stages.base import Context

_PROBE_TOKENS = 64
# A row next to a neighbour may differ from the row alone by this share of what seeing the neighbour would change. Rows
# that see each other come out near 1, those kept apart differ by rounding alone.
_LEAK_SHARE = 0.25


def prove_apart(model: Any, examples: Sequence[Example], precision: Precision) -> float:
    """Return how much a row changes beside a neighbour: the mean difference of a token's log-probability in nats.

    Raises:
        SwiftshellError: the model's rows see each other (`packing.rows_leak`).
    """
    first, second = _two_rows(examples)
    alone = _logps(model, second, list(range(len(second))), precision)
    kept = [*range(len(first)), *range(len(second))]
    beside = _logps(model, first + second, kept, precision)[-len(alone) :]
    seen = _logps(model, first + second, list(range(len(kept))), precision)[-len(alone) :]
    difference, leak = float((beside - alone).abs().mean()), float((seen - alone).abs().mean())
    if not difference <= _LEAK_SHARE * leak:
        attention = str(getattr(model.config, "_attn_implementation", "?"))
        raise fail(
            "packing.rows_leak",
            exit_code=3,
            model=type(_plain(model)).__name__,
            attention=attention,
            difference=round(difference, 5),
            leak=round(leak, 5),
        )
    return difference


def _plain(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _two_rows(examples: Sequence[Example]) -> tuple[list[int], list[int]]:
    """Return the tokens of two rows, different ones where the data has them."""
    whole = [[*e.prompt_ids, *e.answers[0]][:_PROBE_TOKENS] for e in (examples[0], examples[-1])]
    return whole[0], whole[1]


def _logps(model: Any, ids: list[int], positions: list[int], precision: Precision) -> Any:
    """Return the log-probability of each token but the first, (tokens - 1,), float32 on the CPU."""
    from contextlib import nullcontext

    import torch

    device = next(model.parameters()).device
    training = model.training
    model.eval()
    computing = (
        torch.autocast(device.type, dtype=getattr(torch, precision.autocast))
        if precision.autocast
        else nullcontext()
    )
    with torch.no_grad(), computing:
        tokens = torch.tensor([ids], device=device)
        logits = model(
            input_ids=tokens, position_ids=torch.tensor([positions], device=device), use_cache=False
        ).logits
        found = (
            torch.log_softmax(logits[0, :-1].float(), -1).gather(-1, tokens[0, 1:, None]).squeeze(-1).cpu()
        )
    model.train(training)
    return found


def check(
    examples: Sequence[Example], trained: Any, params: Any, limit_tokens: int, ctx: Context
) -> dict[str, Any]:
    """Hold the trainer's tokens to those that were checked, packed or not; return the facts for the summary.

    Raises:
        SwiftshellError: tokens are missing or differ.
    """
    if not params.packing:
        rows.check_agreement(examples, trained, lambda r: r["input_ids"])
        return {"padding_free": True} if params.padding_free else {}
    wanted = [[*e.prompt_ids, *e.answers[0]] for e in examples]
    tokens = sum(map(len, wanted))
    split = sum(len(row) > limit_tokens for row in wanted) if params.packing_strategy == "bfd_split" else 0
    if params.packing_strategy == "bfd":
        _same_rows(wanted, trained)
    elif sum(map(len, trained["input_ids"])) != tokens:
        raise fail(
            "train.rows_disagree", exit_code=3, checked=tokens, trained=sum(map(len, trained["input_ids"]))
        )
    if params.packing_strategy == "wrapped":
        ctx.warn("packing.wrapped_crosses", rows=len(wanted), sequences=len(trained))
    elif split:
        ctx.note("packing.rows_split", count=split, total=len(wanted), limit=limit_tokens)
    filled = tokens / (len(trained) * limit_tokens)
    ctx.note(
        "packing.packed",
        rows=len(wanted),
        sequences=len(trained),
        limit=limit_tokens,
        filled=round(100 * filled),
    )
    return {
        "packing_strategy": params.packing_strategy,
        "packed_sequences": len(trained),
        "rows_split": split,
        "packing_filled": round(filled, 4),
    }


def _same_rows(wanted: Sequence[list[int]], trained: Any) -> None:
    """Hold the rows inside the packed sequences to the rows checked, whatever their order."""
    found: Counter[tuple[int, ...]] = Counter()
    for row in trained:
        at = 0
        for length in row["seq_lengths"]:
            found[tuple(row["input_ids"][at : at + length])] += 1
            at += length
    if found != Counter(map(tuple, wanted)):
        raise fail("train.rows_disagree", exit_code=3, checked=len(wanted), trained=sum(found.values()))
