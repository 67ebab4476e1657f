"""`swiftshell data`: check a file before a run does, or look at its rows as the engines will see them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from swiftshell.cli.run import pair
from swiftshell.errors import EXIT_OK, EXIT_USAGE, fail
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=("check", "show"), help=t("cli.data_action"))
    parser.add_argument("path", metavar="PATH", help=t("cli.data_path"))
    parser.add_argument("--for", dest="purpose", default="kto", choices=("sft", "kto", "dpo", "prompts", "heldout"),
                        help=t("cli.data_for"))
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", dest="columns",
                        help=t("cli.run_column"))
    parser.add_argument("-n", "--rows", type=int, default=3, metavar="N", help=t("cli.data_rows"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Check or show."""
    path = Path(args.path).expanduser()
    if not path.exists():
        raise fail("plan.path_missing", path=str(path), name="PATH")
    columns = dict(pair(c, "--column") for c in args.columns) or None
    return _check(args, path, columns) if args.action == "check" else _show(args, path, columns)


def _check(args: argparse.Namespace, path: Path, columns: dict[str, str] | None) -> Result[Any]:
    from swiftshell.data.load import check_rows

    report = check_rows(path, args.purpose, columns=columns)
    errors = [p for p in report.problems if p.severity == "error"]
    if not args.json:
        from swiftshell.render.data import print_report

        print_report(report.as_json(), good=not errors, path=str(path), purpose=args.purpose)
    return Result(report.as_json(), problems=list(report.problems), exit_code=EXIT_USAGE if errors else EXIT_OK)


def _show(args: argparse.Namespace, path: Path, columns: dict[str, str] | None) -> Result[Any]:
    from swiftshell.data.load import load_rows

    rows = load_rows(path, args.purpose, columns=columns, limit=args.rows)
    if not args.json:
        for row in rows:
            print(f"── {t('cli.data_row', row=row.number)}")
            print(json.dumps(row.data, ensure_ascii=False, indent=1))
    return Result([{"row": r.number, **r.data} for r in rows])
