"""HOW it is done: one module per engine, imported by the worker process only.

An engine is `run(request: StepRequest, ctx: Context) -> Outcome` (see `swiftshell.stages.base`); it reads top to bottom:
load, rows, config, trainer, train, save, outcome.
"""
