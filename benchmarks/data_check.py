"""Time the check of a large file of chat rows against the least that reading it can cost: a bare orjson.loads loop.

    .venv/bin/python benchmarks/data_check.py [--rows 1000000] [--rounds 3] [--purpose sft] [--json FILE]

The rows are made by this script (about 1 kB each, one in 10,000 with an empty answer) and kept in `--folder` while it
runs. Arms run in turn, round after round; medians are shown. CPU seconds are those of all processes of an arm, from the
operating system (wait4), and do not depend on how busy the machine is; memory is the largest sum over an arm's processes
of what each has for itself (Pss), looked at 20 times a second. `first s` is until the first problem stands on the terminal.

Lengths in tokens and the deep look are measured on fewer rows, each against its own least: the tokenizer alone on the same
texts, and the bare loop.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
EMPTY_EVERY = 10_000
BARE = "import orjson, sys\nfor line in open(sys.argv[1], 'rb'): orjson.loads(line)"
TOKENIZER_ALONE = """
import sys, itertools, orjson
from pathlib import Path
from swiftshell.data.lengths import open_tokenizer, texts_of
speaker = open_tokenizer(Path(sys.argv[2]))
texts = [t for line in open(sys.argv[1], 'rb') for t in texts_of(orjson.loads(line), speaker)]
import time
start = time.perf_counter(), sum(__import__('os').times()[:2])
for at in range(0, len(texts), 512):
    speaker.tokenizer.encode_batch_fast(texts[at:at + 512], add_special_tokens=False)
print(time.perf_counter() - start[0], sum(__import__('os').times()[:2]) - start[1])
"""


@dataclass
class Arm:
    """One command and what was measured of it."""

    name: str
    argv: list[str]
    against: str = ""
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    first_s: list[float] = field(default_factory=list)
    peak_mib: list[float] = field(default_factory=list)
    own: bool = False  # it prints its own wall and CPU seconds

    def median(self, name: str) -> float:
        values: list[float] = getattr(self, name)
        return statistics.median(values) if values else 0.0


def main() -> int:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--slow-rows", type=int, default=20_000, help="rows for tokens and the deep look")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--purpose", choices=("sft", "kto"), default="sft")
    parser.add_argument("--model", help="folder with a tokenizer.json; the embedded model's by default")
    parser.add_argument("--folder", help="where the rows are kept meanwhile; a temporary folder by default")
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        large, small = Path(folder) / "rows.jsonl", Path(folder) / "few.jsonl"
        write_rows(large, args.rows, args.purpose)
        write_rows(small, args.slow_rows, args.purpose)
        os.environ["XDG_CACHE_HOME"] = folder
        arms = list(_arms(large, small, args))
        for _ in range(args.rounds):
            for arm in arms:
                _measure(arm)
        size = large.stat().st_size
    load = os.getloadavg()
    _print(arms, args.rows, size, args.rounds, load)
    if args.json:
        facts = {"rows": args.rows, "bytes": size, "load": load, "cores": os.cpu_count(), "purpose": args.purpose,
                 "slow_rows": args.slow_rows, "arms": [arm.__dict__ for arm in arms]}
        Path(args.json).write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return 0


def write_rows(path: Path, rows: int, purpose: str) -> None:
    """Write chat rows of one to three rounds, English and Chinese words mixed, about 1 kB each."""
    rng = random.Random(7)
    words = [f"w{n:04d}" for n in range(3000)]
    words += ["the", "model", "answers", "a", "question", "训练", "数据", "模型", "回答", "问题"] * 60
    system = {"role": "system", "content": "You are a helpful assistant."}
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            turns = [system]
            for _ in range(rng.choice((1, 1, 2, 3))):
                turns.append({"role": "user", "content": " ".join(rng.choices(words, k=rng.randint(5, 40)))})
                turns.append({"role": "assistant", "content": " ".join(rng.choices(words, k=rng.randint(20, 90)))})
            if number % EMPTY_EVERY == 5:
                turns[-1] = {"role": "assistant", "content": ""}
            row: dict[str, Any] = {"id": number, "messages": turns}
            if purpose == "kto":
                row["label"] = rng.random() < 0.4
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _arms(large: Path, small: Path, args: argparse.Namespace) -> Iterator[Arm]:
    model = args.model or str(Path(__file__).parents[1] / "swiftshell" / "starter" / "model")
    check = [str(BIN / "swiftshell"), "data", "check", "--for", args.purpose, "--fresh"]
    yield Arm("bare orjson loop", [sys.executable, "-c", BARE, str(large)])
    yield Arm("check, one process", [*check, str(large), "--processes", "1"], "bare orjson loop")
    yield Arm("check", [*check, str(large)], "bare orjson loop")
    yield Arm("check again, unchanged", [*check[:-1], str(large)], "bare orjson loop")
    yield Arm("tokenizer alone (few rows)", [sys.executable, "-c", TOKENIZER_ALONE, str(small), model], own=True)
    tokens = [*check, str(small), "--model", model, "--processes", "1"]
    yield Arm("check with tokens (few rows)", tokens, "tokenizer alone (few rows)")
    yield Arm("bare loop (few rows)", [sys.executable, "-c", BARE, str(small)])
    yield Arm("check --deep (few rows)", [*check, str(small), "--deep", "--processes", "1"], "bare loop (few rows)")


def _measure(arm: Arm) -> None:
    start = time.perf_counter()
    child = subprocess.Popen(arm.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak, over = [0.0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(child.pid, peak, over))
    watcher.start()
    first: list[float] = []
    reader = threading.Thread(target=_read, args=(child, start, first))
    reader.start()
    assert child.stdout is not None
    printed = child.stdout.read().decode()
    reader.join()
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 0
    over.set()
    watcher.join()
    wall, cpu = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    if arm.own:
        wall, cpu = map(float, printed.split())
    arm.wall_s.append(wall)
    arm.cpu_s.append(cpu)
    arm.first_s += first
    arm.peak_mib.append(max(peak[0], usage.ru_maxrss / 1024 if not peak[0] else 0.0))


def _read(child: subprocess.Popen[bytes], start: float, first: list[float]) -> None:
    assert child.stderr is not None
    if child.stderr.read(1):
        first.append(time.perf_counter() - start)
        child.stderr.read()


def _watch(pid: int, peak: list[float], over: threading.Event) -> None:
    """Note the largest memory of a process and all below it."""
    while not over.wait(0.05):
        peak[0] = max(peak[0], sum(map(_pss_mib, _family(pid))))


def _family(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = [int(child) for child in task.read_text().split()]
        except OSError:
            continue
        found += [each for child in below for each in _family(child)]
    return found


def _pss_mib(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def _print(arms: list[Arm], rows: int, size: int, rounds: int, load: tuple[float, float, float]) -> None:
    print(f"{rows} rows, {size / 1e6:.0f} MB, {rounds} rounds, {os.cpu_count()} cores, load average {load[0]:.1f}")
    print(f"{'':30} {'wall s':>8} {'CPU s':>8} {'first s':>8} {'peak MiB':>9}  CPU, wall over its own least")
    by_name = {arm.name: arm for arm in arms}
    for arm in arms:
        ratio = ""
        if least := by_name.get(arm.against):
            ratio = f"x{arm.median('cpu_s') / least.median('cpu_s'):.2f}, x{arm.median('wall_s') / least.median('wall_s'):.2f}"
        first = f"{arm.median('first_s'):8.2f}" if arm.first_s else " " * 8
        print(f"{arm.name:30} {arm.median('wall_s'):8.2f} {arm.median('cpu_s'):8.2f} {first} "
              f"{arm.median('peak_mib'):9.0f}  {ratio}")


if __name__ == "__main__":
    sys.exit(main())
