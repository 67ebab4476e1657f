"""TRL's KTOTrainer with a weight for every row, and with the numbers that show drift.

Why a subclass at all (docs/decisions.md, "One subclass of KTOTrainer"): TRL has no public way to weigh a row, and the
`kl` it logs is clamped at 0, so a collapsing policy is invisible in it. Two methods are overridden, none is copied:

- `compute_loss` sets TRL's two class weights to tensors for one micro-batch; TRL multiplies them into the loss as it
  does with numbers.
- `_compute_kl_logps` keeps what TRL computed anyway. Should TRL rename it, the unclamped KL is missing and nothing else.

With weight 1 on every row, loss and gradients are bit-identical to TRL's (a test holds that against the pinned version).
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
        weights = torch.tensor([float(r.get(WEIGHT, 1.0)) for r in rows], dtype=torch.float32)
        return {**self.collator(rows), WEIGHT: weights}


class WeightedKTOTrainer(KTOTrainer):
    """KTOTrainer whose rows have weights. Pass `remove_unused_columns=False`, or the weights are dropped unseen."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._kl_seen: list[Any] = []
        super().__init__(*args, **kwargs)
        self.data_collator = WithWeights(self.data_collator)

    def compute_loss(self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None) -> Any:
        """Return TRL's loss with every row's term multiplied by its weight (kto.md fact 6: the weights broadcast)."""
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
        found = super()._compute_kl_logps(model, batch)
        self._kl_seen.append(found)
        return found

    def _record_drift(self, batch: Mapping[str, Any]) -> None:
        """Log the KL estimate before TRL clamps it, and the log-ratios per completion token of both classes (nats)."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        desirable = batch["label"].bool()
        tokens = batch["completion_mask"][:, 1:].sum(-1).float() if "completion_mask" in batch else None
        parts = self._kl_seen if len(self._kl_seen) > 1 else [*self._kl_seen, batch.get("ref_KL_logps")]
        if len(parts) == 2 and parts[0] is not None and parts[1] is not None:
            ratio = (parts[0] - parts[1]).detach()
            kl_tokens = batch["KL_completion_mask"][:, 1:].sum(-1).float()
            told = torch.stack([ratio.sum(), kl_tokens.sum(), torch.tensor(float(len(ratio)), device=ratio.device)])
            total, all_tokens, count = self.accelerator.gather_for_metrics(told[None]).sum(0).tolist()
            metrics["kl/unclamped"].append(total / max(count, 1.0))
            metrics["kl/unclamped_per_token"].append(total / max(all_tokens, 1.0))
        if tokens is None:
            return
        told = torch.stack([tokens[desirable].sum(), desirable.sum().float(),
                            tokens[~desirable].sum(), (~desirable).sum().float()])
        sums = self.accelerator.gather_for_metrics(told[None]).sum(0).tolist()
        for side, side_tokens, count in (("chosen", sums[0], sums[1]), ("rejected", sums[2], sums[3])):
            if count and side_tokens and metrics[f"rewards/{side}"]:
                mean = metrics[f"rewards/{side}"][-1] / self.beta
                metrics[f"logratios/{side}_per_token"].append(mean * count / side_tokens)
