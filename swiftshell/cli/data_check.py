"""`swiftshell data check`: say everything that is wrong with a data set before a run does."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.cli.data_source import add_source_arguments, source_columns, source_path, source_purpose
from swiftshell.errors import EXIT_OK, EXIT_USAGE
from swiftshell.result import Result

SUMMARY = "detect.action_check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_source_arguments(parser)


def run(args: argparse.Namespace) -> Result[Any]:
    """Check every row."""
    from swiftshell.data.load import check_rows

    path = source_path(args)
    columns = source_columns(args)
    purpose = source_purpose(args, path, columns)
    report = check_rows(path, purpose, columns=columns)
    errors = [p for p in report.problems if p.severity == "error"]
    if not args.json:
        from swiftshell.render.data import print_report

        print_report(report.as_json(), good=not errors, path=str(path), purpose=purpose)
    return Result(report.as_json(), problems=list(report.problems), exit_code=EXIT_USAGE if errors else EXIT_OK)
