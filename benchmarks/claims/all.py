"""Run every claim in one process, so that the engines are imported once and each seed's SFT model is trained once.

    python -m benchmarks.claims.all [--seeds 3] [--quick] [--work DIR] [--only NAME ...]

Each claim writes its own file, as it does alone; a claim that breaks is told and does not stop the others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from benchmarks.claims import (
    audit,
    batches,
    common,
    guard,
    imbalance,
    kto_lifts,
    nf4,
    noise,
    soft_labels,
    wrong_reference,
)

CLAIMS = {
    m.CLAIM.name: m.CLAIM
    for m in (kto_lifts, wrong_reference, imbalance, noise, audit, guard, soft_labels, batches, nf4)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the claims one after the other; return 1 if one of them broke."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims.all")
    parser.add_argument("--seeds", type=int, default=len(common.SEEDS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(CLAIMS), default=list(CLAIMS))
    args = parser.parse_args(argv)
    work = args.work or Path(tempfile.mkdtemp(prefix="swiftshell-claims-"))
    # PEFT looks for bitsandbytes when it is first imported, and one of the claims needs it.
    import bitsandbytes  # noqa: F401

    broken = []
    for name in args.only:
        words = ["--seeds", str(args.seeds), "--work", str(work), *(["--quick"] if args.quick else [])]
        try:
            common.main(CLAIMS[name], words)
        except Exception:  # noqa: BLE001 - an hour of other experiments must not be lost with this one
            traceback.print_exc()
            broken.append(name)
    if broken:
        print(f"broken: {', '.join(broken)}", file=sys.stderr)
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main())
