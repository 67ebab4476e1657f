"""`swiftshell doctor`: what works here, each line with a verdict and one thing to do."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: none of its own."""


def run(args: argparse.Namespace) -> Result[Any]:
    """Look and tell; a missing optional part is a warning, a broken needed one an error (exit 1)."""
    from swiftshell.api.doctor import examine

    findings = examine(args.workspace)
    if not args.json:
        from swiftshell.render.doctor import print_findings

        print_findings(findings)
    return Result(findings, exit_code=1 if any(f["verdict"] == "bad" for f in findings) else 0)
