"""Answer prompts in batches, and score completions: what evaluation, inference, merging and quantizing share.

Token ids are lists of int throughout; a batch is padded only here, always on the left.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from swiftshell.engines.assemble import context_length

# A scoring batch holds at most this much of float32 logits, whatever the vocabulary.
_LOGITS_BYTES = 256 << 20


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    Attributes:
        text: decoded without special tokens.
        tokens: tokens generated, the end token not counted.
        finish_reason: `stop` (the model ended), `length` (max_new_tokens) or `context` (the model can take no more).
    """

    text: str
    tokens: int
    finish_reason: str


@dataclass(frozen=True)
class Sampling:
    """How to choose tokens; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


def prompt_ids(tokenizer: Any, prompt: Any, tools: Any = None) -> list[int]:
    """Return a prompt's token ids, ready for the answer to follow.

    Messages go through the chat template; for a model without one their texts are joined by blank lines.
    """
    if tokenizer.chat_template and not isinstance(prompt, str):
        extra = {"tools": tools} if tools else {}
        text = tokenizer.apply_chat_template(prompt, tokenize=False, add_generation_prompt=True, **extra)
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])
    return list(tokenizer(plain_text(prompt))["input_ids"])


def completion_ids(tokenizer: Any, prompt: Any, completion: Any, tools: Any = None) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt and of the completion that follows it, cut where the two part.

    As in training: the whole conversation is rendered once, and the completion is what comes after the prompt's ids.
    The end of the turn belongs to the completion (with a chat template its own, otherwise the end token).
    """
    start = prompt_ids(tokenizer, prompt, tools)
    if tokenizer.chat_template and not isinstance(prompt, str):
        extra = {"tools": tools} if tools else {}
        messages = [*prompt, *_as_messages(completion)]
        text = tokenizer.apply_chat_template(messages, tokenize=False, **extra)
        whole = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    else:
        whole = list(tokenizer(plain_text(prompt) + plain_text(completion))["input_ids"])
        if whole[-1:] != [tokenizer.eos_token_id] and tokenizer.eos_token_id is not None:
            whole.append(tokenizer.eos_token_id)
    shared = next((i for i, (a, b) in enumerate(zip(start, whole, strict=False)) if a != b), min(len(start), len(whole)))
    return whole[:shared], whole[shared:]


def plain_text(value: Any) -> str:
    """Return a string as it is and messages as their texts, one paragraph each."""
    return value if isinstance(value, str) else "\n\n".join(str(message["content"]) for message in value)


def _as_messages(completion: Any) -> list[dict[str, Any]]:
    return [{"role": "assistant", "content": completion}] if isinstance(completion, str) else list(completion)


def stop_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return every token that ends an answer: the generation config's and the tokenizer's."""
    found = model.generation_config.eos_token_id
    ids = set(found if isinstance(found, list) else [found]) | {tokenizer.eos_token_id}
    return sorted(i for i in ids if i is not None)


def auto_batch_size(model: Any) -> int:
    """Return how many prompts to answer at once when nobody said: many for a tiny model, few for a large one."""
    parameters = sum(p.numel() for p in model.parameters())
    on_gpu = next(model.parameters()).device.type == "cuda"
    for limit, size in ((20e6, 128), (300e6, 32), (2e9, 16)):
        if parameters <= limit:
            return size
    return 32 if on_gpu else 4


def by_length(lengths: Sequence[int], size: int, roomy: int) -> Iterator[list[int]]:
    """Yield batches of indices, longest first: little padding, and what does not fit in memory fails at once.

    A prompt longer than `roomy` tokens has not got the context for a whole answer: it stays alone, so that it does not
    shorten the answers of its neighbours.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    crowded = [i for i in order if lengths[i] > roomy]
    yield from ([i] for i in crowded)
    rest = order[len(crowded):]
    for start in range(0, len(rest), size):
        yield rest[start:start + size]


@torch.inference_mode()
def answer(model: Any, tokenizer: Any, batch: Sequence[Sequence[int]], how: Sampling) -> list[Answer]:
    """Answer a batch of prompts.

    Args:
        model: causal language model.
        tokenizer: its tokenizer.
        batch: prompt ids, each shorter than the model's context.
        how: sampling settings; the seed is set before the batch, so a batch repeated is a batch equal.
    """
    width = max(len(ids) for ids in batch)
    room = context_length(model) - width
    new_tokens = min(how.max_new_tokens, room)
    ends = stop_ids(model, tokenizer)
    ids, mask = _padded(batch, width, tokenizer.pad_token_id or 0, _place(model))
    out = model.generate(input_ids=ids, attention_mask=mask, **generation_settings(how, new_tokens, ends, tokenizer))
    answers = []
    for row in out[:, width:].tolist():
        end = next((i for i, token in enumerate(row) if token in ends), None)
        reason = "stop" if end is not None else ("length" if new_tokens == how.max_new_tokens else "context")
        kept = row[:end] if end is not None else row
        answers.append(Answer(tokenizer.decode(kept, skip_special_tokens=True), len(kept), reason))
    return answers


def generation_settings(how: Sampling, new_tokens: int, ends: list[int], tokenizer: Any) -> dict[str, Any]:
    """Return `generate` arguments; a greedy answer ignores what the model's own generation config says on sampling."""
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if how.temperature > 0:
        torch.manual_seed(how.seed)
        sampling = {"do_sample": True, "temperature": how.temperature, "top_p": how.top_p, "top_k": 0}
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else (ends or [0])[0]
    return {"max_new_tokens": new_tokens, "use_cache": True, "eos_token_id": ends or None, "pad_token_id": pad, **sampling}


@torch.inference_mode()
def score(model: Any, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    """Return the summed log-probability (nats) of each completion given its prompt, in the order of `pairs`."""
    sums = [0.0] * len(pairs)
    for batch in score_batches(model, pairs):
        for i, value in zip(batch, score_batch(model, [pairs[i] for i in batch]), strict=True):
            sums[i] = value
    return sums


def score_batches(model: Any, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> Iterator[list[int]]:
    """Yield batches of indices whose logits fit a fixed budget, longest first."""
    vocabulary = int(model.get_output_embeddings().weight.shape[0])
    lengths = [len(p) + len(c) for p, c in pairs]
    order = sorted(range(len(pairs)), key=lambda i: (-lengths[i], i))
    while order:
        size = max(1, min(64, _LOGITS_BYTES // (8 * vocabulary * max(1, lengths[order[0]]))))
        yield order[:size]
        order = order[size:]


@torch.inference_mode()
def score_batch(model: Any, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[float]:
    """Return the summed log-probability (nats) of each completion of one batch.

    Sequences are aligned at their ends, so that logits are needed for the last positions only.
    """
    whole = [[*p, *c] for p, c in pairs]
    width = max(len(ids) for ids in whole)
    kept = min(width, max(len(c) for _, c in pairs) + 1)
    ids, mask = _padded(whole, width, 0, _place(model))
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    extra = {"logits_to_keep": kept} if _can_keep_few_logits(model) else {}
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, **extra).logits
    logits = logits[:, -kept:-1].float()  # (batch, kept-1, vocab); position i predicts token i+1
    targets = ids[:, width - kept + 1:]
    taken = logits.gather(-1, targets.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)  # (batch, kept-1)
    # Nothing predicts a first token, so a completion without a prompt is scored from its second token.
    counts = [min(len(c), len(p) + len(c) - 1) for p, c in pairs]
    return [float(taken[row, kept - 1 - n:].sum()) if n else 0.0 for row, n in enumerate(counts)]


def _can_keep_few_logits(model: Any) -> bool:
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(inner.forward).parameters


@torch.inference_mode()
def logits_of(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Return float32 logits (seq, vocab) of one sequence, on the CPU."""
    batch = torch.tensor([list(ids)], device=_place(model))
    return model(input_ids=batch, use_cache=False).logits[0].float().cpu()


def _place(model: Any) -> Any:
    return model.get_input_embeddings().weight.device


def _padded(rows: Sequence[Sequence[int]], width: int, pad: int, where: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and attention mask, both (batch, width), padded on the left."""
    ids = [[pad] * (width - len(row)) + list(row) for row in rows]
    mask = [[0] * (width - len(row)) + [1] * len(row) for row in rows]
    return torch.tensor(ids, device=where), torch.tensor(mask, device=where)
