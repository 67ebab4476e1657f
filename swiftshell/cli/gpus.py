"""`swiftshell gpus`: what every GPU does, for whom, since when and until when."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: none of its own."""


def run(args: argparse.Namespace) -> Result[Any]:
    """Look and tell."""
    from swiftshell.api.gpus import gpus_facts

    facts = gpus_facts()
    if not args.json:
        from swiftshell.render.gpus import print_gpus

        print_gpus(facts)
    return Result(facts)
