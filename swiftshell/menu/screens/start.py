"""From a plan to its end: show it, start it, follow it, show what came out. Leaving the live view stops nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from swiftshell.errors import Problem, SwiftshellError
from swiftshell.i18n import t
from swiftshell.menu import prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.session import Session
from swiftshell.plan.model import Plan
from swiftshell.run.paths import RunPaths
from swiftshell.run.workspace import Workspace, open_workspace

_LOG_LINES = 200
MakePlan = Callable[[Workspace, bool], Plan]  # workspace, fresh


def plan_and_start(session: Session, make: MakePlan) -> bool:
    """Plan, show, and start if the person says so; tell whether it was started."""
    fresh = False
    while True:
        plan = _plan(session, make, fresh)
        if plan is None:
            return False
        all_done = all(step.restored_from for step in plan.steps)
        rows = [] if all_done else [Row("start", t("menu.start"), note=t("menu.start.note"), style="next")]
        if any(step.restored_from for step in plan.steps) and not fresh:
            rows.append(Row("fresh", t("menu.start_fresh"), note=t("menu.fresh.note")))
        answer = prompts.choose(t("menu.start_question"), rows, back=t("menu.change"))
        if answer == "fresh":
            fresh = True
        elif answer == "start":
            from swiftshell.api.runs import submit

            watch(session, submit(plan))
            return True
        else:
            return False


def _plan(session: Session, make: MakePlan, fresh: bool) -> Plan | None:
    """Make and print the plan; or print everything that is wrong with it, and wait until that was read."""
    from swiftshell.render.problems import print_problems

    try:
        session.workspace = open_workspace(session.flag)
        plan = make(session.workspace, fresh)
    except SwiftshellError as error:
        print()
        print_problems(error.problems)
        prompts.pause(t("menu.cannot_start"), t("menu.change"))
        return None
    from swiftshell.render.plan import print_plan

    print()
    if plan.notes:  # first, so that the plan stands right above the question
        print_problems(plan.notes)
        print()
    print_plan(plan.as_json())
    return plan


def watch(session: Session, run: RunPaths) -> None:
    """Follow a run; Esc or Ctrl-C leaves it running. At its end show the final table and what can be done then."""
    from swiftshell.render.keys import quiet_keys
    from swiftshell.render.live import follow

    print(t("menu.watching", run=run.id))
    try:
        with quiet_keys(escape_interrupts=True):
            follow(run)
    except KeyboardInterrupt:
        prompts.forget_interrupts()
        print("\n" + t("cli.keeps_running", run=run.id))
        return
    after(session, run)


def attach(session: Session, run_id: str) -> None:
    """Follow a run that is on its way."""
    from swiftshell.api.runs import find_run

    watch(session, find_run(session.workspace, run_id))


def after(session: Session, run: RunPaths) -> None:
    """Show how a run ended, its command line, and the ways on."""
    from swiftshell.api.runs import run_facts
    from swiftshell.render.problems import print_problems
    from swiftshell.render.table import print_final_table

    facts = run_facts(run)
    print_final_table(facts)
    problems = [Problem.from_json(p) for step in facts["steps"] for p in step.get("problems") or []]
    if problems:
        print_problems(problems)
    if facts["command"]:
        print(t("render.plan.command", command=facts["command"]))
    while True:
        answer = prompts.choose(_ended(facts), _ways_on(facts), back=False)
        if answer not in ("resume", "log"):
            return
        if answer == "resume":
            resume(session, run)
            return
        show_log(run)


def _ended(facts: dict[str, Any]) -> str:
    return t("menu.run_good" if facts["result"] == "succeeded" else "menu.run_not_good", run=facts["run"])


def _ways_on(facts: dict[str, Any]) -> list[Row[str]]:
    rows = [Row("board", t("menu.to_board"), style="next")]
    if facts["result"] not in ("succeeded", None):
        rows.append(Row("resume", t("menu.resume"), note=t("menu.resume.note")))
        rows.append(Row("log", t("menu.log"), note=t("menu.log.note")))
    return rows


def resume(session: Session, run: RunPaths) -> None:
    """Go on with a run from its newest checkpoint that is whole, and follow it."""
    from swiftshell.api.runs import resume as go_on

    report = go_on(run)
    if report.how == "nothing":
        prompts.pause(t("cli.resume_nothing", run=run.id))
        return
    where = report.checkpoint.name if report.checkpoint else "-"
    print(t("cli.resume_from", run=run.id, step=report.step, how=t(f"cli.resume_{report.how}", checkpoint=where)))
    for name, wrong in report.passed_over.items():
        print(t("cli.resume_passed_over", checkpoint=name, wrong=", ".join(wrong)))
    watch(session, run)


def show_log(run: RunPaths, *, following: bool = False) -> None:
    """Print the end of the log of the step that ran last."""
    from swiftshell.api.runs import log_of
    from swiftshell.render.keys import quiet_keys
    from swiftshell.render.log import follow_log, last_lines

    attempt = log_of(run)
    if attempt is None or not attempt.log.is_file():
        prompts.pause(t("cli.no_log", run=run.id))
        return
    print("\n".join(last_lines(attempt.log, _LOG_LINES)))
    if following:
        print(t("menu.following_log"))
        try:
            with quiet_keys(escape_interrupts=True):
                follow_log(attempt.log, run)
        except KeyboardInterrupt:
            prompts.forget_interrupts()
            print("\n" + t("cli.keeps_running", run=run.id))
