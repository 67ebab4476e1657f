"""A stage's form: start as it is, or change inputs and settings first. What was changed stays until it is started."""

from __future__ import annotations

from typing import Any

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import t, what
from swiftshell.menu import forms, prompts
from swiftshell.menu.forms import Form
from swiftshell.menu.rows import Heading, Row
from swiftshell.menu.session import Session
from swiftshell.plan.board import Board
from swiftshell.recipe.describe import describe_param

START, MORE, ABOUT, SUITS = "start", "more", "about", "suits"
_LEARNS = ("sft", "kto", "dpo")


def show(session: Session, stage: str) -> None:
    """Ask until the stage was started or the person goes back."""
    form = session.forms.setdefault(stage, Form(stage))
    default = START
    while True:
        board = session.board()
        form.options.lineage = session.lineage_flag(board)
        answer = prompts.choose(f"{stage}   {t('stage.' + stage)}", rows(form, board), default=default)
        if answer is None:
            return
        default = answer
        if answer == START:
            if _start(session, form):
                del session.forms[stage]
                return
        elif answer == MORE:
            _all_settings(form, board)
        elif answer == ABOUT:
            about(stage)
        elif answer == SUITS:
            suits(form, board)
        elif answer == "columns":
            _columns(form)
        elif answer.startswith("input:"):
            from swiftshell.menu.screens.inputs import choose_input

            choose_input(session, form, board, answer.split(":")[1])
        else:
            edit(form, board, answer)


def rows(form: Form, board: Board) -> list[Row[str] | Heading]:
    """Return the form: start, inputs with their reasons, the few settings, the way to the rest."""
    filled = forms.chosen(form, board)
    missing = next((c.problem for c in filled.values() if c.problem), None)
    found: list[Row[str] | Heading] = [Row(START, t("menu.plan_and_start"), note=t("menu.plan_and_start.note"), style="next",
                                           disabled=_short(missing) if missing else "")]
    found += [Heading(), *(_input_row(form, option, filled[option]) for option in filled)]
    if form.options.data and form.options.data != "starter":
        given = ", ".join(f"{ours}={theirs}" for ours, theirs in form.options.columns.items())
        found.append(Row("columns", "columns", given or t("menu.columns_auto"), note=t("menu.columns.note")))
    values = forms.values(form, board)
    short = [name for name in forms.SHORT.get(form.stage, ()) if name in values]
    found += [Heading(), *(_setting_row(form, name, values[name]) for name in short)]
    more = len(values) - len(short)
    if more > 0:
        found.append(Row(MORE, t("menu.all_settings", count=len(values))))
    found += [Heading(), Row(ABOUT, t("menu.about_stage", stage=form.stage))]
    if form.stage in _LEARNS:
        found.append(Row(SUITS, t("choose.menu"), note=t("choose.menu.note")))
    return found


def _short(problem: Any) -> str:
    from swiftshell.menu.screens.home import why_not

    return why_not(problem.as_json())


def _input_row(form: Form, option: str, filled: forms.Chosen) -> Row[str]:
    style = "warn" if filled.problem else "here" if form.named(option) else ""
    text = filled.name or (t("menu.choose_one") if filled.problem else t("menu.none"))
    why = what(filled.problem) if filled.problem else filled.why
    return Row(f"input:{option}", t(f"menu.input.{option}"), text, note=why or t(f"menu.input.{option}.note"), style=style)


def _setting_row(form: Form, name: str, value: Any) -> Row[str]:
    changed = name in form.sets
    text = forms.as_text(value)
    return Row(name, name, f"{text}  {t('menu.changed')}" if changed else text, note=describe_param(form.stage, name),
               style="here" if changed else "")


def _start(session: Session, form: Form) -> bool:
    """Show the plan, and start it if the person says so."""
    from swiftshell.api.plans import plan_stage
    from swiftshell.menu.screens.start import plan_and_start

    return plan_and_start(session, lambda workspace, fresh: plan_stage(
        workspace, form.stage, form.options, sets=form.settings(), fresh=fresh or form.fresh,
        gpus=form.gpus, priority=form.priority))


def _all_settings(form: Form, board: Board) -> None:
    """List every setting; typing finds one by name or by what it does."""
    default: str | None = None
    while True:
        values = forms.values(form, board)
        found: list[Row[str] | Heading] = [_setting_row(form, name, value) for name, value in values.items()]
        found += [Heading(), *_run_rows(form)]
        answer = prompts.choose(t("menu.settings_of", stage=form.stage), found, default=default)
        if answer is None:
            return
        default = answer
        if answer == "run:fresh":
            form.fresh = not form.fresh
        elif answer in ("run:gpus", "run:priority"):
            _gpu_option(form, answer.split(":")[1])
        elif answer.startswith("run:"):
            _run_option(form, answer.split(":")[1])
        else:
            edit(form, board, answer)


def _run_rows(form: Form) -> list[Row[str]]:
    fresh = t("render.yes") if form.fresh else t("render.no")
    return [Row("run:seed", "seed", str(form.options.seed), note=t("menu.seed.note")),
            Row("run:output_dir", "output_dir", form.options.output_dir or t("menu.none"), note=t("menu.output_dir.note")),
            Row("run:fresh", "fresh", fresh, note=t("menu.fresh.note")), *_gpu_rows(form)]


def _gpu_rows(form: Form) -> list[Row[str]]:
    """Return how many GPUs and which place in the queue; nothing on a machine where both mean nothing."""
    from swiftshell.menu.screens.home import has_gpus

    if not has_gpus():
        return []
    count = t("menu.gpus_auto") if form.gpus is None else str(form.gpus)
    return [Row("run:gpus", "gpus", count, note=t("cli.run_gpus"), style="" if form.gpus is None else "here"),
            Row("run:priority", "priority", form.priority, note=t("cli.run_priority"))]


def _run_option(form: Form, name: str) -> None:
    current = getattr(form.options, name)
    answer = prompts.ask_text(name, default="" if current is None else str(current), note=t(f"menu.{name}.note"),
                              check=_not_a_number if name == "seed" else None, paths=name == "output_dir")
    if answer is not None:
        setattr(form.options, name, int(answer) if name == "seed" else answer or None)


def _gpu_option(form: Form, name: str) -> None:
    if name == "priority":
        names = ("interactive", "normal", "low")
        answer = prompts.choose(name, [Row(n, n, style="here" if n == form.priority else "") for n in names],
                                default=form.priority)
        form.priority = answer or form.priority
        return
    note = f"{t('cli.run_gpus')}  {t('menu.empty_is_default')}"
    answer = prompts.ask_text(name, default="" if form.gpus is None else str(form.gpus), note=note,
                              check=lambda text: _not_a_number(text) if text else "")
    if answer is not None:
        form.gpus = int(answer) if answer else None


def _not_a_number(text: str) -> str:
    return "" if text.isdecimal() else t("menu.whole_number", found=text)


def edit(form: Form, board: Board, name: str) -> None:
    """Change one setting: from a list where its values can be counted, else by typing."""
    entry = forms.schema(form.stage)[name]
    value = forms.as_text(forms.values(form, board)[name])
    meaning = describe_param(form.stage, name)
    countable = forms.choices(entry)
    if countable:
        above = (meaning,) if meaning else ()
        found = [Row(c, c, style="here" if c == value else "") for c in countable]
        found += [Row("", t("menu.as_before"), style="dim")] if name in form.sets else []
        answer = prompts.choose(name, found, default=value, above=above)
    else:
        note = f"{meaning}  {t('menu.empty_is_default')}".strip()

        def check(text: str) -> str:
            return forms.wrong(form.stage, name, text) if text else ""

        answer = prompts.ask_text(name, default=value, note=note, check=check)
    if answer is None or answer == value:
        return
    if answer == "":
        form.sets.pop(name, None)
    else:
        form.sets[name] = answer


def _columns(form: Form) -> None:
    given = " ".join(f"{ours}={theirs}" for ours, theirs in form.options.columns.items())
    answer = prompts.ask_text("columns", default=given, note=t("menu.columns.note"), check=_not_pairs)
    if answer is not None:
        form.options.columns = dict(_pairs(answer))


def _pairs(text: str) -> list[tuple[str, str]]:
    parts = [part.partition("=") for part in text.replace(",", " ").split()]
    return [(ours, theirs) for ours, equals, theirs in parts if ours and equals and theirs]


def _not_pairs(text: str) -> str:
    return "" if len(_pairs(text)) == len(text.replace(",", " ").split()) else t("menu.not_pairs", found=text)


def about(stage: str) -> None:
    """Say what a stage does, with all its settings, and wait until it was read."""
    from swiftshell.api.explain import explain
    from swiftshell.render.explain import print_explanation

    print_explanation(explain(stage))
    prompts.pause(stage)


def suits(form: Form, board: Board) -> None:
    """Say which stage suits the data that the form names, or how to choose where there is none to look at yet."""
    from swiftshell.api.choose import choose, choosing
    from swiftshell.render.explain import print_explanation
    from swiftshell.render.problems import print_problems

    path = forms.data_path(form, board)
    try:
        print_explanation(choose(path, form.options.columns) if path else choosing())
    except SwiftshellError as error:
        print_problems(error.problems)
    prompts.pause(t("choose.menu"))
