"""`swiftshell explain`: a stage, a setting, why a run did what it did, or which stage suits the data at hand."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.errors import fail
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("topic", nargs="?", metavar="TOPIC", help=t("cli.explain_topic"))
    parser.add_argument("--data", metavar="FILE", help=t("cli.explain_data"))
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", dest="columns",
                        help=t("cli.run_column"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Explain."""
    facts = _facts(args)
    if not args.json:
        from swiftshell.render.explain import print_explanation

        print_explanation(facts)
    return Result(facts)


def _facts(args: argparse.Namespace) -> dict[str, Any]:
    from swiftshell.api.explain import explain

    if args.data is None and not args.columns:
        return explain(args.topic, args.workspace)
    if not args.data or args.topic not in (None, "choose"):
        raise fail("cli.explain_data_alone")
    from pathlib import Path

    from swiftshell.api.choose import choose
    from swiftshell.cli.run import pair

    return choose(Path(args.data).expanduser(), dict(pair(c, "--column") for c in args.columns) or None)
