"""Choose what fills an input: the board's choice, another output, a file, a folder, a repository."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import hint_of, t, what
from swiftshell.menu import forms, prompts
from swiftshell.menu.forms import MODEL_OPTIONS, Form
from swiftshell.menu.rows import Heading, Row
from swiftshell.menu.screens.home import moment
from swiftshell.menu.session import Session
from swiftshell.plan.board import Board
from swiftshell.plan.quick import ROUNDS, STARTER, data_spec, model_spec

_TYPED, _CONTINUE, _AUTO = "\0typed", "\0continue", "\0auto"


def choose_input(session: Session, form: Form, board: Board, option: str) -> None:
    """Let the person choose one input; the form keeps the choice."""
    rows = (_model_rows if option in MODEL_OPTIONS else _data_rows)(session, form, board, option)
    current = form.named(option) or (_CONTINUE if option == "policy" and form.options.continue_ else _AUTO)
    answer = prompts.choose(f"{form.stage}   {t(f'menu.input.{option}')}", rows, default=current)
    if answer is None:
        return
    if answer == _TYPED:
        answer = _typed(session, form, option)
        if answer is None:
            return
    if option == "policy":
        form.options.continue_ = answer == _CONTINUE
    setattr(form.options, option, None if answer in (_AUTO, _CONTINUE) else answer)


def _model_rows(session: Session, form: Form, board: Board, option: str) -> list[Row[str] | Heading]:
    rows: list[Row[str] | Heading] = [_auto(form, board, option)]
    if option == "policy" and form.stage in ("kto", "dpo"):
        last = board.newest(form.stage, session.lineage)
        rows.append(Row(_CONTINUE, t("menu.continue_last", stage=form.stage), moment(last.ended) if last else "",
                        note=t("menu.continue_last.note", stage=form.stage),
                        disabled="" if last else t("menu.continue_none", stage=form.stage)))
    if form.stage != "download":
        lineage = session.lineage or next(iter(board.lineages()), "")
        made = forms.candidates(form.stage, option, board, lineage)
        rows += [Row(e.id, forms.short_id(e.id), f"{e.lineage}  {e.run}", note=f"{e.kind}, {moment(e.ended)}: {e.path}")
                 for e in made]
    if form.stage not in ("merge", "quantize"):
        rows.append(Row(STARTER, t("menu.the_starter"), note=t("menu.the_starter.note")))
    typed = form.named(option)
    known = {row.value for row in rows if isinstance(row, Row)}
    if typed and typed not in known:
        rows.append(Row(typed, typed, style="here"))
    return [*rows, Row(_TYPED, t("menu.type_model"), note=t("menu.type_model.note"))]


def _data_rows(session: Session, form: Form, board: Board, option: str) -> list[Row[str] | Heading]:
    rows: list[Row[str] | Heading] = [_auto(form, board, option)]
    if option == "replay":
        rows.append(Row(ROUNDS, t("menu.replay_rounds"), note=t("menu.replay_rounds.note"),
                        disabled="" if form.options.continue_ or form.options.policy else t("menu.replay_needs_round")))
    if option != "dataset":
        rows.append(Row(STARTER, t("menu.starter_data"), note=t("menu.starter_data.note")))
        rows += [Row(name, name) for name in forms.data_files(Path.cwd())]
    typed = form.named(option)
    if typed and typed not in {row.value for row in rows if isinstance(row, Row)}:
        rows.append(Row(typed, typed, style="here"))
    return [*rows, Row(_TYPED, t("menu.type_data"), note=t("menu.type_data.note"))]


def _auto(form: Form, board: Board, option: str) -> Row[str]:
    """Return the row for leaving the choice to the board, with what that is and why."""
    options = replace(form.options, continue_=form.options.continue_ and option != "policy")
    setattr(options, option, None)
    found = forms.chosen(replace(form, options=options), board)[option]
    if not found.name:
        empty = what(found.problem) if found.problem else ""
        return Row(_AUTO, t("menu.none"), note=empty)
    return Row(_AUTO, t("menu.from_board"), found.name, note=found.why)


def _typed(session: Session, form: Form, option: str) -> str | None:
    is_model = option in MODEL_OPTIONS
    key = f"{form.stage}:{option}"
    question = t(f"menu.input.{option}")
    note = t("menu.type_model.note" if is_model else "menu.type_data.note")
    check = _check(model_spec if is_model else data_spec, board_names(session))
    answer = prompts.ask_text(question, default=str(session.typed.get(key, "")), paths=True, note=note, check=check)
    if answer:
        session.typed[key] = answer
    return answer or None


def board_names(session: Session) -> Callable[[str], bool]:
    """Return whether a text names something on the board."""
    board = session.board()
    return lambda text: board.by_id(text) is not None


def _check(spec: Callable[[str], object], on_board: Callable[[str], bool]) -> Callable[[str], str]:
    def check(text: str) -> str:
        if not text or on_board(text):
            return ""
        try:
            spec(text)
        except SwiftshellError as error:
            problem = error.problems[0]
            return f"{what(problem)}  {hint_of(problem)}".strip()
        return ""

    return check
