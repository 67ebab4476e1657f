"""`swiftshell jobs`: what is running now."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: none of its own."""


def run(args: argparse.Namespace) -> Result[Any]:
    """List the runs that are not over."""
    from swiftshell.api.runs import live_runs
    from swiftshell.run.workspace import open_workspace

    workspace = open_workspace(args.workspace, create=False)
    found = live_runs(workspace)
    if not args.json:
        if found:
            from swiftshell.render.runs import print_runs

            print_runs(found)
        else:
            print(t("cli.no_jobs", workspace=workspace.root))
    return Result(found)
