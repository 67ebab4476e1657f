"""Two processes equal a calculation on the same rows in one: KL pairs by device, z0 over both, gradients averaged.

They cannot equal one process of the doubled batch: TRL makes the mismatched pairs inside each device's batch.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.engines.conftest import ROOT, colour_rows
from tests.engines.kto_support import BATCH, make, row_losses, terms, trained

pytestmark = pytest.mark.engine

RANKS, ACCUMULATED, STEPS = 2, 2, 3
RATE = 0.05
WEIGHTS = (1.2, 0.8)
SETTINGS = {
    "max_steps": STEPS,
    "gradient_accumulation_steps": ACCUMULATED,
    "optim": "sgd",  # its steps are the gradients themselves
    "learning_rate": RATE,
    "max_grad_norm": 0.0,
    "desirable_weight": WEIGHTS[0],
    "undesirable_weight": WEIGHTS[1],
    "dataloader_drop_last": True,
    "drawn_scale": 0.05,
    "ddp_find_unused_parameters": False,
}


@dataclass(frozen=True)
class Step:
    """What one optimizer step shows: means over ranks and accumulated batches."""

    loss: float
    kl: float
    unclamped: float
    chosen_per_token: float


def weighted_rows() -> list[dict[str, Any]]:
    count = RANKS * ACCUMULATED * STEPS * BATCH
    return [{**row, "weight": 0.5 + (i % 5) / 4} for i, row in enumerate(colour_rows("kto", count))]


def by_hand(model: Path, rows: list[dict[str, Any]], folder: Path) -> tuple[list[Step], dict[str, Any], int]:
    """Calculate the steps of two ranks in one process.

    Returns:
        the steps, the trained tensors, and in how many places clamping before or after averaging over ranks differs.
    """
    import torch

    trainer = make(folder, model, rows, **SETTINGS)
    batches, net = [dict(b) for b in trainer.get_train_dataloader()], trainer.model
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=RATE)
    steps, told_apart = [], 0
    net.train()
    for first in range(0, len(batches), RANKS * ACCUMULATED):
        losses, kls, chosen = [], [], []
        optimizer.zero_grad()
        for micro in range(ACCUMULATED):
            of_ranks = batches[first + micro * RANKS :][:RANKS]  # rank 0 takes the first, rank 1 the second
            found = [terms(net, batch) for batch in of_ranks]
            kl = sum(kl for _, _, kl in found) / RANKS
            told_apart += max(kl, 0.0) != pytest.approx(
                sum(max(k, 0.0) for _, _, k in found) / RANKS, abs=1e-4
            )
            kls.append(kl)
            for batch, (ratios, labels, _) in zip(of_ranks, found, strict=True):
                loss = (batch["weight"] * row_losses(ratios, labels, kl, WEIGHTS)).mean()
                (loss / (RANKS * ACCUMULATED)).backward()
                losses.append(float(loss.detach()))
            tokens = [
                float(b["completion_mask"][:, 1:].sum(-1)[y].sum())
                for b, (_, y, _) in zip(of_ranks, found, strict=True)
            ]
            chosen.append(sum(float(r[y].detach().sum()) for r, y, _ in found) / sum(tokens))
        optimizer.step()
        steps.append(
            Step(
                sum(losses) / len(losses),
                sum(max(kl, 0.0) for kl in kls) / len(kls),
                sum(kls) / len(kls),
                sum(chosen) / len(chosen),
            )
        )
    return steps, trained(net), told_apart


def in_two_processes(
    model: Path, rows: list[dict[str, Any]], folder: Path
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return what every rank wrote, and the trained tensors."""
    import torch

    folder.mkdir()
    (folder / "rows.json").write_text(json.dumps(rows))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(RANKS)]
    command += ["-m", "tests.engines.two_processes", str(model), str(folder / "rows.json"), str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, json.dumps(SETTINGS)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(RANKS)]
    return ranks, torch.load(folder / "trained.pt", weights_only=True)


def test_two_processes_equal_the_calculation(tiny: Path, tmp_path: Path) -> None:
    rows = weighted_rows()
    ranks, found = in_two_processes(tiny, rows, tmp_path / "two")
    for facts in ranks:  # an exit code of 0 proves nothing: launchers fall back to one process without a word
        assert (facts["processes"], facts["backend"]) == (RANKS, "gloo")
        assert facts["distributed"].endswith("MULTI_CPU")
        assert facts["wrapped"] == "DistributedDataParallel"
    steps, wanted, told_apart = by_hand(tiny, rows, tmp_path / "hand")
    assert told_apart, "the rows tell averaging before clamping from the reverse"
    logged = ranks[0]["logged"]
    assert len(logged) == len(steps) == STEPS
    for entry, step in zip(logged, steps, strict=True):
        assert entry["loss"] == pytest.approx(step.loss, abs=2e-5)
        assert entry["kl"] == pytest.approx(step.kl, abs=2e-4)
        assert entry["kl/unclamped"] == pytest.approx(step.unclamped, abs=2e-4)
        assert entry["logratios/chosen_per_token"] == pytest.approx(step.chosen_per_token, abs=2e-5)
    start = trained(make(tmp_path / "start", tiny, rows, **SETTINGS).model)
    moved = max(float((wanted[n] - start[n]).abs().max()) for n in wanted)
    apart = max(float((found[n] - wanted[n]).abs().max()) for n in wanted)
    assert moved > 1e-3
    assert apart < 1e-4 * moved


def test_one_process_of_the_doubled_batch_is_something_else(tiny: Path, tmp_path: Path) -> None:
    """Why the calculation above pairs by device: with the pairs of a doubled batch z0 is another number."""
    rows = weighted_rows()
    by_device = [
        terms(t.model, b)[2]
        for t in [make(tmp_path / "a", tiny, rows, **SETTINGS)]
        for b in list(t.get_train_dataloader())[:RANKS]
    ]
    wide = make(tmp_path / "b", tiny, rows, **{**SETTINGS, "per_device_train_batch_size": RANKS * BATCH})
    together = terms(wide.model, next(iter(wide.get_train_dataloader())))[2]
    assert together != pytest.approx(sum(by_device) / RANKS, abs=1e-3)
