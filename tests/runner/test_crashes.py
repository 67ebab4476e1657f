"""kill -9 at every named point of runner, child and worker: the files tell the truth and `resume` finishes the work."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from swiftshell.jobs import reconcile
from swiftshell.run import artifact
from swiftshell.run.crash import CHILD_POINTS, RUNNER_POINTS, WORKER_POINTS

from . import lab

SOAK = int(os.environ.get("SWIFTSHELL_SOAK", "1"))

# What must be seen once everything is dead: (the run's status, the run's result, the first step's result). A worker
# that outlives its runner finishes its work meanwhile; then only the end is missing.
LOST = ("over", "lost", "lost")
VERDICTS = {
    "runner.started": ("waiting", None, None),
    "runner.locked": ("waiting", None, None),
    "runner.identified": ("over", "lost", None),
    "step.chosen": ("over", "lost", None),
    "output.locked": ("over", "lost", None),
    "attempt.made": LOST,
    "intent.written": LOST,
    "child.forked": LOST,
    "child.recorded": LOST,
    "child.released": LOST,
    "worker.watched": LOST,
    "worker.exited": LOST,
    "exit.written": LOST,
    "output.renamed": LOST,
    "publish.copied": LOST,
    "publish.renamed": LOST,
    "result.written": ("over", "lost", "succeeded"),
    "run.over": ("over", "succeeded", "succeeded"),
    "child.waits": ("over", "failed", "failed"),
    "child.execs": ("over", "failed", "failed"),
    "worker.started": ("over", "failed", "failed"),
    "worker.calls": ("over", "failed", "failed"),
    "worker.made": ("over", "failed", "failed"),
    "worker.recorded": ("over", "failed", "failed"),
    "worker.told": ("over", "succeeded", "succeeded"),
}
WITH_A_SECOND_STEP = ("child.released", "exit.written", "result.written", "run.over", "worker.calls", "worker.told")
FINISH_ONLY = ("worker.watched", "child.released", "worker.exited", "exit.written", "output.renamed", "publish.copied",
               "publish.renamed")


def test_every_point_has_an_expected_verdict() -> None:
    assert set(VERDICTS) == {*RUNNER_POINTS, *CHILD_POINTS, *WORKER_POINTS}


@pytest.mark.parametrize("point", [*RUNNER_POINTS, *CHILD_POINTS, *WORKER_POINTS])
def test_killed_at(point: str, workspace: Path) -> None:
    for number in range(SOAK):
        _killed_at(point, workspace, workspace / f"published-{number}")


def _killed_at(point: str, workspace: Path, published: Path) -> None:
    steps: dict[str, dict[str, Any]] = {"one": {"ticks": 3, "tick_s": 0.0, "publish": str(published)}}
    if point in WITH_A_SECOND_STEP:
        steps["two"] = {"ticks": 1, "tick_s": 0.0, "after": "one"}
    run = lab.make(workspace, steps)
    one, *others = run.steps()
    lab.start(run, point)
    seen = lab.settled(run)
    lab.assert_promises(run)
    assert (seen.status, seen.result, seen.steps[0].result) == VERDICTS[point]
    before = lab.starts(one)
    if point in FINISH_ONLY:
        assert seen.steps[0].message is not None
        assert seen.steps[0].message.code == "run.finish_pending"
    if seen.result != "succeeded":
        assert lab.resumed_to_end(run).result == "succeeded"
    lab.assert_promises(run)
    assert {s.result for s in reconcile.status(run).steps} == {"succeeded"}
    if point in FINISH_ONLY or VERDICTS[point][2] == "succeeded":
        assert lab.starts(one) == before == [1], "finished work was done again"
    assert max(lab.ticks(one)) == 3
    assert len(lab.ticks(one)) == len(set(lab.ticks(one))), "a tick after a checkpoint was counted twice"
    assert [lab.ticks(step) for step in others] == [[1] for _ in others]
    assert (published / "note.txt").read_text() == "echo\n"
    record = artifact.read(published)
    assert record is not None
    assert record["id"] == f"{run.id}/one/note"
    assert sorted(p.name for p in published.iterdir()) == ["ARTIFACT.json", "note.txt"]
    assert not list(workspace.glob(".published*partial"))
