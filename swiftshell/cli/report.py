"""`swiftshell report`: a run as one HTML page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from swiftshell.errors import fail
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("run", nargs="?", metavar="RUN", help=t("cli.run_id"))
    parser.add_argument("-o", "--out", metavar="FILE", help=t("cli.report_out"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Write the report and say where it is."""
    from swiftshell.api.report import report_facts
    from swiftshell.api.runs import find_run
    from swiftshell.render.report import write_report
    from swiftshell.run.workspace import open_workspace

    if args.out == "":
        raise fail("cli.value_empty", flag="--out")
    found = find_run(open_workspace(args.workspace, create=False), args.run)
    path = Path(args.out).expanduser().absolute() if args.out else found.root / "report.html"
    if path.is_dir():
        path /= f"{found.id}.html"
    try:
        write_report(report_facts(found), path)
    except OSError as error:
        raise fail("cli.not_written", path=str(path), why=error.strerror or str(error)) from error
    if not args.json:
        print(t("report.written", path=path))
    return Result({"run": found.id, "path": str(path)})
