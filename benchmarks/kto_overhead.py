"""What swiftshell itself costs: a KTO run through it against a plain TRL script with the same settings, interleaved.

    python benchmarks/kto_overhead.py                     # kto-mix-test.json, 80 rows, 3 rounds
    python benchmarks/kto_overhead.py --rows 32 --max-length 160 --rounds 1      # does it run at all?

Same model, rows, order of rows, LoRA and steps; the guard and its numbers are on, the reference is asked in every batch on
both sides (`precompute_ref_log_probs: false`, `batch_composition: random`), so nothing that makes swiftshell faster helps.
Compared are the training loop's wall time and the peak memory; the start (imports, checks, proof of the reference, saving)
is constant and shown apart. The losses of both must agree, or they did not train the same.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import kto_common
from benchmarks.kto_common import Measured, Settings

ALLOWED = 1.03
LOSS_TOLERANCE = 2e-3  # of each step: different batches of the same rows would differ by far more
PLAIN, OURS = "plain TRL script", "swiftshell"
SAME = {"precompute_ref_log_probs": "false", "batch_composition": "random"}


def main() -> int:
    """Run the benchmark; exit 1 if the runs are not comparable."""
    args = _parser().parse_args()
    settings = Settings(batch=args.batch, max_length=args.max_length, threads=args.threads, seed=args.seed)
    os.environ.update(settings.environment())
    work = Path(args.work) if args.work else Path(tempfile.mkdtemp(prefix="kto-overhead-"))
    found: list[Measured] = []
    try:
        prepared = kto_common.prepare(work, Path(args.data), Path(args.tokenizer), args.rows, settings)
        print(kto_common.machine())
        print(
            f"{Path(args.data).name}: {prepared.rows} rows, {prepared.tokens} tokens, batch {settings.batch}",
            flush=True,
        )
        for number in range(1, args.rounds + 1):
            folder = work / f"round-{number}"
            shutil.rmtree(folder, ignore_errors=True)
            both = [
                kto_common.bare(prepared, settings, folder, "random", PLAIN),
                kto_common.swiftshell(prepared, settings, folder / "workspace", OURS, SAME),
            ]
            found += both
            print(f"round {number}: " + ", ".join(f"{m.arm} {m.training_s:.1f} s" for m in both), flush=True)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)
    against = [*kto_common.same_work(found, prepared, settings), *_other_losses(found)]
    _print_table(found)
    for line in against:
        print(f"not comparable: {line}")
    if args.json:
        told = {"machine": kto_common.machine(), "task": vars(args), "medians": kto_common.medians(found),
                "runs": kto_common.as_json(found)}  # fmt: skip
        Path(args.json).write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")
    return 1 if against else 0


def _parser() -> argparse.ArgumentParser:
    shared = kto_common.shared_folder() / "real"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default=str(shared / "data" / "kto-mix-test.json"))
    parser.add_argument("--tokenizer", default=str(shared / "tokenizers" / "qwen2"))
    parser.add_argument("--rows", type=int, default=80, help="rows to train on; 0: all (default: 80)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--work", metavar="DIR", help="keep model, rows, logs and workspaces here")
    parser.add_argument("--json", metavar="FILE")
    return parser


def _other_losses(found: list[Measured]) -> list[str]:
    """Return where two arms' losses differ by more than arithmetic explains."""
    plain, ours = (_losses(found, arm) for arm in (PLAIN, OURS))
    far = [at for at, (a, b) in enumerate(zip(plain, ours, strict=False), 1) if abs(a - b) > LOSS_TOLERANCE]
    return (
        [f"losses differ at steps {far[:5]}: {plain[far[0] - 1]} and {ours[far[0] - 1]} at the first"]
        if far
        else []
    )


def _losses(found: list[Measured], arm: str) -> list[float]:
    return next((list(m.facts["losses"]) for m in found if m.arm == arm), [])


def _print_table(found: list[Measured]) -> None:
    medians = kto_common.medians(found)
    print(f"\n{'arm':<20}{'training s':>12}{'start s':>9}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}")
    for arm in (PLAIN, OURS):
        m = medians[arm]
        print(f"{arm:<20}{m['training_s']:>12.1f}{m['start_s']:>9.1f}{m['wall_s']:>9.1f}{m['cpu_s']:>9.1f}"
              f"{m['peak_mib']:>10.0f}")  # fmt: skip
    time, memory = (medians[OURS][n] / medians[PLAIN][n] for n in ("training_s", "peak_mib"))
    print(f"{'ratio':<20}{time:>12.3f}{'':>9}{'':>9}{'':>9}{memory:>10.3f}   (at most {ALLOWED})")


if __name__ == "__main__":
    sys.exit(main())
