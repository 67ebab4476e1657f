"""Measure the policy's KL on its own answers: the truest sign of drift, and the only one that costs time.

The estimates of a training step come from answers that somebody else wrote. Here the policy answers fixed prompts of its
training data itself, and both models say how likely the answers are: the mean log-ratio per token is a Monte Carlo
estimate of KL(policy || reference), in nats per token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swiftshell.engines import generate, probe
from swiftshell.engines.assemble import context_length
from swiftshell.engines.loading import Precision
from swiftshell.engines.probe import ProbeRow

_NEW_TOKENS = 64
_BATCH = 16


class GeneratedProbe:
    """Answers to the same prompts each time, sampled at temperature 1 with the same seed.

    Args:
        prompts: token ids; each short enough for an answer to fit.
    """

    def __init__(
        self, trainer: Any, prompts: Sequence[Sequence[int]], precision: Precision, seed: int
    ) -> None:
        self._trainer, self._prompts, self._precision, self._seed = trainer, list(prompts), precision, seed

    def measure(self) -> float:
        """Return the KL in nats per generated token; training goes on as if nothing had been asked."""
        import torch

        model = self._trainer.model
        training = model.training
        model.eval()
        devices = [model.device] if model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), torch.no_grad(), self._trainer.accelerator.autocast():
            rows = [row for at in range(0, len(self._prompts), _BATCH) for row in self._answers(model, at)]
        model.train(training)
        tokens = sum(len(r.completion_ids) for r in rows)
        policy = probe.independent_logps(model, rows, self._precision)
        reference = probe.trainer_logps(self._trainer, rows)
        return (sum(policy) - sum(reference)) / max(tokens, 1)

    def _answers(self, model: Any, at: int) -> list[ProbeRow]:
        """Return one batch of prompts with what the policy said, the end token included."""
        import torch

        batch, tokenizer = self._prompts[at : at + _BATCH], self._trainer.processing_class
        width, pad = max(map(len, batch)), tokenizer.pad_token_id or 0
        ids = torch.tensor([[pad] * (width - len(p)) + list(p) for p in batch], device=model.device)
        seen = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in batch], device=model.device)
        ends = generate.stop_ids(model, tokenizer)
        how = generate.Sampling(_NEW_TOKENS, temperature=1.0, seed=self._seed + at)
        new = min(_NEW_TOKENS, context_length(model) - width)
        settings = generate.generation_settings(how, new, ends, tokenizer)
        said = model.generate(input_ids=ids, attention_mask=seen, **settings)[:, width:].tolist()
        return [ProbeRow(tuple(p), tuple(_until_end(s, ends))) for p, s in zip(batch, said, strict=True)]


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    end = next((i for i, token in enumerate(tokens) if token in ends), len(tokens) - 1)
    return tokens[: end + 1]


def choose_prompts(data_set: Any, count: int, room_tokens: int) -> list[list[int]]:
    """Return up to `count` different prompts spread evenly over the data, none longer than what leaves room to answer."""
    prompts = [
        list(p) for p in dict.fromkeys(tuple(p) for p in data_set["prompt_ids"]) if len(p) <= room_tokens
    ]
    return [prompts[i * len(prompts) // count] for i in range(count)] if len(prompts) > count else prompts
