"""`swiftshell data convert`: write the rows of a data set in another form."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from swiftshell.cli.data_source import add_source_arguments, source_columns, source_path, source_purpose
from swiftshell.errors import EXIT_OK, Problem, fail
from swiftshell.i18n import t
from swiftshell.result import Result

SUMMARY = "detect.action_convert"
_FORMS = ("alpaca", "sharegpt", "messages", "kto", "dpo")
_SHOWN = 20
_ENDINGS = (".jsonl", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_source_arguments(parser)
    parser.add_argument("out", metavar="OUT", help=t("detect.out"))
    parser.add_argument("--to", required=True, choices=_FORMS, dest="form", help=t("detect.to"))
    parser.add_argument("--overwrite", action="store_true", help=t("detect.overwrite"))
    parser.add_argument("--drop-budget", type=int, default=0, metavar="N", help=t("detect.drop_budget"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Read, write in the other form, and read back."""
    from swiftshell.data.export import Exporter, write_rows
    from swiftshell.data.load import load_with_report
    from swiftshell.errors import SwiftshellError

    path, columns, out = source_path(args), source_columns(args), _target(args)
    purpose = source_purpose(args, path, columns) if args.form not in ("kto", "dpo") else args.form
    if purpose not in ("sft", "kto", "dpo"):
        raise fail("detect.no_answers_to_write", path=str(path), purpose=purpose)
    rows, report = load_with_report(path, purpose, columns=columns, drop_budget=args.drop_budget)
    exporter = Exporter(args.form, purpose, out.parent)
    written = exporter.rows(rows)
    left_out = report.bad_rows + len(exporter.problems)
    if left_out > args.drop_budget or not written:
        raise SwiftshellError(_first(exporter.problems, path))
    write_rows(written, out)
    facts = {"path": str(out), "form": args.form, "purpose": purpose, "rows": len(written), "left_out": left_out}
    if not args.json:
        print(t("detect.written" if not left_out else "detect.written_less", **facts))
    return Result(facts, notes=list(exporter.problems), exit_code=EXIT_OK)


def _first(problems: list[Problem], path: Path) -> list[Problem]:
    """Return the first rows that cannot be written, and how many more there are."""
    if (more := len(problems) - _SHOWN) <= 0:
        return problems
    values = {"more": more, "code": problems[0].code, "total": len(problems)}
    return [*problems[:_SHOWN], Problem("data.and_more", values, file=str(path))]


def _target(args: argparse.Namespace) -> Path:
    """Return where to write.

    Raises:
        SwiftshellError: something is there already, or the name does not say how to write.
    """
    out = Path(args.out).expanduser().absolute()
    if out.suffix not in _ENDINGS:
        raise fail("detect.out_ending", path=str(out), known=" ".join(_ENDINGS))
    if out.exists() and not args.overwrite:
        raise fail("detect.out_exists", path=str(out))
    if out == Path(args.path).expanduser().absolute():
        raise fail("detect.out_is_source", path=str(out))
    return out
