"""`swiftshell resume`: continue a run that was stopped, failed or died."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.cli.output import follow_until_over
from swiftshell.cli.run import add_wait_arguments
from swiftshell.errors import Problem
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", nargs="?", metavar="RUN", help=t("cli.run_id"))
    parser.add_argument("-y", "--yes", action="store_true", help=t("cli.run_yes"))
    parser.add_argument("--detach", action="store_true", help=t("cli.run_detach"))
    add_wait_arguments(parser.add_argument_group(t("cli.group_gpus")))


def run(args: argparse.Namespace) -> Result[Any]:
    """Resume and follow."""
    from swiftshell.api.runs import find_run, resume, run_facts
    from swiftshell.run.workspace import open_workspace

    found = find_run(open_workspace(args.workspace, create=False), args.run)
    report = resume(found, wait=args.wait)
    if report.how == "nothing":
        note = Problem("cli.resume_nothing", {"run": found.id, "recipe": str(found.recipe)}, severity="note")
        return Result(run_facts(found), notes=[note])
    if not args.json:
        where = report.checkpoint.name if report.checkpoint else "-"
        print(t("cli.resume_from", run=found.id, step=report.step, how=t(f"cli.resume_{report.how}", checkpoint=where)))
        for name, wrong in report.passed_over.items():
            print(t("cli.resume_passed_over", checkpoint=name, wrong=", ".join(wrong)))
    return follow_until_over(found, args, detach=args.detach)
