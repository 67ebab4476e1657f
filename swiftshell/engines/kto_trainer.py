"""TRL's KTOTrainer with a weight for every row, and with the numbers that show drift.

Why a subclass at all (docs/decisions.md, "One subclass of KTOTrainer"): TRL has no public way to weigh a row, and the
`kl` it logs is clamped at 0, so a collapsing policy is invisible in it. Two methods are overridden, none is copied:

- `compute_loss` sets TRL's two class weights to tensors for one micro-batch; TRL multiplies them into the loss as it
  does with numbers.
- `_compute_kl_logps` keeps what TRL computed anyway. Should TRL rename it, the unclamped KL is missing and nothing else.

With weight 1 on every row, loss and gradients are bit-identical to TRL's. `tests/engines/test_kto_weights.py` holds that
against the pinned version, and names what to look at when the pin moves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from trl import KTOTrainer

WEIGHT = "weight"  # a row's column; absent means 1


class WithWeights:
    """A data collator that adds the rows' weights, float32 (batch,), to what another one makes of them."""

    def __init__(self, collator: Any) -> None:
        self.collator = collator

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the batch with `weight`; weights are taken first, as a collator may change its rows."""
        weights = torch.tensor([float(r.get(WEIGHT, 1.0)) for r in rows], dtype=torch.float32)
        return {**self.collator(rows), WEIGHT: weights}


class WeightedKTOTrainer(KTOTrainer):
    """KTOTrainer whose rows have weights. Pass `remove_unused_columns=False`, or the weights are dropped unseen."""

    data_collator: Any
    desirable_weight: Any  # TRL's number, or for one micro-batch a tensor with a factor for each row of the class
    undesirable_weight: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Build TRL's trainer, then put its collator behind one that knows weights."""
        self._kl_seen: list[Any] = []
        super().__init__(*args, **kwargs)
        self.data_collator = WithWeights(self.data_collator)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss with every row's term multiplied by its weight.

        TRL multiplies a class's weight into the terms of its rows, in their order; a tensor of one factor for each of
        these rows broadcasts like the number it replaces.
        """
        batch = {k: v for k, v in inputs.items() if k != WEIGHT}
        given = self.desirable_weight, self.undesirable_weight
        if WEIGHT in inputs:
            desirable = inputs["label"].bool()
            weight = inputs[WEIGHT].to(desirable.device)
            self.desirable_weight = given[0] * weight[desirable]
            self.undesirable_weight = given[1] * weight[~desirable]
        self._kl_seen = []
        try:
            loss = super().compute_loss(model, batch, return_outputs, num_items_in_batch)
        finally:
            self.desirable_weight, self.undesirable_weight = given
        self._record_drift(batch)
        return loss

    def _compute_kl_logps(self, model: Any, batch: Any) -> Any:
        """Return what TRL computes, and keep it: the policy's values first, then (if computed here) the reference's."""
        found = super()._compute_kl_logps(model, batch)
        self._kl_seen.append(found)
        return found

    def _record_drift(self, batch: Mapping[str, Any]) -> None:
        """Log the KL estimate before TRL clamps it, and the log-ratios per completion token of both classes (nats).

        One gather and one read of the device for all of it. Sums are taken over all ranks before dividing, and over the
        same rows as TRL's own `rewards/*`, from which the log-ratios are read.
        """
        metrics = self._metrics["train" if self.model.training else "eval"]
        desirable = batch["label"].bool()
        tokens = batch["completion_mask"][:, 1:].sum(-1).float()
        sums = [tokens[desirable].sum(), desirable.sum(), tokens[~desirable].sum(), (~desirable).sum()]
        if (ratio := self._kl_ratio(batch)) is not None:
            pairs = torch.ones_like(ratio).sum()
            sums += [ratio.sum(), batch["KL_completion_mask"][:, 1:].sum(), pairs]
        told = torch.stack([s.to(tokens.device, torch.float32) for s in sums])
        good_tokens, good, bad_tokens, bad, *kl = (
            self.accelerator.gather_for_metrics(told[None]).sum(0).tolist()
        )
        for side, side_tokens, count in (("chosen", good_tokens, good), ("rejected", bad_tokens, bad)):
            rewards = metrics.get(f"rewards/{side}")
            if count and side_tokens and rewards:
                metrics[f"logratios/{side}_per_token"].append(rewards[-1] / self.beta * count / side_tokens)
        if kl:
            total, kl_tokens, pair_count = kl
            metrics["kl/unclamped"].append(total / pair_count)
            metrics["kl/unclamped_per_token"].append(total / max(kl_tokens, 1.0))

    def _kl_ratio(self, batch: Mapping[str, Any]) -> Any:
        """Return log policy - log reference of the mismatched pairs, (batch,); None where the loss needs no KL."""
        seen = self._kl_seen if len(self._kl_seen) > 1 else [*self._kl_seen, batch.get("ref_KL_logps")]
        self._kl_seen = []
        if len(seen) != 2 or seen[0] is None or seen[1] is None:
            return None
        return (seen[0] - seen[1].to(seen[0].device)).detach()
