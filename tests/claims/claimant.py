"""A process that claims GPUs over and over and reports what it saw; the crowd tests start many of these.

Independent of locks and driver, each holder leaves a mark per GPU that only one process can make: whoever finds a living
holder's mark there has been booked together with it. A job becomes visible to the driver late, as real ones do.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from swiftshell.claims.area import Area
from swiftshell.claims.claim import Claimer, Grant
from swiftshell.machine.gpu import Gpu
from swiftshell.run import identity
from swiftshell.run.identity import Identity
from tests.claims.bench import Machine, want


def main(options: dict[str, Any]) -> None:
    """Claim until the number is reached or the time is over; print one line of JSON a claim."""
    os.umask(options.get("umask", 0o022))
    area, machine = Area(Path(options["area"]), bool(options["shared"])), Machine(Path(options["machine"]))
    chance = random.Random(options["seed"])
    end = time.monotonic() + options["limit_s"]
    print("ready", flush=True)
    sys.stdin.readline()  # all begin together
    for _ in range(options["claims"]):
        grant, facts = claim(area, machine, options, chance, end)
        if grant is None:
            return
        facts["booked_twice"] = [gpu.index for gpu in grant.gpus if not mark(options, gpu)]
        work(machine, grant, options, chance)
        print(json.dumps(facts), flush=True)


def claim(area: Area, machine: Machine, options: dict[str, Any], chance: random.Random,
          end: float) -> tuple[Grant | None, dict[str, Any]]:  # fmt: skip
    claimer = Claimer(area, want(options["gpus"]), machine.gpus, options.get("stopped_after_s", 30.0))
    looks, spent_s = 0, 0.0
    try:
        while time.monotonic() < end:
            began = time.perf_counter()
            answer = claimer.attempt()
            looks, spent_s = looks + 1, spent_s + time.perf_counter() - began
            if isinstance(answer, Grant):
                return answer, {"gpus": len(answer.gpus), "submitted_s": claimer.ticket.submitted_s, "looks": looks,
                                "granted_s": time.clock_gettime(time.CLOCK_BOOTTIME), "spent_s": spent_s}  # fmt: skip
            time.sleep(options["poll_s"] * chance.uniform(0.8, 1.2))
        return None, {}
    finally:
        claimer.close()


def mark(options: dict[str, Any], gpu: Gpu) -> bool:
    """Leave this process's mark on a GPU; False if a living holder's mark is there."""
    path = Path(options["marks"]) / str(gpu.index)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        try:
            other = Identity.from_json(json.loads(path.read_text()))
        except (OSError, ValueError):
            return False
        if identity.alive(other):
            return False
        path.unlink()
        return mark(options, gpu)
    os.write(fd, json.dumps(identity.mine().as_json()).encode())
    os.close(fd)
    return True


def work(machine: Machine, grant: Grant, options: dict[str, Any], chance: random.Random) -> None:
    """Compute for a moment, seen by the driver only for the last part of it."""
    time.sleep(options["unseen_s"])
    for gpu in grant.gpus:
        machine.appear(gpu.index, os.getpid())
    time.sleep(options["seen_s"] * chance.uniform(0.5, 1.5))
    for gpu in grant.gpus:
        machine.vanish(gpu.index, os.getpid())
        (Path(options["marks"]) / str(gpu.index)).unlink(missing_ok=True)
    grant.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
