"""`swiftshell data show`: look at rows as a model will read them, with what it learns from told apart."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from swiftshell.cli.data_source import add_source_arguments, source_columns, source_path, source_purpose
from swiftshell.i18n import t
from swiftshell.result import Result

SUMMARY = "detect.action_show"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_source_arguments(parser)
    parser.add_argument("-n", "--rows", type=int, default=3, metavar="N", help=t("cli.data_rows"))
    parser.add_argument("--model", metavar="M", help=t("detect.model"))
    parser.add_argument("--whole", action="store_true", help=t("detect.whole"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Show rows."""
    from swiftshell.api.preview import show, speaker_for
    from swiftshell.run.workspace import open_workspace

    path, columns = source_path(args), source_columns(args)
    speaker = speaker_for(open_workspace(args.workspace, create=False), args.model)
    purpose = source_purpose(args, path, columns)
    shown = show(path, purpose, speaker, rows=args.rows, columns=columns)
    if not args.json:
        from swiftshell.render.preview import print_found, print_previews

        print_found(purpose, shown.format, shown.columns)
        print_previews(shown.rows, model=speaker.name, whole=args.whole)
        if shown.bad_rows:
            print(t("detect.bad_among", count=shown.bad_rows, command=f"swiftshell data check {path}"), file=sys.stderr)
    return Result({"purpose": purpose, "format": shown.format, "columns": dict(shown.columns), "model": speaker.name,
                   "bad_rows": shown.bad_rows, "rows": [one.as_json() for one in shown.rows]})
