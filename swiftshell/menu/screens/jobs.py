"""What is running: look at it, read its log, stop it."""

from __future__ import annotations

from swiftshell.api.board import live_steps
from swiftshell.api.runs import find_run, request_stop
from swiftshell.i18n import t
from swiftshell.menu import prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.screens import start
from swiftshell.menu.screens.home import describe_step
from swiftshell.menu.session import Session


def show(session: Session) -> None:
    """List the runs that are not over until the person goes back."""
    while True:
        steps = {step["run"]: step for step in live_steps(session.workspace)}
        if not steps:
            prompts.pause(t("cli.no_jobs", workspace=session.workspace.root))
            return
        rows = [Row(run, run, f"{step['step']}  {describe_step(step)}", style="running") for run, step in steps.items()]
        run = prompts.choose(t("menu.jobs_title"), rows)
        if run is None:
            return
        act(session, run)


def act(session: Session, run_id: str) -> None:
    """Do one thing with a run that is not over."""
    rows = [Row("attach", t("menu.attach"), note=t("menu.attach.note"), style="next"),
            Row("log", t("menu.log_follow"), note=t("menu.attach.note")),
            Row("stop", t("menu.stop"), note=t("menu.stop.note")),
            Row("kill", t("menu.kill"), note=t("menu.kill.note"))]
    run = find_run(session.workspace, run_id)
    answer = prompts.choose(run_id, rows)
    if answer == "attach":
        start.watch(session, run)
    elif answer == "log":
        start.show_log(run, following=True)
    elif answer == "stop":
        request_stop(run, "checkpoint")
        print(t("cli.stop_done", run=run_id))
        start.watch(session, run)
    elif answer == "kill" and prompts.confirm(t("menu.kill_sure", run=run_id), t("menu.kill"), note=t("menu.kill.note")):
        request_stop(run, "kill")
        start.watch(session, run)
