"""`swiftshell runs`: every run of the workspace, newest first."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", nargs="?", metavar="RUN", help=t("cli.run_id"))
    parser.add_argument("-n", "--limit", type=int, default=0, metavar="N", help=t("cli.runs_limit"))


def run(args: argparse.Namespace) -> Result[Any]:
    """List the runs, or show one with its table."""
    from swiftshell.api.runs import find_run, run_facts, runs_facts
    from swiftshell.run.workspace import open_workspace

    workspace = open_workspace(args.workspace, create=False)
    if args.run:
        facts = run_facts(find_run(workspace, args.run))
        if not args.json:
            from swiftshell.render.table import print_final_table

            print_final_table(facts)
        return Result(facts)
    found = runs_facts(workspace, args.limit)
    if not args.json:
        if found:
            from swiftshell.render.runs import print_runs

            print_runs(found)
        else:
            print(t("cli.no_runs", workspace=workspace.root))
    return Result(found)
