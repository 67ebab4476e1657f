"""`swiftshell data make-kto`: KTO rows from a feedback log by declared rules, or from pairs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from swiftshell.cli.data_review import existing
from swiftshell.cli.run import pair
from swiftshell.i18n import t
from swiftshell.result import Result

SUMMARY = "logs.make_kto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--from", dest="path", required=True, metavar="FILE", help=t("logs.opt_from"))
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help=t("logs.opt_out"))
    rules = parser.add_argument_group(t("logs.group_rules"), t("logs.language"))
    rules.add_argument("--rule", action="append", default=[], metavar="TEST[:WEIGHT]", dest="rules", help=t("logs.opt_rule"))
    rules.add_argument("--not", action="append", default=[], metavar="TEST[:WEIGHT]", dest="against", help=t("logs.opt_not"))
    rules.add_argument("--rules", metavar="FILE", dest="rules_file", help=t("logs.opt_rules"))
    rules.add_argument("--explicit", action="append", default=[], metavar="COLUMN", help=t("logs.opt_explicit"))
    reading = parser.add_argument_group(t("logs.group_log"))
    reading.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", dest="columns",
                         help=t("logs.opt_column"))
    reading.add_argument("--join", metavar="COLUMN", help=t("logs.opt_join"))
    reading.add_argument("--since", metavar="TIME", help=t("logs.opt_since"))
    reading.add_argument("--until", metavar="TIME", help=t("logs.opt_until"))
    reading.add_argument("--user-share", type=float, default=0.05, metavar="SHARE", help=t("logs.opt_user_share"))
    reading.add_argument("--dwell-min-s", type=float, default=2.0, metavar="S", help=t("logs.opt_dwell_min"))
    reading.add_argument("--dwell-max-s", type=float, default=600.0, metavar="S", help=t("logs.opt_dwell_max"))
    reading.add_argument("--drop-budget", type=int, default=0, metavar="N", help=t("logs.opt_drop_budget"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Make the rows and say what each rule contributed."""
    from swiftshell.api.feedback import make_kto, signals
    from swiftshell.data.logs import LogOptions
    from swiftshell.errors import Problem, fail

    if not 0.0 < args.user_share <= 1.0:
        raise fail("cli.out_of_range", flag="--user-share", value=args.user_share, low="0", high="1")
    if not 0.0 <= args.dwell_min_s < args.dwell_max_s:
        raise fail("cli.out_of_range", flag="--dwell-min-s", value=args.dwell_min_s, low="0", high=f"{args.dwell_max_s:g}")
    options = LogOptions(signals(args.rules, args.against, args.explicit), dict(pair(c, "--column") for c in args.columns),
                         args.since, args.until, args.user_share, args.dwell_min_s, args.dwell_max_s, args.drop_budget,
                         args.join or None)
    rules = None if args.rules_file is None else existing(args.rules_file, "--rules")
    found = make_kto(existing(args.path, "--from"), Path(args.out).expanduser(), options, rules=rules, explicit=args.explicit)
    if not args.json:
        from swiftshell.render.feedback import print_made

        print_made(found)
    problems = [p for p in map(Problem.from_json, found.get("problems", ())) if p.severity != "error"]
    return Result(found, problems=problems)
