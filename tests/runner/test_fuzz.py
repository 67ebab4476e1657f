"""kill -9 at moments nobody chose: runner, worker or both, again and again, until the work is done all the same."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.jobs import control, reconcile
from swiftshell.run.files import read_json_or_none
from swiftshell.run.paths import RunPaths

from . import lab

ROUNDS = int(os.environ.get("SWIFTSHELL_SOAK", "1"))
TICKS = 30


@pytest.mark.parametrize("seed", range(2 * ROUNDS))
def test_killed_at_random(seed: int, workspace: Path) -> None:
    chance = random.Random(seed)
    published = workspace / "out"
    run = lab.make(workspace, {"one": {"ticks": TICKS, "tick_s": 0.005},
                               "two": {"ticks": TICKS, "tick_s": 0.005, "after": "one", "publish": str(published)}})
    lab.start(run)
    for _ in range(6):
        time.sleep(chance.uniform(0.0, 0.7))
        for victim in chance.choice([["runner"], ["worker"], ["runner", "worker"], ["worker", "runner"]]):
            kill(run, victim)
        found = lab.unsupervised_or_settled(run) if chance.random() < 0.7 else reconcile.status(run)
        assert found.status != "unknown", lab.control.problems_of(found)
        lab.assert_promises(run)
        resume(run)
    for _ in range(4):
        ended = lab.control.wait(run, 60)
        if ended.result == "succeeded":
            break
        lab.settled(run)
        resume(run)
    lab.assert_promises(run)
    assert [s.result for s in reconcile.status(run).steps] == ["succeeded", "succeeded"]
    for step in run.steps():
        # Each tick is saved before the next: at most the one of the moment of a kill is counted again.
        assert sorted(set(lab.ticks(step))) == list(range(1, TICKS + 1))
        attempts = len(lab.starts(step))
        assert len(lab.ticks(step)) <= TICKS + attempts
    assert (published / "note.txt").read_text() == "echo\n"


def resume(run: RunPaths) -> None:
    """Resume, unless the kill missed or the work is done."""
    try:
        control.resume(run)
    except SwiftshellError as error:
        if error.problems[0].code != "run.still_running":
            raise


def kill(run: RunPaths, victim: str) -> None:
    """Kill what the records name right now, if it is alive."""
    if victim == "runner":
        record = read_json_or_none(run.runner)
    else:
        children = sorted(run.root.glob("steps/*/attempts/*/child.json"))
        record = read_json_or_none(children[-1]) if children else None
    if isinstance(record, dict):
        lab.identity.send(lab.Identity.from_json(record), signal.SIGKILL)
