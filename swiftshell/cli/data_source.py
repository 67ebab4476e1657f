"""What the actions of `swiftshell data` have in common: a path, what it is read for, and corrections of columns."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from swiftshell.cli.run import pair
from swiftshell.errors import fail
from swiftshell.i18n import t

if TYPE_CHECKING:
    from swiftshell.data.row import Purpose

PURPOSES = ("sft", "kto", "dpo", "prompts", "heldout")


def add_source_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments that say what is read, and how."""
    parser.add_argument("path", metavar="PATH", help=t("cli.data_path"))
    parser.add_argument("--for", dest="purpose", choices=PURPOSES, help=t("detect.for"))
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", dest="columns",
                        help=t("cli.run_column"))


def source_path(args: argparse.Namespace) -> Path:
    """Return the path that was named; what a hub has is fetched first.

    Raises:
        SwiftshellError: there is nothing there, or it cannot be fetched.
    """
    from swiftshell.cli.data_fetch import SCHEMES, fetch
    from swiftshell.data.sources import exists

    if args.path.startswith(SCHEMES):
        return fetch(args, args.path)

    path = Path(args.path).expanduser()
    if not exists(path):
        raise fail("plan.path_missing", path=str(path), name="PATH")
    return path


def source_purpose(args: argparse.Namespace, path: Path, columns: dict[str, str] | None) -> Purpose:
    """Return what the rows are for: as said by `--for`, else as the rows themselves say."""
    if args.purpose:
        asked: Purpose = args.purpose
        return asked
    from swiftshell.data.columns import purpose_of

    return purpose_of(path, columns=columns)


def source_columns(args: argparse.Namespace) -> dict[str, str] | None:
    """Return part → column as given by `--column`, None without any."""
    return dict(pair(c, "--column") for c in args.columns) or None
