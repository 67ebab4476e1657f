"""Ask the reference once: its log-probabilities are computed before training, and kept for later runs.

TRL's loss reads the columns `ref_logps` and `ref_KL_logps` (KTO), `ref_chosen_logps` and `ref_rejected_logps` (DPO)
when `trainer.precompute_ref_logps` is set, and forwards the reference no more. Three things make this cheaper than
asking it in every batch: equal sequences are asked once, sequences of one length share a batch whatever batch they
train in, and what an earlier run of the same reference was told is read from the workspace's cache
(`swiftshell.engines.reference_store`). A guard's restart, another beta or another round pays nothing.

A remembered number is trusted only after some of them were computed again and agreed.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from swiftshell.engines import probe, reference_identity
from swiftshell.engines.loading import Precision
from swiftshell.engines.reference_store import Store
from swiftshell.stages.base import Context, StepRequest, Stopped

PROVEN_ROWS, PROVEN_OF_FEW, FEW = 8, 4, 64  # remembered sequences computed again; fewer where there are few
_BLOCK_ROWS = 1000  # rows decoded at a time
_ROWS_TIMES = 8  # a batch has at most this many times the training batch's rows, however short they are
# The answer a column is about; KTO's first, DPO's second.
_COLUMNS = {
    "ref_logps": "completion_ids",
    "ref_KL_logps": "KL_completion_ids",
    "ref_chosen_logps": "chosen_ids",
    "ref_rejected_logps": "rejected_ids",
}

_NOT_AHEAD = {
    "images": "batches.reference_with_images",
    "ld_alpha": "batches.reference_with_ld_alpha",
    "several_processes": "batches.reference_of_several_processes",
}

Tokens = tuple[list[int], list[int]]  # prompt and answer tokens, cut as the trainer cuts them


@dataclass(frozen=True, slots=True)
class Place:
    """Where a sequence is found: data set, row, column of its answer; and its length in tokens."""

    data_set: int
    row: int
    answer: str
    tokens: int


@dataclass
class Asked:
    """All sequences of a step, by digest.

    Attributes:
        data_sets: train and, if there is one, eval.
        digests: for each data set and column, the digest of every row (None: a row that is never trained on).
        places: where each sequence is found first.
    """

    data_sets: list[Any]
    digests: list[dict[str, list[bytes | None]]]
    places: dict[bytes, Place]

    def sequence(self, digest: bytes, limit: int | None) -> Tokens:
        """Return a sequence's tokens."""
        place = self.places[digest]
        row = self.data_sets[place.data_set][place.row]
        return _cut(row["prompt_ids"], row[place.answer], limit)


def attach(
    trainer: Any,
    reference: Any,
    precision: Precision,
    request: StepRequest,
    ctx: Context,
    used: Iterable[int] | None = None,
) -> dict[str, Any]:
    """Give the trainer the reference's log-probabilities of its data sets, so that it asks the reference no more.

    Call it when the trainer is built and before its rows are put in order. `reference` is the reference's
    `loading.Stack`, `used` the rows of the training data that will be trained on (None: all of them).

    Returns the facts for the step's summary.

    Raises:
        Stopped: a stop was asked for; what was computed until then is kept.
    """
    if (why := _unfit(trainer, request, used)) is not None:
        if request.params.precompute_ref_log_probs is True:
            ctx.note(_NOT_AHEAD[why])
        return {"reference_precomputed": False, "reference_not_precomputed": why}
    started = time.monotonic()
    ctx.phase("reference")
    asked = _collect(trainer, used)
    store = Store.open(ctx.cache, reference_identity.key(reference, precision, ctx.cache), ctx)
    try:
        known, computed = _answers(trainer, asked, store, precision, ctx)
    finally:
        store.close()
    _add_columns(trainer, asked, known)
    trainer.precompute_ref_logps = True
    return {
        "reference_precomputed": True,
        "reference_sequences": len(asked.places),
        "reference_computed": computed,
        "reference_s": round(time.monotonic() - started, 3),
    }


def _unfit(trainer: Any, request: StepRequest, used: Iterable[int] | None) -> str | None:
    """Return why the reference is asked in every batch instead; None if it can be asked once, and that is worth it."""
    asked, args = request.params.precompute_ref_log_probs, trainer.args
    if asked is False:
        return "off"
    if "prompt_ids" not in (trainer.train_dataset.column_names or ()):
        return "images"
    if getattr(trainer, "ld_alpha", None) is not None:
        return "ld_alpha"  # DPO weighs the tokens beyond the shorter answer: the number belongs to the pair
    if trainer.accelerator.num_processes > 1:
        return "several_processes"  # each would compute everything
    trained = args.max_steps * args.per_device_train_batch_size * args.gradient_accumulation_steps
    if asked == "auto" and used is None and 0 < trained < len(trainer.train_dataset):
        return "few_steps"  # which rows is not known in advance, and most would be computed for nothing
    return None


def _collect(trainer: Any, used: Iterable[int] | None) -> Asked:
    """Read through the data sets once and note what each row asks."""
    limit = trainer.args.max_length
    asked = Asked([d for d in (trainer.train_dataset, trainer.eval_dataset) if d is not None], [], {})
    for number, data_set in enumerate(asked.data_sets):
        wanted = set(used) if used is not None and number == 0 else None
        columns = {c: a for c, a in _COLUMNS.items() if a in data_set.column_names}
        digests: dict[str, list[bytes | None]] = {c: [None] * len(data_set) for c in columns}
        for row, prompt, answers in _rows(data_set, list(columns.values())):
            if wanted is not None and row not in wanted:
                continue
            for column, answer in zip(columns, answers, strict=True):
                tokens = _cut(prompt, answer, limit)
                digests[column][row] = key = digest(*tokens)
                asked.places.setdefault(key, Place(number, row, columns[column], sum(map(len, tokens))))
        asked.digests.append(digests)
    return asked


def _rows(data_set: Any, answers: list[str]) -> Iterator[tuple[int, list[int], list[list[int]]]]:
    """Yield each row's number, prompt and answers, a block in memory at a time."""
    for start in range(0, len(data_set), _BLOCK_ROWS):
        block = data_set[start : start + _BLOCK_ROWS]
        for at, prompt in enumerate(block["prompt_ids"]):
            yield start + at, prompt, [block[a][at] for a in answers]


def _cut(prompt: list[int], answer: list[int], limit: int | None) -> Tokens:
    """Cut a sequence's end as TRL's collators do (a KL sequence can be longer than any row)."""
    if limit is None:
        return prompt, answer
    return prompt[:limit], answer[: max(limit - len(prompt), 0)]


def digest(prompt: Sequence[int], answer: Sequence[int]) -> bytes:
    """Return 16 bytes that stand for a sequence and for where its answer begins."""
    found = blake2b(digest_size=16)
    found.update(len(prompt).to_bytes(8, "little"))
    for tokens in (prompt, answer):
        found.update(array("I", tokens).tobytes())
    return found.digest()


def _answers(
    trainer: Any, asked: Asked, store: Store, precision: Precision, ctx: Context
) -> tuple[dict[bytes, float], int]:
    """Return every sequence's log-probability, and how many had to be computed."""
    ask = _Asking(trainer, asked, ctx)
    known = store.read(asked.places)
    if known and not _proven(known, ask, asked, precision):
        ctx.warn("batches.reference_cache_wrong", file=str(store.path), count=len(known))
        store.forget()
        known = {}
    missing = [d for d in asked.places if d not in known]
    ctx.progress(len(known), len(asked.places), "rows")
    for found in ask.all(missing):
        known |= found
        store.add(found)
        ctx.progress(len(known), len(asked.places), "rows")
        if ctx.stop_requested():
            raise Stopped
    return known, len(missing)


def _proven(known: dict[bytes, float], ask: _Asking, asked: Asked, precision: Precision) -> bool:
    """Compute some remembered sequences again, short ones and long ones, and tell whether they agree."""
    ordered = sorted(known, key=lambda d: (asked.places[d].tokens, d))
    count = min(len(ordered), PROVEN_ROWS if len(ordered) >= FEW else PROVEN_OF_FEW)
    chosen = [ordered[(2 * at + 1) * len(ordered) // (2 * count)] for at in range(count)]
    found = {d: v for part in ask.all(chosen) for d, v in part.items()}
    rows = [probe.ProbeRow(tuple(p), tuple(a)) for p, a in (asked.sequence(d, ask.limit) for d in chosen)]
    difference = probe.largest_difference([known[d] for d in chosen], [found[d] for d in chosen], rows)
    return difference <= probe.tolerance(precision)


class _Asking:
    """Batches for the trainer's own reference: of one length, as many tokens as a training batch may have."""

    def __init__(self, trainer: Any, asked: Asked, ctx: Context) -> None:
        self.trainer, self.asked, self.ctx = trainer, asked, ctx
        self.limit: int | None = trainer.args.max_length
        rows = trainer.args.per_device_train_batch_size
        longest = max((p.tokens for p in asked.places.values()), default=1)
        self.tokens, self.rows = rows * longest, rows * _ROWS_TIMES

    def all(self, digests: Sequence[bytes]) -> Iterator[dict[bytes, float]]:
        """Yield the answers batch by batch, the longest first."""
        ordered = sorted(digests, key=lambda d: (-self.asked.places[d].tokens, d))
        start = 0
        while start < len(ordered):
            longest = self.asked.places[ordered[start]].tokens
            count = max(1, min(self.rows, self.tokens // max(longest, 1)))
            part = ordered[start : start + count]
            yield dict(
                zip(part, self._batch([self.asked.sequence(d, self.limit) for d in part]), strict=True)
            )
            start += count

    def _batch(self, sequences: list[Tokens]) -> list[float]:
        trainer = self.trainer
        model = trainer.ref_model if trainer.ref_model is not None else trainer.model
        training = trainer.model.training
        trainer.model.eval()
        try:
            answers = trainer.compute_ref_log_probs(model, self._inputs(sequences))
        finally:
            trainer.model.train(training)
        found = [float(v) for part in answers if part is not None for v in part.tolist()]
        return found[: len(sequences)]

    def _inputs(self, sequences: list[Tokens]) -> dict[str, Any]:
        """Return what `compute_ref_log_probs` takes. KTO's also wants KL sequences: they are the second half."""
        if not getattr(self.trainer, "calculate_KL", False):
            return self._padded(sequences + sequences[:1] * (len(sequences) % 2))
        half = -(-len(sequences) // 2)
        second = self._padded(sequences[half:] or sequences[:1])
        return {**self._padded(sequences[:half]), **{f"KL_{name}": value for name, value in second.items()}}

    def _padded(self, sequences: list[Tokens]) -> dict[str, Any]:
        """Return ids, attention mask and completion mask, (batch, seq) int64, padded on the right."""
        import torch

        speaker = self.trainer.processing_class
        tokenizer = getattr(speaker, "tokenizer", speaker)  # a processor, where the model can also see
        multiple = self.trainer.args.pad_to_multiple_of or 1
        width = math.ceil(max(len(p) + len(a) for p, a in sequences) / multiple) * multiple
        ids = torch.full((len(sequences), width), int(tokenizer.pad_token_id), dtype=torch.long)
        seen, scored = torch.zeros_like(ids), torch.zeros_like(ids)
        for at, (prompt, answer) in enumerate(sequences):
            whole = len(prompt) + len(answer)
            ids[at, :whole] = torch.tensor([*prompt, *answer])
            seen[at, :whole] = 1
            scored[at, len(prompt) : whole] = 1
        device = self.trainer.accelerator.device
        named = {"input_ids": ids, "attention_mask": seen, "completion_mask": scored}
        return {name: value.to(device) for name, value in named.items()}


def _add_columns(trainer: Any, asked: Asked, known: dict[bytes, float]) -> None:
    """Write the numbers beside the rows; NaN beside a row that is not trained on, so that it could not be used unseen."""
    done = []
    for data_set, digests in zip(asked.data_sets, asked.digests, strict=True):
        for column, rows in digests.items():
            values = [math.nan if d is None else known[d] for d in rows]
            data_set = data_set.add_column(column, values)
        done.append(data_set)
    trainer.train_dataset = done[0]
    if len(done) > 1:
        trainer.eval_dataset = done[1]
