"""`swiftshell data audit`: run the stage `audit` on a file and say what it found."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from swiftshell.cli.output import can_prompt, confirm, render_plan, submit_and_follow
from swiftshell.cli.run import pair
from swiftshell.errors import EXIT_INTERRUPTED, fail
from swiftshell.i18n import t
from swiftshell.result import Result

SUMMARY = "audit.summary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="FILE", help=t("audit.opt_path"))
    parser.add_argument("--policy", "--model", metavar="M", help=t("audit.opt_policy"))
    parser.add_argument("-o", "--out", metavar="OUT", help=t("audit.opt_out"))
    parser.add_argument("--lineage", metavar="NAME", help=t("cli.run_lineage"))
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="OURS=THEIRS",
        dest="columns",
        help=t("cli.run_column"),
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="sets", help=t("cli.run_set")
    )
    parser.add_argument("--seed", type=int, default=42, help=t("cli.run_seed"))
    parser.add_argument("-y", "--yes", action="store_true", help=t("cli.run_yes"))
    parser.add_argument("-n", "--dry-run", action="store_true", help=t("cli.run_dry_run"))
    parser.add_argument("--detach", action="store_true", help=t("cli.run_detach"))
    parser.add_argument("--fresh", action="store_true", help=t("cli.run_fresh"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Plan, ask unless told not to, follow, and print what was found."""
    from swiftshell.api.plans import plan_target
    from swiftshell.plan.quick import Options
    from swiftshell.run.workspace import open_workspace

    out = None if args.out is None else _free(Path(args.out).expanduser())
    options = Options(
        policy=args.policy,
        data=args.path,
        lineage=args.lineage,
        seed=args.seed,
        columns=dict(pair(c, "--column") for c in args.columns),
    )
    plan = plan_target(
        open_workspace(args.workspace, create=False), "audit", options, sets=args.sets, fresh=args.fresh
    )
    if args.dry_run:
        if not args.json:
            render_plan(plan)
        return Result(plan.as_json(), notes=plan.notes if args.json else [])
    if not args.yes:
        if not can_prompt(args):
            raise fail("cli.needs_yes", target="audit")
        render_plan(plan)
        if not confirm(t("cli.start_now")):
            print(t("cli.not_started"), file=sys.stderr)
            return Result({"started": False}, exit_code=EXIT_INTERRUPTED)
    result = submit_and_follow(plan, args, detach=args.detach)
    _finish(result, args.path, out, as_json=args.json)
    return result


def _free(out: Path) -> Path:
    if out.exists():
        raise fail("review.out_exists", path=str(out))
    return out


def _finish(result: Result[Any], data: str, out: Path | None, *, as_json: bool) -> None:
    """Print the findings of a step that succeeded, and copy the cleaned rows where they are wanted."""
    from swiftshell.run.files import read_json_or_none

    steps = (result.data or {}).get("steps") or []
    outputs = steps[0].get("outputs") or {} if steps else {}
    if result.exit_code or "report" not in outputs:
        return
    found = read_json_or_none(Path(outputs["report"]) / "audit.json")
    cleaned = Path(outputs["cleaned"]) / "cleaned.jsonl"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cleaned, out)
    if found is not None and not as_json:
        from swiftshell.render.audit import print_audit

        print_audit(found, data=data, cleaned=out or cleaned)
