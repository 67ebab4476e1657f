"""What verbs share on the terminal: when a question may be asked, showing plans, following a run."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from swiftshell.errors import EXIT_INTERRUPTED, EXIT_OK, EXIT_RUNNING, EXIT_STAGE, Problem
from swiftshell.i18n import t
from swiftshell.result import Result

if TYPE_CHECKING:
    from swiftshell.plan.model import Plan
    from swiftshell.run.paths import RunPaths


def can_prompt(args: argparse.Namespace) -> bool:
    """Tell whether a person is there to answer: both ends are terminals and nobody said no."""
    if args.no_input or args.json or os.environ.get("SWIFTSHELL_NO_INPUT") or os.environ.get("CI"):
        return False
    return is_terminal(sys.stdin) and is_terminal(sys.stdout)


def is_terminal(stream: Any) -> bool:
    """Tell whether a stream is a terminal; a closed one is not."""
    try:
        return bool(stream is not None and stream.isatty())
    except ValueError:
        return False


def confirm(question: str) -> bool:
    """Ask a yes-or-no question; only an explicit yes counts, and Ctrl-C or Ctrl-D mean no."""
    try:
        answer = input(f"{question} [y/N] ").strip().lower()
    except (EOFError, KeyboardInterrupt):
        print()
        return False
    return answer in ("y", "yes", "是", "好")


def render_plan(plan: Plan, *, brief: bool = False) -> None:
    """Print a plan, and its notes to stderr."""
    from swiftshell.render.plan import print_plan
    from swiftshell.render.problems import print_problems

    print_plan(plan.as_json(), brief=brief)
    if plan.notes:
        print_problems(plan.notes)


def submit_and_follow(plan: Plan, args: argparse.Namespace, *, detach: bool = False) -> Result[Any]:
    """Start a plan and follow it; a Ctrl-C that comes while the runner starts stops the run, it is never left behind."""
    import signal

    from swiftshell.api.runs import submit

    early: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: early.append(number))
    try:
        run = submit(plan)
    finally:
        signal.signal(signal.SIGINT, before)
    return follow_until_over(run, args, detach=detach and not early, interrupted=bool(early))


def follow_until_over(run: RunPaths, args: argparse.Namespace, *, detach: bool = False,
                      stop_on_interrupt: bool = True, interrupted: bool = False) -> Result[Any]:
    """Follow a run on the terminal until it is over and return what came out.

    With `stop_on_interrupt` (a foreground run) the first Ctrl-C asks for a checkpoint and a stop, the second kills;
    without it (attach, logs) Ctrl-C detaches and the job goes on.
    """
    from swiftshell.api.runs import run_facts

    if detach:
        if not args.json:
            print(t("cli.detached", run=run.id))
        return Result(run_facts(run), exit_code=EXIT_OK)
    interrupts = _follow(run, args, stop_on_interrupt=stop_on_interrupt, interrupted=interrupted)
    facts = run_facts(run)
    if interrupts and not stop_on_interrupt:
        print(t("cli.keeps_running", run=run.id), file=sys.stderr)
        return Result(facts, exit_code=EXIT_OK)
    if not args.json:
        from swiftshell.render.table import print_final_table

        print_final_table(facts)
    problems = [Problem.from_json(p) for p in facts["problems"]]
    return Result(facts, problems=problems, exit_code=EXIT_INTERRUPTED if interrupts else exit_code_of(facts))


def _follow(run: RunPaths, args: argparse.Namespace, *, stop_on_interrupt: bool, interrupted: bool = False) -> int:
    """Show progress until the run is over; return how many interrupts were seen."""
    from swiftshell.api.runs import request_stop
    from swiftshell.render.live import follow

    interrupts = 0
    said: set[str] = set()
    while True:
        try:
            if interrupted and not interrupts:
                raise KeyboardInterrupt
            follow(run, quiet=args.json, said=said)
            return interrupts
        except KeyboardInterrupt:
            interrupts += 1
            if not stop_on_interrupt:
                return interrupts
            print("\n" + t("cli.stopping_checkpoint" if interrupts == 1 else "cli.stopping_kill"), file=sys.stderr)
            request_stop(run, "checkpoint" if interrupts == 1 else "kill")


def exit_code_of(facts: dict[str, Any]) -> int:
    """Return the exit code a run's state stands for."""
    if facts["status"] != "over":
        return EXIT_RUNNING
    if facts["result"] == "succeeded":
        return EXIT_OK
    codes = [s.get("exit_code") for s in facts["steps"] if s.get("result") not in (None, "succeeded", "skipped")]
    first = next((c for c in codes if c), EXIT_STAGE)
    return first if first in (2, 3, 4, 5, 124, 130, 143) else EXIT_STAGE
