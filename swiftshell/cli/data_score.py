"""`swiftshell data score`: a column of scores for each scorer of a chain, and one probability of them all."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftshell.cli.data_review import existing
from swiftshell.cli.output import can_prompt, confirm, is_terminal, submit_and_follow
from swiftshell.cli.run import pair
from swiftshell.errors import EXIT_INTERRUPTED, EXIT_OK, Problem, SwiftshellError, fail
from swiftshell.i18n import t
from swiftshell.result import Result

if TYPE_CHECKING:
    from swiftshell.api.scoring import Scoring

SUMMARY = "score.summary"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("path", metavar="FILE", help=t("score.opt_path"))
    parser.add_argument("-o", "--out", required=True, metavar="OUT", help=t("logs.opt_out"))
    parser.add_argument("-s", "--scorer", action="append", default=[], metavar="NAME", dest="scorers",
                        help=t("score.opt_scorer"))
    parser.add_argument("--column", action="append", default=[], metavar="OURS=THEIRS", dest="columns",
                        help=t("score.opt_column"))
    both = parser.add_argument_group(t("score.group_combine"))
    both.add_argument("--combine", choices=("thresholds", "labels"), help=t("score.opt_combine"))
    both.add_argument("--threshold", action="append", default=[], metavar="NAME=NUMBER", dest="thresholds",
                      help=t("score.opt_threshold"))
    models = parser.add_argument_group(t("score.group_models"))
    models.add_argument("--policy", "--model", metavar="M", help=t("score.opt_policy"))
    models.add_argument("--reference", metavar="M", help=t("score.opt_reference"))
    models.add_argument("--lineage", metavar="NAME", help=t("cli.run_lineage"))
    models.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="sets", help=t("cli.run_set"))
    judge = parser.add_argument_group(t("score.group_judge"), t("score.judge_is"))
    judge.add_argument("--judge-url", metavar="URL", help=t("score.opt_judge_url"))
    judge.add_argument("--judge-model", metavar="NAME", help=t("score.opt_judge_model"))
    judge.add_argument("--judge-key-file", metavar="FILE", help=t("score.opt_judge_key_file"))
    judge.add_argument("--judge-rubric", metavar="FILE", help=t("score.opt_judge_rubric"))
    judge.add_argument("--judge-concurrency", type=int, default=8, metavar="N", help=t("score.opt_judge_concurrency"))
    parser.add_argument("-y", "--yes", action="store_true", help=t("score.opt_yes"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Check everything, ask before anything leaves this machine, score, combine, write."""
    from swiftshell.api.scoring import ScoreOptions, Scoring

    plans: list[Any] = []
    options = ScoreOptions(args.scorers, dict(pair(c, "--column") for c in args.columns), _judge(args), args.combine,
                           args.thresholds)
    path = existing(args.path, "FILE")
    scoring = Scoring(path, Path(args.out).expanduser(), options, lambda names: plans.append(_plan(args, path, names)))
    if scoring.judge is not None and not scoring.judge.endpoint.is_here and not _may_send(args, scoring):
        return Result({"started": False}, exit_code=EXIT_INTERRUPTED)
    try:
        found = scoring.run(lambda names: _by_model(args, plans[0]), _progress(args))
    except KeyboardInterrupt:
        print(t("score.interrupted"), file=sys.stderr)
        return Result(None, exit_code=EXIT_INTERRUPTED)
    if not args.json:
        from swiftshell.render.scores import print_scores

        print_scores(found)
    notes = [Problem(code, {"path": str(path)}, severity="warning") for code in found["notes"]]
    return Result(found, problems=notes)


def _judge(args: argparse.Namespace) -> Any:
    from swiftshell.api.scoring import JudgeOptions
    from swiftshell.data.scorers.endpoint import MODEL_VARIABLE, URL_VARIABLE
    from swiftshell.data.scorers.judge import RUBRIC

    if args.judge_concurrency < 1:
        raise fail("cli.out_of_range", flag="--judge-concurrency", value=args.judge_concurrency, low="1", high="1000")
    rubric = RUBRIC
    if args.judge_rubric is not None:
        rubric = existing(args.judge_rubric, "--judge-rubric").read_text(encoding="utf-8").strip()
    return JudgeOptions(args.judge_url or os.environ.get(URL_VARIABLE, ""),
                        args.judge_model or os.environ.get(MODEL_VARIABLE, ""), args.judge_key_file, rubric,
                        args.judge_concurrency)


def _plan(args: argparse.Namespace, path: Path, names: list[str]) -> Any:
    """Plan the stage `score` on the same file; starts nothing."""
    from swiftshell.api.plans import plan_stage
    from swiftshell.plan.quick import Options
    from swiftshell.run.workspace import open_workspace

    columns = dict(pair(c, "--column") for c in args.columns)
    options = Options(policy=args.policy, reference=args.reference, data=str(path), lineage=args.lineage, columns=columns,
                      params={"scorers": names})
    return plan_stage(open_workspace(args.workspace, create=False), "score", options, sets=args.sets)


def _by_model(args: argparse.Namespace, plan: Any) -> Path:
    """Run the stage and return the folder of its output.

    Raises:
        SwiftshellError: it did not succeed.
    """
    result = submit_and_follow(plan, args)
    steps = (result.data or {}).get("steps") or []
    folder = (steps[0].get("outputs") or {}).get("scored") if steps else None
    if result.exit_code != EXIT_OK or folder is None:
        problems = [p for p in result.problems if p.severity == "error"]
        run_id = (result.data or {}).get("run", "")
        raise SwiftshellError(problems or [Problem("run.not_succeeded", {"run": run_id, "result": "-"})], result.exit_code or 3)
    return Path(folder)


def _may_send(args: argparse.Namespace, scoring: Scoring) -> bool:
    """Ask whether the answers may go to another machine; `--yes` is an answer.

    Raises:
        SwiftshellError: nobody is there to ask.
    """
    facts, judge = scoring.file.facts, scoring.judge
    assert judge is not None
    values: dict[str, Any] = {"rows": facts.answers, "characters": 2 * facts.characters, "host": judge.endpoint.host}
    if args.yes:
        return True
    if not can_prompt(args):
        raise fail("score.needs_yes", **values)
    return confirm(t("score.may_send", **values))


def _progress(args: argparse.Namespace) -> Any:
    """Return what tells how far scorers are: a line redrawn in place at a terminal, nothing elsewhere."""
    moving = not args.json and is_terminal(sys.stderr) and not args.plain

    def tell(name: str, done: int, total: int) -> None:
        if moving:
            print(f"\r{t('score.progress', scorer=name, done=done, total=total)}", end="\n" if done == total else "",
                  file=sys.stderr, flush=True)

    return tell
