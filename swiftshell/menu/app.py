"""`swiftshell` without a verb: read the few flags, check that a person is there, open the board."""

from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from swiftshell.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_TERMINATED, SwiftshellError
from swiftshell.i18n import LANGUAGES, set_language, t

if TYPE_CHECKING:
    from swiftshell.menu.session import Session


def main(argv: list[str]) -> int:
    """Run the menu and return its exit code: 0 after leaving, 2 without a terminal, 130 after leaving by Ctrl-C."""
    args = _arguments(argv)
    if args.lang is not None:
        set_language(args.lang)
    if args.plain:
        os.environ["SWIFTSHELL_PLAIN"] = "1"
    from swiftshell.menu import prompts
    from swiftshell.menu.rows import Quit

    try:
        prompts.require_terminal()
        _run(_session(args.workspace))
    except SwiftshellError as error:
        from swiftshell.render.problems import print_problems

        print_problems(error.problems)
        return error.exit_code
    except Quit as quit_:
        return quit_.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except EOFError:  # the terminal is gone
        return EXIT_TERMINATED
    return EXIT_OK


def _session(workspace: str | None) -> Session:
    from swiftshell.menu.session import Session

    return Session.open(workspace)


def _run(session: Session) -> None:
    from swiftshell.menu.screens.home import home

    home(session)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="swiftshell", add_help=False, allow_abbrev=False)
    parser.add_argument("-w", "--workspace", metavar="DIR", help=t("cli.opt_workspace"))
    parser.add_argument("--lang", choices=(*LANGUAGES, "auto"), help=t("cli.opt_lang"))
    parser.add_argument("--plain", action="store_true", help=t("cli.opt_plain"))
    parser.add_argument("-h", "--help", action="help", help=t("cli.opt_help"))
    return parser.parse_args(argv)


class _Parser(argparse.ArgumentParser):
    """Say usage errors like every other error, exit 2."""

    def error(self, message: str) -> Any:
        import sys

        print(f"{t('core.error')}[cli.usage_error]: {message}\n{t('core.hint')}: swiftshell --help", file=sys.stderr)
        raise SystemExit(2)
