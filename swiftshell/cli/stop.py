"""`swiftshell stop`: ask a run to save a checkpoint and stop."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", nargs="?", metavar="RUN", help=t("cli.run_id_live"))
    parser.add_argument("--kill", action="store_true", help=t("cli.stop_kill"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Send the request."""
    from swiftshell.api.runs import find_run, request_stop, run_facts
    from swiftshell.run.workspace import open_workspace

    found = find_run(open_workspace(args.workspace, create=False), args.run, live=True)
    done = request_stop(found, "kill" if args.kill else "checkpoint")
    if not args.json:
        print(t("cli.stop_over" if done == "over" else "cli.stop_done", run=found.id))
    return Result(run_facts(found))
