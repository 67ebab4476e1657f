"""Rebuild the starter from a seed: `python -m swiftshell.starter.build --out DIR [--seed 42] [--data-only]`.

The data files are the same bytes for the same seed everywhere; the model is the same up to rounding.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from swiftshell.starter import rows, tokenizer
from swiftshell.starter.rows import Row

SEED = 42
_TOKENIZER_DOCUMENTS = 20_000


def write_data(folder: Path, seed: int = SEED) -> None:
    """Write sft.jsonl, kto.jsonl, dpo.jsonl and heldout.jsonl."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, made in (
        ("sft", rows.sft_rows(seed)),
        ("kto", rows.kto_rows(seed)),
        ("dpo", rows.dpo_rows(seed)),
        ("heldout", rows.held_out_rows(seed)),
    ):
        (folder / f"{name}.jsonl").write_bytes(_lines(made))


def _lines(made: Iterable[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made).encode("utf-8")


def write_model(
    folder: Path, seed: int = SEED, steps: int | None = None, limit_s: float | None = None
) -> None:
    """Train the tokenizer, then pretrain the base model."""
    from swiftshell.starter.pretrain import Schedule, pretrain

    documents = rows.documents(seed, tokenizer.START_OF_TURN, tokenizer.END_OF_TURN)
    tokenizer.write_tokenizer(itertools.islice(documents, _TOKENIZER_DOCUMENTS), folder)
    schedule = Schedule() if steps is None else Schedule(steps=steps)
    pretrain(documents, folder, seed, schedule, limit_s=limit_s)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line and build."""
    parser = argparse.ArgumentParser(
        description="Rebuild the starter's data, tokenizer and base model from a seed."
    )
    parser.add_argument("--out", type=Path, required=True, help="folder to write data/ and model/ into")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--data-only", action="store_true", help="write the rows only (needs no torch)")
    parser.add_argument("--steps", type=int, help="pretraining steps instead of the schedule's")
    parser.add_argument("--limit-s", type=float, help="end pretraining after about this many seconds")
    options = parser.parse_args(arguments)
    write_data(options.out / "data", options.seed)
    if not options.data_only:
        write_model(options.out / "model", options.seed, options.steps, options.limit_s)
    return 0


if __name__ == "__main__":
    sys.exit(main())
