"""Pretrain the starter's base model with a plain torch loop."""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftshell.starter import tokenizer as tok

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import LlamaForCausalLM


@dataclass(frozen=True)
class Schedule:
    """Set the length and the step size of pretraining."""

    steps: int = 1800
    batch_documents: int = 32
    learning_rate: float = 3e-3
    warmup_steps: int = 100
    weight_decay: float = 0.05


def make_model(vocabulary_size: int, seed: int) -> LlamaForCausalLM:
    """Make a randomly initialised Llama small enough to ship and shaped so that serving engines take it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,  # vLLM's CPU attention takes no smaller head
        max_position_embeddings=tok.MAX_LENGTH_TOKENS,
        rms_norm_eps=1e-5,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tok.SPECIAL_TOKENS.index(tok.END_OF_TURN),
        pad_token_id=tok.SPECIAL_TOKENS.index(tok.PAD),
        initializer_range=0.05,
        dtype="float32",
    )
    return LlamaForCausalLM(config)


def pretrain(
    documents: Iterator[str],
    folder: Path,
    seed: int,
    schedule: Schedule,
    report: Callable[[str], None] = print,
    limit_s: float | None = None,
) -> None:
    """Train on documents and write the model beside the tokenizer already in `folder`.

    With `limit_s` the schedule is stretched or cut so as to end after about that many seconds.
    """
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = make_model(tokenizer.get_vocab_size(), seed)
    batches = _batches(documents, tokenizer, schedule)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, betas=(0.9, 0.98))
    for group in optimizer.param_groups:
        group["weight_decay"] = schedule.weight_decay
    model.train()
    started = time.monotonic()
    mean = 0.0
    for step in range(1, schedule.steps + 1):
        elapsed_s = time.monotonic() - started
        done = step / schedule.steps if limit_s is None else elapsed_s / limit_s
        if done > 1:
            break
        scale = min(step / schedule.warmup_steps, 0.5 * (1 + math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = schedule.learning_rate * scale
        ids, labels = next(batches)
        loss = model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        mean = loss.item() if step == 1 else 0.98 * mean + 0.02 * loss.item()
        if step % 50 == 0:
            report(f"step {step}: loss {mean:.3f}, {elapsed_s:.0f} s")
    _save(model, folder)


def _batches(documents: Iterator[str], tokenizer: Any, schedule: Schedule) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield input ids and labels, both (batch_documents, longest), of documents of similar length.

    One document a row, not packed: a fact about the same name in a neighbouring document would be a
    distractor that no question can tell apart.
    """
    import torch

    end, pad = (tok.SPECIAL_TOKENS.index(t) for t in (tok.END_OF_TEXT, tok.PAD))
    shuffler = random.Random(schedule.batch_documents)
    while True:
        pool = [
            [*tokenizer.encode(d).ids, end]
            for d in itertools.islice(documents, schedule.batch_documents * 32)
        ]
        pool.sort(key=len)
        starts = list(range(0, len(pool), schedule.batch_documents))
        shuffler.shuffle(starts)
        for start in starts:
            rows = pool[start : start + schedule.batch_documents]
            ids = torch.full((len(rows), max(map(len, rows))), pad)
            for i, row in enumerate(rows):
                ids[i, : len(row)] = torch.tensor(row)
            yield ids, ids.masked_fill(ids == pad, -100)


def _save(model: LlamaForCausalLM, folder: Path) -> None:
    from transformers import GenerationConfig

    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=48,
        eos_token_id=tok.SPECIAL_TOKENS.index(tok.END_OF_TURN),
        pad_token_id=tok.SPECIAL_TOKENS.index(tok.PAD),
    )
    model.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
