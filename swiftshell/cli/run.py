"""`swiftshell run`: one stage with inputs from the board, or a recipe."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from swiftshell.cli.output import can_prompt, confirm, render_plan, submit_and_follow
from swiftshell.errors import EXIT_INTERRUPTED, fail
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("target", metavar="STAGE|RECIPE", help=t("cli.run_target"))
    start = parser.add_argument_group(t("cli.group_start"))
    start.add_argument("-y", "--yes", action="store_true", help=t("cli.run_yes"))
    start.add_argument("-n", "--dry-run", action="store_true", help=t("cli.run_dry_run"))
    start.add_argument("--detach", action="store_true", help=t("cli.run_detach"))
    add_gpu_arguments(parser)
    start.add_argument("--fresh", action="store_true", help=t("cli.run_fresh"))
    start.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets", help=t("cli.run_set"))
    choose = parser.add_argument_group(t("cli.group_inputs"))
    choose.add_argument("--model", metavar="M", help=t("cli.run_model"))
    choose.add_argument("--policy", metavar="M", help=t("cli.run_policy"))
    choose.add_argument("--reference", metavar="M", help=t("cli.run_reference"))
    choose.add_argument("--continue", action="store_true", dest="continue_", help=t("cli.run_continue"))
    choose.add_argument("--replay", nargs="?", const="rounds", metavar="FILE", help=t("cli.run_replay"))
    choose.add_argument("--lineage", metavar="NAME", help=t("cli.run_lineage"))
    choose.add_argument("--dataset", metavar="D", help=t("cli.run_dataset"))
    choose.add_argument("--data", "--in", metavar="FILE", help=t("cli.run_data"))
    choose.add_argument("--eval-data", metavar="FILE", help=t("cli.run_eval_data"))
    choose.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", dest="columns",
                        help=t("cli.run_column"))
    choose.add_argument("--out", metavar="DIR", help=t("cli.run_out"))
    choose.add_argument("--seed", type=int, help=t("cli.run_seed"))


def add_gpu_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare how GPUs are asked for: how many, in which place, and whether to wait for them."""
    group = parser.add_argument_group(t("cli.group_gpus"))
    group.add_argument("--gpus", type=int, metavar="N", help=t("cli.run_gpus"))
    group.add_argument("--priority", choices=("interactive", "normal", "low"), default="normal", help=t("cli.run_priority"))
    add_wait_arguments(group)


def add_wait_arguments(group: argparse._ArgumentGroup) -> None:
    """Declare whether to wait for GPUs that are not free."""
    group.add_argument("--wait", action="store_true", default=True, help=t("cli.run_wait"))
    group.add_argument("--no-wait", action="store_false", dest="wait", help=t("cli.run_no_wait"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Plan, show, ask unless told not to, start, follow."""
    from swiftshell.api.gpus import refuse_to_wait
    from swiftshell.api.plans import plan_target
    from swiftshell.run.workspace import open_workspace

    workspace = open_workspace(args.workspace, create=False)
    plan = plan_target(workspace, args.target, _options(args), sets=args.sets, fresh=args.fresh, gpus=args.gpus,
                       priority=args.priority)
    if args.dry_run:
        if not args.json:
            render_plan(plan)
        return Result(plan.as_json(), notes=[] if not args.json else plan.notes)
    plan.wait = args.wait
    if not plan.wait:
        refuse_to_wait(plan)
    if not args.yes:
        if not can_prompt(args):
            raise fail("cli.needs_yes", target=args.target)
        render_plan(plan)
        if not confirm(t("cli.start_now")):
            print(t("cli.not_started"), file=sys.stderr)
            return Result({"started": False}, exit_code=EXIT_INTERRUPTED)
    elif not args.json:
        render_plan(plan, brief=True)
    return submit_and_follow(plan, args, detach=args.detach)


def _options(args: argparse.Namespace) -> Any:
    from swiftshell.plan.quick import Options

    for name in ("model", "policy", "reference", "lineage", "dataset", "data", "eval_data", "replay", "out"):
        if getattr(args, name) == "":  # an unset variable of a script: choosing from the board instead would surprise
            raise fail("cli.value_empty", flag="--" + name.replace("_", "-"))
    return Options(model=args.model, policy=args.policy, reference=args.reference, dataset=args.dataset, data=args.data,
                   eval_data=args.eval_data, lineage=args.lineage, continue_=args.continue_, replay=args.replay,
                   output_dir=args.out, seed=42 if args.seed is None else args.seed,
                   columns=dict(pair(c, "--column") for c in args.columns))


def pair(text: str, flag: str) -> tuple[str, str]:
    """Split `KEY=VALUE`.

    Raises:
        SwiftshellError: there is no `=`, or nothing before it.
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise fail("cli.not_a_pair", flag=flag, text=text)
    return key.strip(), value.strip()
