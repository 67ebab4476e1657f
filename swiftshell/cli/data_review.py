"""`swiftshell data review`: look at labelled answers one by one; one key a verdict."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from swiftshell.cli.output import can_prompt
from swiftshell.cli.run import pair
from swiftshell.errors import fail
from swiftshell.i18n import t
from swiftshell.result import Result

SUMMARY = "review.summary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="FILE", help=t("review.opt_path"))
    parser.add_argument("--by", metavar="NAME", help=t("review.opt_by"))
    parser.add_argument(
        "--order",
        choices=("informative", "file", "random"),
        default="informative",
        help=t("review.opt_order"),
    )
    parser.add_argument("--budget", type=int, default=0, metavar="N", help=t("review.opt_budget"))
    parser.add_argument("--divide", action="store_true", help=t("review.opt_divide"))
    parser.add_argument("--audit", metavar="PATH", help=t("review.opt_audit"))
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        dest="columns",
        help=t("cli.run_column"),
    )
    parser.add_argument("--report", action="store_true", help=t("review.opt_report"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Review, or say what the reviews tell."""
    from swiftshell.api.reviews import open_review, review_report
    from swiftshell.run.workspace import open_workspace

    path = existing(args.path, "FILE")
    columns = dict(pair(c, "--column") for c in args.columns) or None
    workspace = open_workspace(args.workspace, create=False)
    if args.report:
        found = review_report(workspace, path, columns=columns)
        if not args.json:
            from swiftshell.render.review_report import print_review_report

            print_review_report(found)
        return Result(found)
    if not can_prompt(args):
        raise fail("review.needs_terminal", path=str(path))
    audit = None if args.audit is None else existing(args.audit, "--audit")
    sitting = open_review(
        workspace,
        path,
        by=args.by,
        order=args.order,
        budget=args.budget,
        divide=args.divide,
        audit=audit,
        columns=columns,
    )
    from swiftshell.render.review import run as run_review
    from swiftshell.render.review_report import print_sitting

    run_review(sitting, path.name)
    print_sitting(sitting, path)
    return Result({"judged": sitting.judged, "left": sitting.left, "log": str(sitting.log.path)})


def existing(text: str, name: str) -> Path:
    """Return a path that is there.

    Raises:
        SwiftshellError: it is not.
    """
    path = Path(text).expanduser()
    if not path.exists():
        raise fail("plan.path_missing", path=text, name=name)
    return path
