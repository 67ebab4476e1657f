"""Bring a data set that lies on a hub into the workspace, by a download run like any other, and say where it lies."""

from __future__ import annotations

import argparse
from pathlib import Path

from swiftshell.errors import EXIT_OK, SwiftshellError
from swiftshell.result import Result

SCHEMES = ("hf://", "ms://")


def fetch(args: argparse.Namespace, address: str) -> Path:
    """Return the folder of a data set; one that was fetched before is not fetched again.

    Raises:
        SwiftshellError: the download cannot be planned or did not succeed (no network, no such repository …).
    """
    from swiftshell.api.plans import plan_target
    from swiftshell.api.runs import submit
    from swiftshell.cli.output import follow_until_over
    from swiftshell.plan.quick import Options
    from swiftshell.run.files import read_json
    from swiftshell.run.paths import StepPaths
    from swiftshell.run.workspace import open_workspace

    plan = plan_target(open_workspace(args.workspace, create=False), "download", Options(dataset=address))
    folder = plan.steps[0].restored_from
    if folder is None:
        run = submit(plan)
        _refuse_failure(follow_until_over(run, _quiet(args)))
        folder = run.steps()[0].root
    outputs = (read_json(StepPaths(folder).result) or {}).get("outputs", {})
    return Path(folder / outputs.get("dataset", "out/dataset")).resolve()


def _quiet(args: argparse.Namespace) -> argparse.Namespace:
    """Return the arguments with nothing printed to standard output, which belongs to what is read."""
    return argparse.Namespace(**{**vars(args), "json": True})


def _refuse_failure(result: Result[object]) -> None:
    if result.exit_code != EXIT_OK:
        raise SwiftshellError(result.problems, exit_code=result.exit_code)
