"""`swiftshell data`: look at rows, check them, turn them into another form, before a run does.

Every action has its arguments and its work in a file of its own, `data_<action>.py`, which imports what it needs when
it runs.
"""

from __future__ import annotations

import argparse
from importlib import import_module
from typing import Any

from swiftshell.cli.main import add_common
from swiftshell.i18n import t
from swiftshell.result import Result

# Action → the module with its `add_arguments(parser)`, `run(args) -> Result` and SUMMARY, the key of its help.
ACTIONS = {
    "check": "swiftshell.cli.data_check",
    "show": "swiftshell.cli.data_show",
    "convert": "swiftshell.cli.data_convert",
    "review": "swiftshell.cli.data_review",
    "apply": "swiftshell.cli.data_apply",
    "audit": "swiftshell.cli.data_audit",
    "make-kto": "swiftshell.cli.data_make_kto",
    "make-dpo": "swiftshell.cli.data_make_dpo",
    "score": "swiftshell.cli.data_score",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions and the arguments of each."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True, title=t("detect.actions"))
    for action, name in ACTIONS.items():
        module = import_module(name)
        summary = t(module.SUMMARY)
        own = actions.add_parser(action, help=summary, description=summary, allow_abbrev=False, add_help=False,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
        module.add_arguments(own)
        add_common(own, again=True)


def run(args: argparse.Namespace) -> Result[Any]:
    """Do the action."""
    result: Result[Any] = import_module(ACTIONS[args.action]).run(args)
    return result
