"""`swiftshell data check`: say everything that is wrong with a data set before a run does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftshell.cli.data_source import add_source_arguments, source_columns, source_path, source_purpose
from swiftshell.errors import EXIT_OK, EXIT_USAGE, fail
from swiftshell.i18n import t
from swiftshell.result import Result

if TYPE_CHECKING:
    from swiftshell.data.report import DataReport

SUMMARY = "detect.action_check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add_source_arguments(parser)
    parser.add_argument("--threshold", type=float, metavar="SCORE", help=t("scan.help_threshold"))
    parser.add_argument("--model", "--tokenizer", dest="model", metavar="M", help=t("scan.help_model"))
    parser.add_argument("--max-length", type=int, metavar="TOKENS", help=t("scan.help_max_length"))
    parser.add_argument("--deep", action="store_true", help=t("scan.help_deep"))
    parser.add_argument("--against", metavar="FILE", help=t("scan.help_against"))
    parser.add_argument("--drop-budget", type=int, default=0, metavar="N", help=t("scan.help_drop_budget"))
    parser.add_argument("--html", metavar="OUT", help=t("scan.help_html"))
    parser.add_argument("--processes", type=int, default=0, metavar="N", help=t("scan.help_processes"))
    parser.add_argument("--fresh", action="store_true", help=t("scan.help_fresh"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Check every row; problems are shown as they are found."""
    from swiftshell.data.load import check_rows, refuses
    from swiftshell.render.found import Found

    path, columns = source_path(args), source_columns(args)
    purpose = source_purpose(args, path, columns)
    found = None if args.json else Found()
    report = check_rows(
        path,
        purpose,
        columns=columns,
        label_rule=None if args.threshold is None else {"threshold": args.threshold},
        deep=args.deep,
        against=_against(args),
        processes=max(0, args.processes),
        fresh=args.fresh,
        progress=found.progress if found is not None else None,
        on_problem=found.add if found is not None else None,
        **_tokenizer(args, purpose),
    )
    if report.tokens:
        report.tokens["model"] = args.model
    good = not refuses(report, args.drop_budget)
    problems = list(report.problems)
    if found is not None:
        problems = found.end(problems)
        _print(report, args, good=good)
    if args.html:
        _write_html(report, args, good=good)
    return Result({**report.as_json(), "ok": good}, problems=problems, exit_code=EXIT_OK if good else EXIT_USAGE)


def _print(report: DataReport, args: argparse.Namespace, *, good: bool) -> None:
    from swiftshell.render.data import print_report

    print_report(report.as_json(), good=good, path=args.path, purpose=report.purpose)
    if report.remembered:
        print(t("scan.remembered"), file=sys.stderr)
    if report.bad_rows and args.drop_budget:
        text = t("scan.dropped" if good else "scan.over_budget", bad=report.bad_rows, budget=args.drop_budget)
        print(text, file=sys.stderr)


def _tokenizer(args: argparse.Namespace, purpose: str) -> dict[str, Any]:
    """Return which tokenizer counts, and the length compared with: the stage's own unless another was named."""
    if not args.model:
        return {}
    path = Path(args.model).expanduser()
    if not path.is_file():
        from swiftshell.api.preview import model_folder
        from swiftshell.run.workspace import open_workspace

        _, path = model_folder(open_workspace(args.workspace, create=False), args.model)
    return {"tokenizer": path, "max_length": args.max_length or _usual_length(purpose)}


def _usual_length(purpose: str) -> int:
    from swiftshell.stages import registry

    stage = {"heldout": "evaluate", "prompts": "infer"}.get(purpose, purpose)
    field = registry.get(stage).params.model_fields.get("max_length")
    return int(field.default) if field is not None and isinstance(field.default, int) else 0


def _against(args: argparse.Namespace) -> Path | None:
    if args.against is None:
        return None
    path = Path(args.against).expanduser()
    if not path.exists():
        raise fail("plan.path_missing", path=str(path), name="--against")
    return path


def _write_html(report: DataReport, args: argparse.Namespace, *, good: bool) -> None:
    from swiftshell.render.data_page import write_page

    path = Path(args.html).expanduser()
    try:
        write_page(report.as_json(), report.problems, path, good=good)
    except OSError as error:
        raise fail("scan.html_failed", path=str(path), reason=error.strerror or str(error)) from None
    if not args.json:
        print(t("scan.html", path=path))
