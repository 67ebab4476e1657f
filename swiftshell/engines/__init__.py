"""HOW it is done: one module per engine, imported by the worker process only.

An engine is `run(request: StepRequest, ctx: Context) -> Outcome` (see `swiftshell.stages.base`); it reads top to
bottom: load, rows, config, trainer, train, save, outcome.
"""

import os

# OpenMP's threads spin while they wait, which makes a busy machine many times slower. It must be said before torch
# loads, and this is the first thing any engine runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
