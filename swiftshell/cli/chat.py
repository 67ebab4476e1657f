"""`swiftshell chat`: talk to the newest model of the lineage, in the terminal."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.cli.infer import generation
from swiftshell.cli.output import is_terminal
from swiftshell.errors import fail
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=t("cli.run_model"))
    parser.add_argument("--model", dest="named", metavar="M", help=t("cli.model_again"))
    parser.add_argument("--system", metavar="TEXT", help=t("cli.system"))
    parser.add_argument("--lineage", metavar="NAME", help=t("cli.run_lineage"))
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help=t("cli.max_new_tokens"))
    parser.add_argument("--temperature", type=float, metavar="T", help=t("cli.temperature"))
    parser.add_argument("--top-p", type=float, metavar="P", help=t("cli.top_p"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Chat until the person leaves."""
    import sys

    if args.json or not (is_terminal(sys.stdin) and is_terminal(sys.stdout)):
        raise fail("cli.chat_needs_terminal")
    from swiftshell.api.chat import chat_model
    from swiftshell.render.talk import talk
    from swiftshell.run.workspace import open_workspace

    workspace = open_workspace(args.workspace, create=False)
    model = args.named or args.model
    name, _ = chat_model(workspace, model, args.lineage)
    talk(workspace, model, args.lineage, name, args.system, generation(args))
    return Result(None)
