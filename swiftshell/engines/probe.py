"""Prove which model a preference loss is measured against, before the first step.

The probe is a handful of fixed rows (token ids, what is completion) with the summed log-probabilities that the SFT
model gives to the completions, computed by a plain forward pass and recorded in its artifact. Before KTO or DPO takes
a step, the reference that the trainer will really use (a frozen adapter, the disabled adapter, a second model) is asked
for the same numbers. Rewards of 0 on the first step would prove nothing: they are 0 against any reference that equals the
policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from swiftshell.engines import vision
from swiftshell.engines.loading import Precision
from swiftshell.engines.rows import Example
from swiftshell.errors import fail

_MAX_TOKENS = 512  # a probe row is cut to this, from its end
_LOGITS_BYTES = 256 << 20  # plain logits in memory at a time: training never makes them, and must not need less room
# Largest difference per completion token (nats) that arithmetic alone explains, by the dtype computed in.
TOLERANCE = {"float32": 1e-3, "bfloat16": 2e-2, "float16": 5e-3}


@dataclass(frozen=True)
class ProbeRow:
    """Tokens that are read and tokens that are scored.

    Attributes:
        images: files of the images in the prompt, whose tokens are among `prompt_ids`; `eyes` looks at them.
    """

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]
    images: tuple[str, ...] = ()
    eyes: vision.Eyes | None = field(default=None, compare=False, repr=False)

    def seen(self) -> dict[str, Any]:
        """Return what the model takes beside the tokens: the images."""
        if not self.images or self.eyes is None:
            return {}
        return self.eyes.show(self.prompt_ids + self.completion_ids, self.images)


def choose_rows(
    examples: Sequence[Example], count: int, eyes: vision.Eyes | None = None
) -> list[ProbeRow]:
    """Pick `count` rows spread evenly over the data, the same ones every time; `eyes` for those with images."""
    picked = (
        [examples[i * len(examples) // count] for i in range(count)] if len(examples) > count else examples
    )
    return [row_of(e, eyes) if e.data.get("images") else _cut(e.prompt_ids, e.answers[0]) for e in picked]


def row_of(example: Example, eyes: vision.Eyes | None = None) -> ProbeRow:
    """Return a whole row: the tokens of an image cannot be cut."""
    return ProbeRow(example.prompt_ids, example.answers[0], tuple(example.data.get("images") or ()), eyes)


def _cut(prompt: Sequence[int], answer: Sequence[int]) -> ProbeRow:
    """Keep at least half of the room for the prompt's end, and one token to predict the first answer token from."""
    answer = answer[: _MAX_TOKENS // 2]
    prompt = prompt[-(_MAX_TOKENS - len(answer)) :]
    return (
        ProbeRow(tuple(prompt), tuple(answer)) if prompt else ProbeRow(tuple(answer[:1]), tuple(answer[1:]))
    )


def record(
    rows: Sequence[ProbeRow], logps: Sequence[float], base_logps: Sequence[float] | None, precision: Precision
) -> dict[str, Any]:
    """Return the probe as an artifact keeps it; ids as one string a row, so that the file stays readable."""
    return {
        "precision": precision.as_json(),
        "rows": [
            {
                "prompt_ids": " ".join(map(str, r.prompt_ids)),
                "completion_ids": " ".join(map(str, r.completion_ids)),
                **({"images": vision.fingerprints(r.images)} if r.images else {}),
            }
            for r in rows
        ],
        "logps": [round(v, 6) for v in logps],
        **({"base_logps": [round(v, 6) for v in base_logps]} if base_logps is not None else {}),
    }


def rows_of(probe: Mapping[str, Any], eyes: vision.Eyes | None = None) -> list[ProbeRow]:
    """Return a recorded probe's rows; `eyes` for those with images."""
    return [
        ProbeRow(
            tuple(map(int, r["prompt_ids"].split())),
            tuple(map(int, r["completion_ids"].split())),
            tuple(i["path"] for i in r.get("images") or ()),
            eyes,
        )
        for r in probe["rows"]
    ]


def is_whole(probe: Mapping[str, Any]) -> bool:
    """Tell whether the images of a recorded probe are still there and unchanged."""
    return all(vision.unchanged(r.get("images") or ()) for r in probe["rows"])


def independent_logps(
    model: Any, rows: Sequence[ProbeRow], precision: Precision, batch: int = 8
) -> list[float]:
    """Return the summed log-probability of each row's completion from the model's plain logits.

    Uses neither TRL's fused head nor its batches; rows are padded on the right, (batch, seq) ids.
    """
    import torch

    device = next(model.parameters()).device
    training = model.training
    model.eval()
    autocast = (
        torch.autocast(device.type, dtype=getattr(torch, precision.autocast))
        if precision.autocast
        else nullcontext()
    )
    vocabulary = int(model.config.get_text_config().vocab_size)
    found: list[float] = []
    with torch.no_grad(), autocast:
        for part in _parts(rows, batch, _LOGITS_BYTES // (4 * vocabulary)):
            width = max(len(r.prompt_ids) + len(r.completion_ids) for r in part)
            ids = torch.zeros(len(part), width, dtype=torch.long)
            seen = torch.zeros_like(ids)
            for i, row in enumerate(part):
                whole = row.prompt_ids + row.completion_ids
                ids[i, : len(whole)] = torch.tensor(whole)
                seen[i, : len(whole)] = 1
            images = {k: v.to(device) for k, v in part[0].seen().items()}
            logits = model(
                input_ids=ids.to(device), attention_mask=seen.to(device), use_cache=False, **images
            ).logits
            found += [_completion_logp(logits[i], row) for i, row in enumerate(part)]
            del logits  # before the next ones are made
    model.train(training)
    return found


def _completion_logp(logits: Any, row: ProbeRow) -> float:
    """Return the summed log-probability of one row's completion from its logits, (seq, vocab)."""
    import torch

    first, last = max(len(row.prompt_ids), 1), len(row.prompt_ids) + len(row.completion_ids)
    answer = torch.tensor(row.completion_ids[first - len(row.prompt_ids) :], device=logits.device)
    logps = torch.log_softmax(logits[first - 1 : last - 1].float(), dim=-1)
    return float(logps.gather(-1, answer[:, None]).sum())


def _parts(rows: Sequence[ProbeRow], batch: int, limit_tokens: int) -> list[list[ProbeRow]]:
    """Return the rows in batches, in order, of at most `limit_tokens` with their padding; one with images is alone."""
    parts: list[list[ProbeRow]] = []
    for row in rows:
        if parts and _joins(parts[-1], row, batch, limit_tokens):
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def _joins(part: list[ProbeRow], row: ProbeRow, batch: int, limit_tokens: int) -> bool:
    width = max(len(r.prompt_ids) + len(r.completion_ids) for r in (*part, row))
    pictured = bool(row.images or part[0].images)
    return not pictured and len(part) < batch and width * (len(part) + 1) <= limit_tokens


def trainer_logps(trainer: Any, rows: Sequence[ProbeRow]) -> list[float]:
    """Return the summed log-probabilities that a KTO or DPO trainer's own reference gives to the rows.

    The trainer chooses the reference exactly as in its loss: `compute_ref_log_probs` is the call it makes itself when
    it computes them in advance. That call passes no images on, so with images the loss itself is asked.
    """
    import torch

    if any(r.images for r in rows) or "row" in trainer.train_dataset.column_names:
        return _asked_through_the_loss(trainer, rows)
    model = trainer.ref_model if trainer.ref_model is not None else trainer.model
    training = trainer.model.training
    trainer.model.eval()
    found: list[float] = []
    size = trainer.args.per_device_train_batch_size
    for start in range(0, len(rows), size):
        batch = trainer.data_collator([_as_trl(r) for r in rows[start : start + size]])
        on_device = {
            k: v.to(trainer.accelerator.device) if isinstance(v, torch.Tensor) else v
            for k, v in batch.items()
        }
        found += trainer.compute_ref_log_probs(model, on_device)[0].tolist()
    trainer.model.train(training)
    return found


def _asked_through_the_loss(trainer: Any, rows: Sequence[ProbeRow]) -> list[float]:
    """Return what the reference in the trainer's loss says: the policy's log-probability less the reward over beta.

    One row a batch, so that the metrics which the loss keeps for its log are that row's; they are taken out again.
    """
    import torch

    training = trainer.model.training
    trainer.model.eval()
    kept = trainer._metrics["eval"]  # no public way to what `log` averages
    found: list[float] = []
    with torch.no_grad(), trainer.compute_loss_context_manager():
        for row in rows:
            before = {name: list(values) for name, values in kept.items()}
            batch = {k: v.to(trainer.accelerator.device) for k, v in _loss_batch(trainer, row).items()}
            trainer.compute_loss(trainer.model, batch)
            found.append(kept["logps/chosen"][-1] - kept["rewards/chosen"][-1] / trainer.beta)
            kept.clear()
            kept.update(before)
    trainer.model.train(training)
    return found


def _loss_batch(trainer: Any, row: ProbeRow) -> dict[str, Any]:
    """Return one row as the batch of a KTO trainer, or, as chosen and rejected, of a DPO trainer."""
    import torch

    whole = torch.tensor([row.prompt_ids + row.completion_ids])
    scored = torch.ones_like(whole)
    scored[:, : len(row.prompt_ids)] = 0
    tokens = {"input_ids": whole, "attention_mask": torch.ones_like(whole), "completion_mask": scored}
    images = row.seen()
    if not hasattr(trainer, "calculate_KL"):
        return {k: torch.cat((v, v)) for k, v in {**tokens, **images}.items()}
    kinds = {f"KL_{k}": v for k, v in images.items() if k.endswith("token_type_ids")}
    mismatched = {f"KL_{k}": v for k, v in tokens.items()}
    return {**tokens, **images, **mismatched, **kinds, "label": torch.tensor([True])}


def _as_trl(row: ProbeRow) -> dict[str, Any]:
    """Return a row with the tokenized columns of KTO and of DPO (the same answer as chosen and rejected)."""
    answer = list(row.completion_ids)
    return {
        "prompt_ids": list(row.prompt_ids),
        "completion_ids": answer,
        "KL_completion_ids": answer,
        "label": True,
        "chosen_ids": answer,
        "rejected_ids": answer,
    }


def largest_difference(expected: Sequence[float], found: Sequence[float], rows: Sequence[ProbeRow]) -> float:
    """Return the largest difference of any row in nats per completion token; infinite if the counts differ."""
    if len(expected) != len(found) or len(found) != len(rows):
        return float("inf")
    return max(
        abs(e - f) / max(len(r.completion_ids), 1) for e, f, r in zip(expected, found, rows, strict=True)
    )


def tolerance(precision: Precision) -> float:
    """Return the difference per token that arithmetic explains in this precision."""
    return TOLERANCE[precision.autocast or precision.weights]


def refuse_if_different(
    expected: Sequence[float],
    found: Sequence[float],
    rows: Sequence[ProbeRow],
    precision: Precision,
    **names: Any,
) -> float:
    """Return the largest difference, or refuse.

    Raises:
        SwiftshellError: the trainer's reference is not the expected model (`train.reference_mismatch`).
    """
    difference = largest_difference(expected, found, rows)
    if not difference <= tolerance(precision):  # also when a number is not finite
        worst = (
            max(range(len(rows)), key=lambda i: abs(expected[i] - found[i]))
            if len(expected) == len(found)
            else 0
        )
        raise fail(
            "train.reference_mismatch",
            exit_code=3,
            difference=round(difference, 6),
            tolerance=tolerance(precision),
            expected=round(expected[worst], 4),
            found=round(found[worst], 4),
            rows=len(rows),
            **names,
        )
    return difference
