"""`swiftshell logs`: what a step printed."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from swiftshell.errors import fail
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", nargs="?", metavar="RUN", help=t("cli.run_id"))
    parser.add_argument("--step", metavar="STEP", help=t("cli.logs_step"))
    parser.add_argument("-f", "--follow", action="store_true", help=t("cli.logs_follow"))
    parser.add_argument("-n", "--lines", type=int, default=200, metavar="N", help=t("cli.logs_lines"))
    parser.add_argument("--runner", action="store_true", help=t("cli.logs_runner"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Print the log's end, and what comes after it with `--follow`."""
    from swiftshell.api.runs import find_run, log_of
    from swiftshell.render.log import follow_log, last_lines
    from swiftshell.run.workspace import open_workspace

    found = find_run(open_workspace(args.workspace, create=False), args.run)
    attempt = None if args.runner else log_of(found, args.step)
    path = found.runner_log if args.runner else attempt.log if attempt else None
    if path is None or not path.is_file():
        raise fail("cli.no_log", run=found.id)
    lines = last_lines(path, args.lines)
    if args.json:
        return Result({"run": found.id, "path": str(path), "lines": lines})
    if lines:
        print("\n".join(lines))
    elif not args.follow:
        print(t("cli.log_empty", path=path, run=found.id), file=sys.stderr)
    if args.follow:
        try:
            follow_log(path, found)
        except KeyboardInterrupt:
            print("\n" + t("cli.keeps_running", run=found.id), file=sys.stderr)
    return Result(None)
