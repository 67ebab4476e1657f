"""Train the weighted KTO trainer in several processes and write what each of them saw; torchrun starts this file.

    torchrun --standalone --nproc_per_node 2 -m tests.engines.two_processes MODEL ROWS OUT SETTINGS

Every rank writes `rank<N>.json`; rank 0 also the trained tensors.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.engines.kto_support import make, trained


def main(model: str, rows: str, out: str, settings: str) -> None:
    """Train and write."""
    import torch

    folder = Path(out)
    trainer = make(
        folder / "trainer", Path(model), json.loads(Path(rows).read_text()), **json.loads(settings)
    )
    trainer.train()
    accelerator = trainer.accelerator
    rank = accelerator.process_index
    facts = {
        "processes": accelerator.num_processes,
        "distributed": str(accelerator.distributed_type),
        "wrapped": type(trainer.model_wrapped).__name__,
        "backend": torch.distributed.get_backend(),
        "logged": [e for e in trainer.state.log_history if "loss" in e],
    }
    (folder / f"rank{rank}.json").write_text(json.dumps(facts))
    if rank == 0:
        torch.save(trained(trainer.model), folder / "trained.pt")


if __name__ == "__main__":
    main(*sys.argv[1:])
