"""The first screen: the board, what is possible next, and everything else the menu offers."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from swiftshell.api.board import board_facts
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.i18n import has, t
from swiftshell.menu import prompts
from swiftshell.menu.cells import cells, pad
from swiftshell.menu.rows import Heading, Row
from swiftshell.menu.session import Session
from swiftshell.render import words
from swiftshell.render.console import has_unicode

Facts = Mapping[str, Any]
STARTER_RECIPE = "starter/all-stages"
_PATH_CELLS = 40


def home(session: Session) -> None:
    """Show the board until the person quits."""
    default: str | None = None
    while True:
        facts = board_facts(session.workspace, session.lineage)
        again = (lambda: home_rows(board_facts(session.workspace, session.lineage), session)) if facts["live"] else None
        answer = prompts.choose(_title(facts), home_rows(facts, session), default=default, back=False, again=again)
        if answer == "quit":
            return
        if answer is None:
            default = default if prompts.interrupted() else "quit"
            continue
        default = None if _is_stage(answer) else answer
        _open(session, answer, facts)


def _open(session: Session, answer: str, facts: Facts) -> None:
    """Open what was chosen; whatever goes wrong in there is said and leads back here."""
    try:
        if _is_stage(answer):
            _screen("stage", session, answer.split(":")[1])
        elif answer.startswith("watch:"):
            _screen("start.attach", session, answer.split(":")[1])
        elif answer == "try":
            _screen("recipes.run", session, STARTER_RECIPE)
        else:
            _screen(answer, session, *([facts] if answer == "lineage" else []))
    except SwiftshellError as error:
        from swiftshell.render.problems import print_problems

        print_problems(error.problems)
        prompts.pause(t("menu.went_wrong"))
    except KeyboardInterrupt:  # while something was read or planned
        return


def _screen(name: str, session: Session, *rest: Any) -> None:
    """Call `swiftshell.menu.screens.<module>.<function>`; the module is only imported now."""
    module, _, function = name.partition(".")
    found: Callable[..., None] = getattr(import_module(f"swiftshell.menu.screens.{module}"), function or "show")
    found(session, *rest)


def _is_stage(answer: str) -> bool:
    return answer.startswith(("stage:", "next:"))


def _title(facts: Facts) -> str:
    title = t("menu.title", path=_from_home(facts["workspace"]))
    return title + (f"   {t('menu.lineage', lineage=facts['lineage'])}" if facts["lineage"] else "")


def _from_home(path: str) -> str:
    """Return a path with the person's own folder as ~, and its end where it is long."""
    home = os.path.expanduser("~")
    short = "~" + path[len(home):] if path == home or path.startswith(home + os.sep) else path
    return short if cells(short) <= _PATH_CELLS else "…" + short[-_PATH_CELLS + 1:]


def home_rows(facts: Facts, session: Session) -> list[Row[str] | Heading]:
    """Return the rows: the suggestion, the board's stages, and the rest."""
    rows: list[Row[str] | Heading] = []
    is_new = not any(stage["newest"] or stage["running"] for stage in facts["stages"])
    if is_new:
        rows.append(Row("try", t("menu.try_starter"), note=t("menu.try_starter.note"), style="next"))
    elif (step := next((s["running"] for s in facts["stages"] if s["running"]), None)) is not None:
        text = t("menu.watch", stage=step["stage"])
        rows.append(Row(f"watch:{step['run']}", text, describe_step(step), note=t("menu.attach.note"), style="next"))
    elif facts["next"]:
        name = facts["next"]
        rows.append(Row(f"next:{name}", t("menu.next", stage=name), _about(name), note=_about(name), style="next"))
    elif any(s["newest"] for s in facts["stages"]):
        rows.append(Row("chat", t("menu.next_chat"), note=t("menu.chat.note"), style="next"))
    rows += [Heading(), *_stage_rows(facts)]
    rows += [Heading(), *_other_rows(facts, session, is_new=is_new)]
    return rows


def _stage_rows(facts: Facts) -> list[Row[str]]:
    """Return the board, one row a stage: what it made last, when, one number; or that it runs, is possible, or why not."""
    shown = [_cells(stage, facts["next"]) for stage in facts["stages"]]
    widths = [max((cells(row[i]) for row in shown if row[1]), default=0) for i in range(2)]
    return [_stage_row(stage, facts["next"], row, widths) for stage, row in zip(facts["stages"], shown, strict=True)]


def _cells(stage: Facts, suggested: str | None) -> tuple[str, str, str]:
    """Return name, time and number of a stage's newest output, or one remark in place of the name."""
    if stage["running"]:
        return describe_step(stage["running"]), "", ""
    newest = stage["newest"]
    if newest:
        return words.with_round(newest["name"], newest.get("round")), moment(newest["ended"]), _number(stage["number"])
    return t("render.board.next" if stage["stage"] == suggested else "render.board.possible"), "", ""


def _stage_row(stage: Facts, suggested: str | None, row: tuple[str, str, str], widths: list[int]) -> Row[str]:
    state = "running" if stage["running"] else "succeeded" if stage["newest"] else "waiting"
    unicode = has_unicode(sys.stdout)
    is_next = stage["stage"] == suggested
    mark = ("→" if unicode else ">") if is_next and state != "running" else words.mark(state, unicode=unicode)
    detail = "  ".join((pad(row[0], widths[0]), pad(row[1], widths[1]), row[2])).rstrip() if row[1] else row[0]
    style = "running" if stage["running"] else "next" if is_next else "" if stage["newest"] else "dim"
    return Row(f"stage:{stage['stage']}", f"{pad(mark, 2)} {stage['stage']}", detail, note=_about(stage["stage"]), style=style,
               disabled=why_not(stage["problem"]) if not stage["possible"] else "")


def why_not(problem: Mapping[str, Any]) -> str:
    """Return a short reason why a stage is not possible yet: what it needs and what to run first."""
    short = f"menu.needs.{problem['code']}"
    if has(short):
        return t(short, **problem["values"])
    from swiftshell.i18n import what

    return what(Problem.from_json(problem))


def _number(number: Facts | None) -> str:
    """Return a stage's telling number with its name."""
    if number is None:
        return ""
    name, value = number["metric"], number["value"]
    if name == "desirable_share":
        return f"{t('render.short.desirable_share')} {words.percent(value)}"
    if name == "size_mib":
        return words.size(value * 2**20)
    return f"{t('menu.number.' + name)} {words.number(value)}"


def describe_step(step: Facts) -> str:
    """Return what a running step does and how far it is."""
    progress = step.get("progress") or {}
    share = words.percent(progress["done"] / progress["total"]) if progress.get("total") else ""
    return " ".join(part for part in (words.state_word(step["status"]), words.phase_word(step["phase"] or ""), share) if part)


def moment(stamp: str) -> str:
    """Return when something ended: the time today, else the day."""
    from datetime import datetime

    try:
        then = datetime.fromisoformat(stamp).astimezone()
    except ValueError:
        return ""
    today = then.date() == datetime.now().astimezone().date()
    return then.strftime("%H:%M" if today else "%m-%d")


def _about(stage: str) -> str:
    return t(f"stage.{stage}")


def _other_rows(facts: Facts, session: Session, *, is_new: bool) -> list[Row[str]]:
    rows = []
    if facts["live"]:
        running = len({step["run"] for step in facts["live"]})
        rows.append(Row("jobs", t("menu.jobs", count=running), note=t("menu.jobs.note"), style="running"))
    rows.append(Row("recipes", t("menu.recipes"), note=t("menu.recipes.note")))
    if not is_new:
        rows.append(Row("chat", t("menu.chat"), note=t("menu.chat.note")))
        rows.append(_serve_row())
        rows.append(Row("runs", t("menu.runs"), note=t("menu.runs.note")))
    if len(facts["lineages"]) > 1:
        rows.append(Row("lineage", t("menu.lineage", lineage=facts["lineage"]), note=t("menu.lineage.note")))
    rows.append(Row("data", t("menu.data"), note=t("menu.data.note")))
    if has_gpus():
        rows.append(Row("gpus", t("menu.gpus"), note=t("menu.gpus.note")))
    rows.append(Row("doctor", t("menu.doctor"), note=t("menu.doctor.note")))
    rows.append(Row("language", t("menu.language"), note=t("menu.language.note")))
    rows.append(Row("quit", t("menu.quit"), note=t("menu.quit.note") if facts["live"] else ""))
    return rows


@cache
def has_gpus() -> bool:
    """Tell whether the machine has GPUs, asked once: the row stays where it is while the menu is open."""
    from swiftshell.machine.gpu import gpus

    return gpus() != []


def _serve_row() -> Row[str]:
    from swiftshell.machine.serve_env import serve_python

    needs = "" if serve_python() else t("menu.needs.serve")
    return Row("stage:serve", t("menu.serve"), note=_about("serve"), disabled=needs)
