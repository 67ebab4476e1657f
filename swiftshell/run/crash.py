"""Die at a named point when a test asks for it: how crash safety is proven instead of claimed.

`SWIFTSHELL_CRASH_AT=exit.written` kills this process with SIGKILL when it gets there. Several points may be given,
separated by commas. Without the variable a point costs one look into the environment.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "SWIFTSHELL_CRASH_AT"

# In the order in which a step passes them.
RUNNER_POINTS = (
    "runner.started",
    "runner.locked",
    "runner.identified",
    "step.chosen",
    "output.locked",
    "attempt.made",
    "intent.written",
    "child.forked",
    "child.recorded",
    "child.released",
    "worker.watched",
    "worker.exited",
    "exit.written",
    "output.renamed",
    "publish.copied",
    "publish.renamed",
    "result.written",
    "run.over",
)
# Only a step that needs GPUs passes these, between output.locked and attempt.made.
CLAIM_POINTS = ("claim.ticketed", "claim.locked", "claim.recorded")
CHILD_POINTS = ("child.waits", "child.execs")
WORKER_POINTS = ("worker.started", "worker.calls", "worker.made", "worker.recorded", "worker.told")


def crash_point(name: str) -> None:
    """Die here if a test asked for it."""
    if name in os.environ.get(VARIABLE, "").split(","):
        os.kill(os.getpid(), signal.SIGKILL)
