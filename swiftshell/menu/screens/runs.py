"""Every run of the workspace: its table, its plan with reasons, its log; go on with one that did not end well."""

from __future__ import annotations

import sys
from typing import Any

from swiftshell.api.runs import find_run, run_facts, runs_facts
from swiftshell.i18n import t
from swiftshell.menu import prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.screens import start
from swiftshell.menu.session import Session
from swiftshell.render import words
from swiftshell.render.console import has_unicode
from swiftshell.run.paths import RunPaths

_STYLES = {"failed": "warn", "lost": "warn", "timed_out": "warn", "running": "running", "starting": "running"}


def show(session: Session) -> None:
    """List the runs, newest first, until the person goes back."""
    default: str | None = None
    while True:
        found = runs_facts(session.workspace)
        if not found:
            prompts.pause(t("menu.no_runs"))
            return
        default = prompts.choose(t("menu.runs_title", count=len(found)), [_row(facts) for facts in found], default=default)
        if default is None:
            return
        _act(session, default)


def _row(facts: dict[str, Any]) -> Row[str]:
    state = words.state_of(facts)
    mark = words.mark(state, unicode=has_unicode(sys.stdout))
    seconds = [s["duration_s"] for s in facts["steps"] if s.get("duration_s") is not None and not s.get("restored_from")]
    took = words.duration(sum(seconds)) if seconds else ""
    steps = t("menu.steps", steps=", ".join(words.with_round(str(s["id"]), _round(s)) for s in facts["steps"]))
    detail = "  ".join(part for part in (words.state_word(state), took) if part)
    return Row(facts["run"], f"{mark} {facts['run']}", detail, note=steps, style=_STYLES.get(state, ""))


def _round(step: dict[str, Any]) -> Any:
    return ((step.get("summary") or {}).get("rounds") or {}).get("number")


def _act(session: Session, run_id: str) -> None:
    """Show and do things with one run until the person goes back."""
    run = find_run(session.workspace, run_id)
    while True:
        facts = run_facts(run)
        if facts["status"] != "over":
            from swiftshell.menu.screens.jobs import act

            act(session, run_id)
            return
        answer = prompts.choose(f"{run_id}   {words.state_word(words.state_of(facts))}", _actions(facts))
        if answer is None:
            return
        if answer == "resume":
            start.resume(session, run)
            return
        if answer == "log":
            start.show_log(run)
        elif answer == "table":
            _table(facts)
        elif answer == "report":
            report(run)
        else:
            _why(session, run_id)


def _actions(facts: dict[str, Any]) -> list[Row[str]]:
    rows = [Row("table", t("menu.table"), note=t("menu.table.note")), Row("why", t("menu.why"), note=t("menu.why.note")),
            Row("report", t("menu.report"), note=t("menu.report.note")), Row("log", t("menu.log"), note=t("menu.log.note"))]
    if facts["result"] != "succeeded":
        rows.insert(0, Row("resume", t("menu.resume"), note=t("menu.resume.note"), style="next"))
    return rows


def _table(facts: dict[str, Any]) -> None:
    from swiftshell.render.table import print_final_table

    print_final_table(facts)
    if facts["command"]:
        print(t("render.plan.command", command=facts["command"]))


def report(run: RunPaths) -> None:
    """Write the run's report into its folder and say where it is."""
    from swiftshell.api.report import report_facts
    from swiftshell.render.report import write_report

    path = run.root / "report.html"
    try:
        write_report(report_facts(run), path)
    except OSError as error:
        print(t("cli.not_written", path=path, why=error.strerror or error))
        return
    prompts.pause(t("report.written", path=path))


def _why(session: Session, run_id: str) -> None:
    from swiftshell.api.explain import explain
    from swiftshell.render.explain import print_explanation

    print_explanation(explain(run_id, str(session.workspace.root)))
