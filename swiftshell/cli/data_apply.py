"""`swiftshell data apply`: write the data as the reviewers left it; the original is never touched."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from swiftshell.cli.data_review import existing
from swiftshell.cli.run import pair
from swiftshell.i18n import t
from swiftshell.result import Result

SUMMARY = "review.apply_summary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="FILE", help=t("review.opt_path"))
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help=t("review.opt_out"))
    parser.add_argument("--ties", choices=("keep", "drop", "soft"), default="keep", help=t("review.opt_ties"))
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        dest="columns",
        help=t("cli.run_column"),
    )


def run(args: argparse.Namespace) -> Result[Any]:
    """Write the corrected data and say what changed."""
    from swiftshell.api.reviews import apply_review

    path, out = existing(args.path, "FILE"), Path(args.out).expanduser()
    columns = dict(pair(c, "--column") for c in args.columns) or None
    applied = apply_review(path, out, ties=args.ties, columns=columns)
    if not args.json:
        from swiftshell.render.review_report import print_applied

        print_applied(applied.as_json(), out)
    return Result({"out": str(out), **applied.as_json()})
