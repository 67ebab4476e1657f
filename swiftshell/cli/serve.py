"""`swiftshell serve`: a real vLLM endpoint on this machine, in an environment of its own."""

from __future__ import annotations

import argparse
from typing import Any

from swiftshell.cli.output import submit_and_follow
from swiftshell.cli.run import add_gpu_arguments, pair
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("model", nargs="?", metavar="MODEL", help=t("cli.run_model"))
    parser.add_argument("--model", dest="named", metavar="M", help=t("cli.model_again"))
    parser.add_argument("--port", type=int, metavar="PORT", help=t("cli.serve_port"))
    parser.add_argument("--listen", metavar="ADDRESS", help=t("cli.serve_listen"))
    parser.add_argument("--lineage", metavar="NAME", help=t("cli.run_lineage"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets", help=t("cli.run_set"))
    parser.add_argument("-y", "--yes", action="store_true", help=t("cli.run_yes"))
    parser.add_argument("--detach", action="store_true", help=t("cli.run_detach"))
    add_gpu_arguments(parser)


def run(args: argparse.Namespace) -> Result[Any]:
    """Start serving; Ctrl-C stops it, --detach leaves it running."""
    from swiftshell.api.gpus import refuse_to_wait
    from swiftshell.api.plans import plan_stage
    from swiftshell.plan.quick import Options
    from swiftshell.run.workspace import open_workspace

    given = {"port": args.port, "host": args.listen}
    params: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    sets = [f"{k}={v}" for k, v in (pair(s, "--set") for s in args.sets)]
    options = Options(model=args.named or args.model, lineage=args.lineage, params=params)
    plan = plan_stage(open_workspace(args.workspace, create=False), "serve", options, sets=sets, fresh=True,
                      gpus=args.gpus, priority=args.priority)
    plan.wait = args.wait
    if not plan.wait:
        refuse_to_wait(plan)
    return submit_and_follow(plan, args, detach=args.detach)
