"""`swiftshell explain`: a stage, a setting, or why a run did what it did."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("topic", nargs="?", metavar="TOPIC", help=t("cli.explain_topic"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Explain."""
    from swiftshell.api.explain import explain

    facts = explain(args.topic, args.workspace)
    if not args.json:
        from swiftshell.render.explain import print_explanation

        print_explanation(facts)
    return Result(facts)
