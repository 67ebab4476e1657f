"""Time a claim: the decision with many tickets waiting, a freed GPU's idle time, and what a waiting runner costs.

    .venv/bin/python benchmarks/gpu_claims.py [--tickets 200] [--rounds 50] [--json FILE]

Needs no GPU: the machine is a file. Tickets are real ones with living owners (one process holds them all). Printed:
medians and the 95th percentile of

* decision: one look of a waiter that may not start yet (tickets read and probed, GPUs probed, order computed)
* grant: the look that takes a GPU, choosing lock, GPU lock, second look at the driver and record included
* handover: from a holder's close to the next claim's grant, at the product's own interval of one second
* waiting runner: CPU and memory of `python -m swiftshell.runner` for a step in the queue, over ten seconds
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from swiftshell.claims.area import VARIABLE, Area  # noqa: E402  (the checkout's own package and helpers)
from swiftshell.claims.claim import POLL_S, Claimer, Grant  # noqa: E402
from swiftshell.claims.tickets import write  # noqa: E402
from tests.claims.bench import Machine, own_area, want  # noqa: E402


def spread(seconds: list[float]) -> dict[str, float]:
    """Median and 95th percentile in milliseconds."""
    ordered = sorted(seconds)
    return {"median_ms": round(statistics.median(ordered) * 1000, 2),
            "p95_ms": round(ordered[int(0.95 * (len(ordered) - 1))] * 1000, 2)}  # fmt: skip


def held(area: Area, machine: Machine, count: int) -> Grant:
    claimer = Claimer(area, want(count), machine.gpus)
    found = claimer.attempt()
    claimer.close()
    assert isinstance(found, Grant), found
    return found


def decision(area: Area, machine: Machine, rounds: int) -> list[float]:
    """Look again and again from the end of the queue; one GPU is free, so that everything is asked each time."""
    grant = held_past_queue(area, machine, 3)
    claimer = Claimer(area, want(), machine.gpus)
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        assert not isinstance(claimer.attempt(), Grant)
        times.append(time.perf_counter() - began)
    claimer.close()
    grant.close()
    return times


def held_past_queue(area: Area, machine: Machine, count: int) -> Grant:
    """Hold GPUs although others wait: their tickets are for the interval, not for having their turn."""
    claimer = Claimer(area, want(count, priority="interactive"), machine.gpus)
    found = claimer.attempt()
    assert isinstance(found, Grant), found
    return found


def grants(area: Area, machine: Machine, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        claimer = Claimer(area, want(priority="interactive"), machine.gpus)
        began = time.perf_counter()
        found = claimer.attempt()
        times.append(time.perf_counter() - began)
        assert isinstance(found, Grant), found
        found.close()
    return times


def handovers(area: Area, machine: Machine, rounds: int) -> list[float]:
    """A waiter that looks every POLL_S; the holder closes at a moment that has nothing to do with its looks."""
    times = []
    for number in range(rounds):
        grant = held(area, machine, 4)
        got: list[float] = []
        waiter = threading.Thread(target=wait_for_one, args=(area, machine, got))
        waiter.start()
        time.sleep(0.3 + (number * 0.37) % 1.0)
        closed = time.monotonic()
        grant.close()
        waiter.join()
        times.append(got[0] - closed)
    return times


def wait_for_one(area: Area, machine: Machine, got: list[float]) -> None:
    claimer = Claimer(area, want(), machine.gpus)
    while not isinstance(found := claimer.attempt(), Grant):
        time.sleep(POLL_S)
    got.append(time.monotonic())
    found.close()


def waiting_runner(folder: Path, area: Area, machine: Machine) -> dict[str, float]:
    """CPU seconds per second and peak memory of a runner whose step waits."""
    from swiftshell.jobs import control, launch, reconcile
    from swiftshell.run.files import read_json
    from tests.runner import lab

    os.environ.update({**machine.environ, VARIABLE: "", "XDG_STATE_HOME": str(folder / "state")})
    grant = held(own_area(folder / "state" / "swiftshell" / "claims"), machine, 4)
    run = lab.make(folder, {"one": {"ticks": 0, "gpus": 1}})
    launch.start(run.root)
    while reconcile.status(run).status != "queued":
        time.sleep(0.1)
    pid = int(read_json(run.runner)["pid"])  # type: ignore[index]
    began = cpu_s(pid)
    time.sleep(10)
    spent = cpu_s(pid) - began
    status = Path(f"/proc/{pid}/status").read_text()
    peak_kib = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    control.stop(run, "kill")
    grant.close()
    return {"cpu_percent": round(spent * 10, 2), "peak_mib": round(peak_kib / 1024, 1)}


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tickets", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="swiftshell-claims-") as name:
        folder = Path(name)
        area, machine = own_area(folder / "claims"), Machine(folder / "gpus.json")
        waiting = [write(area, want(run=f"2026-01-01-kto-{n:04d}")) for n in range(options.tickets)]
        found: dict[str, object] = {
            "tickets": options.tickets,
            "decision": spread(decision(area, machine, options.rounds)),
            "grant": spread(grants(area, machine, options.rounds)),
        }
        for ticket in waiting:
            ticket.close()
        found["handover"] = spread(handovers(area, machine, 10))
        found["waiting_runner"] = waiting_runner(folder, area, machine)
    print(json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
