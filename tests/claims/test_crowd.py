"""Many claimers at once, of one user and of several: never two on a GPU, never one left out, whoever dies."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swiftshell.claims.area import Area, make_shared

from .bench import Machine, own_area, uuid

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = 1000 * int(os.environ.get("SWIFTSHELL_SOAK", "1"))
KILLS = 20 * int(os.environ.get("SWIFTSHELL_SOAK", "1"))
USERS = (61_001, 61_002, 61_003)
GROUP = 61_000


class Crowd:
    """Claimants that begin together, and what they report."""

    def __init__(self, folder: Path, area: Area, machine: Machine) -> None:
        self.area, self.machine = area, machine
        self.marks = folder / "marks"
        self.marks.mkdir()
        self.marks.chmod(0o777)
        self.members: list[subprocess.Popen[str]] = []
        self._log = folder / "errors.txt"

    def add(self, claims: int, *, gpus: int = 1, uid: int | None = None, **options: Any) -> subprocess.Popen[str]:
        given = {"area": str(self.area.root), "shared": self.area.shared, "machine": str(self.machine.path), "gpus": gpus,
                 "marks": str(self.marks), "seed": len(self.members), "claims": claims, "limit_s": 200.0, "poll_s": 0.1,
                 "unseen_s": 0.03, "seen_s": 0.02, **options}  # fmt: skip
        command = [sys.executable, "-m", "tests.claims.claimant", json.dumps(given)]
        if uid is not None:
            command = ["setpriv", f"--reuid={uid}", f"--regid={GROUP}", "--clear-groups", *command]
        with self._log.open("a") as log:
            member = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log,
                                      text=True, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})  # fmt: skip
        self.members.append(member)
        return member

    def begin(self) -> None:
        for member in self.members:
            assert member.stdout is not None
            assert member.stdout.readline() == "ready\n", self._log.read_text()
        for member in self.members:
            assert member.stdin is not None
            member.stdin.write("go\n")
            member.stdin.flush()

    def results(self) -> list[dict[str, Any]]:
        """Wait for all and return what they claimed, in the order of the grants."""
        found = []
        for member in self.members:
            said, _ = member.communicate(timeout=240)
            found += [json.loads(line) for line in said.splitlines() if line.startswith("{")]
            assert member.returncode in (0, -signal.SIGKILL), self._log.read_text()
        return sorted(found, key=lambda f: f["granted_s"])


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter; pytest's own are private."""
    folder = Path(tempfile.mkdtemp(prefix="swiftshell-crowd-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def overtaken(found: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """Return grants of one GPU that came before an older ticket for all was served, though they were submitted later."""
    wide = [f for f in found if f["gpus"] > 1]
    return [(f["submitted_s"], w["submitted_s"]) for w in wide for f in found
            if f["submitted_s"] > w["submitted_s"] and f["granted_s"] < w["granted_s"]]  # fmt: skip


def test_a_thousand_claims_of_sixteen_claimers_never_meet(open_folder: Path) -> None:
    crowd = Crowd(open_folder, own_area(open_folder / "claims"), Machine(open_folder / "gpus.json"))
    for _ in range(16):
        crowd.add(-(-CLAIMS // 16))
    crowd.begin()
    found = crowd.results()
    assert len(found) >= CLAIMS
    assert [f for f in found if f["booked_twice"]] == []
    assert list(crowd.area.tickets.iterdir()) == list(crowd.area.claims.iterdir()) == []


@pytest.mark.users
def test_three_users_never_meet(open_folder: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root, with setpriv, can be several users")
    another = ["setpriv", f"--reuid={USERS[0]}", f"--regid={GROUP}", "--clear-groups"]
    probe = subprocess.run([*another, sys.executable, "-c", "import swiftshell"], cwd=ROOT, capture_output=True)
    if probe.returncode != 0:
        pytest.skip(f"other users may not read {ROOT} or run {sys.executable}")
    area = make_shared(open_folder / "shared", GROUP, [uuid(i) for i in range(4)])
    machine = Machine(open_folder / "gpus.json")
    crowd = Crowd(open_folder, area, machine)
    for number in range(16):
        crowd.add(-(-CLAIMS // 16), uid=USERS[number % 3], umask=(0o022, 0o077)[number % 2])
    crowd.begin()
    found = crowd.results()
    assert len(found) >= CLAIMS
    assert [f for f in found if f["booked_twice"]] == []
    assert list(area.tickets.iterdir()) == list(area.claims.iterdir()) == []


def test_jobs_for_all_gpus_have_their_turn_in_a_stream_of_small_ones(open_folder: Path) -> None:
    crowd = Crowd(open_folder, own_area(open_folder / "claims"), Machine(open_folder / "gpus.json"))
    for _ in range(2):
        crowd.add(5, gpus=4, poll_s=0.05)
    for _ in range(6):
        crowd.add(30, poll_s=0.05)
    crowd.begin()
    found = crowd.results()
    assert sum(f["gpus"] == 4 for f in found) == 10
    assert len(found) == 10 + 6 * 30
    assert [f for f in found if f["booked_twice"]] == []
    assert overtaken(found) == []


def test_killed_holders_and_waiters_free_what_they_had(open_folder: Path) -> None:
    crowd = Crowd(open_folder, own_area(open_folder / "claims"), Machine(open_folder / "gpus.json"))
    chance = random.Random(7)
    victims = [crowd.add(10_000, poll_s=0.05) for _ in range(KILLS)]
    steady = [crowd.add(40, poll_s=0.05) for _ in range(4)]
    crowd.begin()
    for victim in victims:
        time.sleep(chance.uniform(0.0, 0.3))
        victim.kill()
        victim.wait()
        for index in range(4):  # what the driver does when a process is gone
            crowd.machine.vanish(index, victim.pid)
    found = crowd.results()
    assert all(member.returncode == 0 for member in steady)
    assert [f for f in found if f["booked_twice"]] == []
    assert len(found) >= 4 * 40


def test_a_stopped_first_waiter_is_passed_over(open_folder: Path) -> None:
    crowd = Crowd(open_folder, own_area(open_folder / "claims"), Machine(open_folder / "gpus.json"))
    holder = crowd.add(1, gpus=4, unseen_s=0.0, seen_s=2.0)
    crowd.begin()
    until_tickets(crowd.area, 0, held=True)
    stopped = crowd.add(1, poll_s=0.05)
    started = time.monotonic()
    crowd_begin_one(stopped)
    until_tickets(crowd.area, 1)
    stopped.send_signal(signal.SIGSTOP)
    other = crowd.add(1, gpus=4, poll_s=0.05, stopped_after_s=1.0)
    crowd_begin_one(other)
    other_said, _ = other.communicate(timeout=60)
    assert '"booked_twice": []' in other_said
    assert time.monotonic() - started > 1.0
    stopped.send_signal(signal.SIGCONT)
    stopped_said, _ = stopped.communicate(timeout=60)
    assert '"booked_twice": []' in stopped_said
    holder.communicate(timeout=60)


def crowd_begin_one(member: subprocess.Popen[str]) -> None:
    assert member.stdout is not None
    assert member.stdin is not None
    assert member.stdout.readline() == "ready\n"
    member.stdin.write("go\n")
    member.stdin.flush()


def until_tickets(area: Area, count: int, *, held: bool = False) -> None:
    """Wait until so many wait, and (`held`) all GPUs are taken."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        taken = len(list(area.claims.glob("gpu-*.json")))
        if len(list(area.tickets.glob("*.json"))) == count and (not held or taken == 4):
            return
        time.sleep(0.02)
    raise AssertionError(f"{list(area.tickets.iterdir())} {list(area.claims.iterdir())}")
