"""Time how long people wait before they can read: swiftshell's start against TRL's, interleaved in one run.

    .venv/bin/python benchmarks/startup.py [--rounds 7] [--json FILE]

Every command runs once uncounted, then `--rounds` times in turn (A B C …, A B C …), so that a machine that gets slower
half-way slows all of them. Wall and CPU seconds and peak memory come from the operating system (wait4). The menu's time
is until its first frame stands in a real pseudo-terminal. Printed: medians, and each median over `swiftshell --help`.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import select
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

BIN = Path(sys.executable).parent
FRAME_MARK = b"\x1b[?25l"  # prompt_toolkit hides the cursor when it draws its first frame
TIMEOUT_S = 60.0


@dataclass
class Case:
    """One command and what was measured of it."""

    name: str
    argv: list[str]
    until_frame: bool = False
    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)


def main() -> int:
    """Run the benchmark and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", metavar="FILE")
    args = parser.parse_args()
    cases = [c for c in _cases() if Path(c.argv[0]).exists()]
    with tempfile.TemporaryDirectory() as folder:
        for counted in [False, *[True] * args.rounds]:
            for case in cases:
                _measure(case, folder, counted)
    _print(cases, args.rounds)
    if args.json:
        Path(args.json).write_text(json.dumps([c.__dict__ for c in cases], indent=1), encoding="utf-8")
    return 0


def _cases() -> list[Case]:
    swift, trl = str(BIN / "swiftshell"), str(BIN / "trl")
    return [
        Case("swiftshell --help", [swift, "--help"]),
        Case("swiftshell run --help", [swift, "run", "--help"]),
        Case("swiftshell explain kto", [swift, "explain", "kto"]),
        Case("swiftshell (first menu frame)", [swift], until_frame=True),
        Case("trl --help", [trl, "--help"]),
        Case("trl kto --help", [trl, "kto", "--help"]),
    ]


def _measure(case: Case, folder: str, counted: bool) -> None:
    """Run a command once in a fresh pseudo-terminal and note what the system says it took."""
    started = time.perf_counter()
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.environ.update(TERM="xterm-256color", LC_ALL="C.UTF-8", COLUMNS="80", LINES="24")
        os.execv(case.argv[0], case.argv)
    frame_s = _drain(master, started, stop_at_frame=case.until_frame)
    if case.until_frame:
        os.kill(pid, 9)
    _, _, usage = os.wait4(pid, 0)
    ended = time.perf_counter()
    os.close(master)
    if counted:
        case.wall_s.append(frame_s if case.until_frame else ended - started)
        case.cpu_s.append(usage.ru_utime + usage.ru_stime)
        case.rss_mib.append(usage.ru_maxrss / 1024)


def _drain(master: int, started: float, *, stop_at_frame: bool) -> float:
    """Read everything a command prints; with `stop_at_frame` return when its first frame was drawn."""
    seen = b""
    while time.perf_counter() - started < TIMEOUT_S:
        if not select.select([master], [], [], 0.5)[0]:
            continue
        try:
            block = os.read(master, 65536)
        except OSError:
            break
        if not block:
            break
        seen += block
        if stop_at_frame and FRAME_MARK in seen and seen.rstrip().count(b"\n") > 3:
            break
    return time.perf_counter() - started


def _print(cases: list[Case], rounds: int) -> None:
    base = statistics.median(cases[0].wall_s)
    print(f"{rounds} rounds, interleaved; medians; Python {sys.version.split()[0]}, {os.cpu_count()} cores")
    print(f"{'command':<32}{'wall s':>9}{'cpu s':>9}{'peak MiB':>10}{'x':>8}")
    for case in cases:
        wall = statistics.median(case.wall_s)
        print(f"{case.name:<32}{wall:>9.3f}{statistics.median(case.cpu_s):>9.3f}{statistics.median(case.rss_mib):>10.0f}"
              f"{wall / base:>8.1f}")


if __name__ == "__main__":
    sys.exit(main())
