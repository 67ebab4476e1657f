"""`swiftshell attach`: the live view of a running job; Ctrl-C detaches."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.cli.output import follow_until_over
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", nargs="?", metavar="RUN", help=t("cli.run_id_live"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Follow until the run is over or the person leaves."""
    from swiftshell.api.runs import find_run
    from swiftshell.run.workspace import open_workspace

    found = find_run(open_workspace(args.workspace, create=False), args.run, live=True)
    return follow_until_over(found, args, stop_on_interrupt=False)
