"""`swiftshell queue`: who waits for GPUs, in the order in which they are served, and for what."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: none of its own."""


def run(args: argparse.Namespace) -> Result[Any]:
    """Look and tell."""
    from swiftshell.api.gpus import queue_facts

    facts = queue_facts()
    if not args.json:
        from swiftshell.render.gpus import print_queue

        print_queue(facts)
    return Result(facts)
