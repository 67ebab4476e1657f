"""Time an epoch of KTO: swiftshell with a cold and a warm reference cache against `trl kto` and others, interleaved.

    python benchmarks/kto_speed.py                                    # kto-mix-test.json, 160 rows, 3 rounds
    python benchmarks/kto_speed.py --data ../shared/real/data/gsm8k_kto.jsonl --rows 320
    python benchmarks/kto_speed.py --rows 32 --max-length 160 --rounds 1        # does it run at all?
    python benchmarks/kto_speed.py --axolotl ENV --llamafactory ENV --swift ENV # virtual environments with them

Every arm trains the same rows once (one epoch) with the same 14-million-parameter Qwen2 of random weights, the same LoRA,
batch size, learning rate and number of optimizer steps; that all saw the same tokens is checked. The arms:

- `trl kto`: TRL's own command, rows shuffled and classes interleaved (it trains in file order);
- `trl, by length`: a plain TRL script given the rows in batches of similar length, as swiftshell composes them;
- `swiftshell, cold`: `swiftshell run kto --yes` in a new workspace, so the reference is asked first;
- `swiftshell, warm`: the same again in the same workspace.

What counts is `epoch_s`: the training loop (TRL's train_runtime; for swiftshell from the beginning of the first optimizer
step to the end of the last) plus, for swiftshell, the reference's log-probabilities before it. Start-up is apart.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import kto_common, kto_peers
from benchmarks.kto_common import ArmFailed, Measured, Prepared, Settings

PEERS = ("axolotl", "llamafactory", "swift")
Round = Callable[[Path], list[Measured]]


def main() -> int:
    """Run the benchmark, print the table, and say what speaks against the comparison."""
    args = _parser().parse_args()
    settings = Settings(batch=args.batch, max_length=args.max_length, threads=args.threads, seed=args.seed)
    os.environ.update(settings.environment())
    work = Path(args.work) if args.work else Path(tempfile.mkdtemp(prefix="kto-speed-"))
    try:
        prepared = kto_common.prepare(work, Path(args.data), Path(args.tokenizer), args.rows, settings)
        _print_task(args, prepared, settings)
        found = _measure(_arms(args, prepared, settings), args.rounds, work)
    finally:
        if not args.work:
            shutil.rmtree(work, ignore_errors=True)
    _print_table(found, prepared, settings)
    against = kto_common.same_work([m for m in found if m.arm not in PEERS], prepared, settings)
    for line in against:
        print(f"not comparable: {line}")
    if args.json:
        told = {"machine": kto_common.machine(), "task": vars(args), "tokens": prepared.tokens, "rows": prepared.rows,
                "medians": kto_common.medians(found), "runs": kto_common.as_json(found)}  # fmt: skip
        Path(args.json).write_text(json.dumps(told, indent=1, default=str) + "\n", encoding="utf-8")
    return 1 if against else 0


def _parser() -> argparse.ArgumentParser:
    shared = kto_common.shared_folder() / "real"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default=str(shared / "data" / "kto-mix-test.json"), help="thumbs, JSON or JSON lines"
    )
    parser.add_argument(
        "--tokenizer", default=str(shared / "tokenizers" / "qwen2"), help="folder of a tokenizer"
    )
    parser.add_argument("--rows", type=int, default=160, help="rows to train on; 0: all (default: 160)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--max-length", type=int, default=1024, help="longer rows are left out for every arm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument(
        "--skip", nargs="*", default=[], choices=["trl", "bare", "swiftshell"], help="arms to leave out"
    )
    parser.add_argument("--work", metavar="DIR", help="keep model, rows, logs and workspaces here")
    parser.add_argument("--json", metavar="FILE")
    for peer in PEERS:
        parser.add_argument(
            f"--{peer}", metavar="ENV", help=f"a virtual environment with {peer}: adds it as an arm"
        )
    return parser


def _arms(args: argparse.Namespace, prepared: Prepared, settings: Settings) -> list[Round]:
    """Return what one round runs, in turn; each gives the measurements of its arm (swiftshell: cold, then warm)."""
    arms: list[Round] = []
    if "trl" not in args.skip:
        arms.append(lambda folder: [kto_common.trl_cli(prepared, settings, folder)])
    if "swiftshell" not in args.skip:
        arms.append(lambda folder: [
            kto_common.swiftshell(prepared, settings, folder / "workspace", f"swiftshell, {state}")
            for state in ("cold", "warm")
        ])  # fmt: skip
    if "bare" not in args.skip:
        arms.append(lambda folder: [kto_common.bare(prepared, settings, folder, "length", "trl, by length")])
    for peer in PEERS:
        environment = getattr(args, peer)
        if environment is None:
            print(f"{peer}: left out (give --{peer} ENV to compare with it)")
            continue
        try:
            run = kto_peers.arm(peer, Path(environment))
        except ArmFailed as missing:
            print(f"{missing}: left out")
            continue
        arms.append(lambda folder, run=run: [run(prepared, settings, folder)])  # type: ignore[misc]
    return arms


def _measure(arms: Sequence[Round], rounds: int, work: Path) -> list[Measured]:
    """Run every arm once a round; one that fails is said and left out of that round."""
    found: list[Measured] = []
    for number in range(1, rounds + 1):
        folder = work / f"round-{number}"
        shutil.rmtree(folder, ignore_errors=True)  # a workspace of an earlier benchmark would be a warm one
        for arm in arms:
            try:
                measured = arm(folder)
            except ArmFailed as failed:
                print(f"round {number}: {failed}", file=sys.stderr)
                continue
            found += measured
            for one in measured:
                print(f"round {number}: {one.arm:<20} epoch {one.epoch_s:8.1f} s, start {one.start_s:6.1f} s, "
                      f"peak {one.peak_mib:6.0f} MiB", flush=True)  # fmt: skip
    return found


def _print_task(args: argparse.Namespace, prepared: Prepared, settings: Settings) -> None:
    print(kto_common.machine())
    print(f"{Path(args.data).name}: {prepared.rows} rows, {prepared.tokens} tokens, batch {settings.batch}, "
          f"{prepared.rows // settings.batch} optimizer steps, {settings.threads} thread(s)", flush=True)  # fmt: skip


def _print_table(found: Sequence[Measured], prepared: Prepared, settings: Settings) -> None:
    from swiftshell.engines import kto_batches

    medians = kto_common.medians(found)
    base = medians.get("trl kto", {}).get("epoch_s")
    in_file_order = kto_batches.padding(prepared.lengths, settings.batch)
    by_length = next((m.padding for m in found if m.padding), None)
    print(f"\n{'arm':<22}{'epoch s':>9}{'faster':>8}{'training':>10}{'reference':>10}{'start':>8}{'cpu s':>8}"
          f"{'peak MiB':>10}{'padding':>9}{'KL':>7}")  # fmt: skip
    for arm, m in sorted(medians.items(), key=lambda item: -item[1]["epoch_s"]):
        padded = in_file_order if arm == "trl kto" else by_length if arm not in PEERS else None
        factors = f"{padded[0]:>9.2f}{padded[1]:>7.2f}" if padded else f"{'':>16}"
        faster = f"{base / m['epoch_s']:>7.2f}x" if base else f"{'':>8}"
        print(f"{arm:<22}{m['epoch_s']:>9.1f}{faster}{m['training_s']:>10.1f}{m['reference_s']:>10.1f}"
              f"{m['start_s']:>8.1f}{m['cpu_s']:>8.1f}{m['peak_mib']:>10.0f}{factors}")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
