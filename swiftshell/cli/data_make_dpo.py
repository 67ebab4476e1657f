"""`swiftshell data make-dpo`: pairs from labelled answers, where a prompt has both kinds."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from swiftshell.cli.data_review import existing
from swiftshell.cli.run import pair
from swiftshell.i18n import t
from swiftshell.result import Result

SUMMARY = "logs.make_dpo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--from", dest="path", required=True, metavar="FILE", help=t("logs.opt_from_kto"))
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help=t("logs.opt_out"))
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", dest="columns",
                        help=t("cli.run_column"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Make the pairs and say how many rows found a partner."""
    from swiftshell.api.feedback import make_dpo

    columns = dict(pair(c, "--column") for c in args.columns) or None
    found = make_dpo(existing(args.path, "--from"), Path(args.out).expanduser(), columns=columns)
    if not args.json:
        from swiftshell.render.feedback import print_made

        print_made(found)
    return Result(found)
