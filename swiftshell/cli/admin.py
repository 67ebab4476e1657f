"""`swiftshell admin`: what is done once for a whole machine, with sudo."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("what", choices=("init-shared",), help=t("cli.admin_what"))
    parser.add_argument("--group", required=True, metavar="GROUP", help=t("cli.admin_group"))
    parser.add_argument("--path", metavar="DIR", help=t("cli.admin_path"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Make the shared area."""
    from swiftshell.api.admin import init_shared

    made = init_shared(args.group, args.path)
    if not args.json:
        print(t("cli.admin_done", **made))
    return Result(made)
