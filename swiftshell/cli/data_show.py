"""`swiftshell data show`: look at rows as the engines will see them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from swiftshell.cli.data_source import add_source_arguments, source_columns, source_path, source_purpose
from swiftshell.i18n import t
from swiftshell.result import Result

SUMMARY = "detect.action_show"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_source_arguments(parser)
    parser.add_argument("-n", "--rows", type=int, default=3, metavar="N", help=t("cli.data_rows"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Show rows."""
    from swiftshell.data.load import load_rows

    path, columns = source_path(args), source_columns(args)
    rows = load_rows(path, source_purpose(args, path, columns), columns=columns, limit=args.rows)
    if not args.json:
        for row in rows:
            print(f"── {t('cli.data_row', row=row.number)}")
            print(json.dumps(row.data, ensure_ascii=False, indent=1))
    return Result([{"row": r.number, **r.data} for r in rows])
