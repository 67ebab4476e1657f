"""Talk to a model: the newest one, or another of the board."""

from __future__ import annotations

from swiftshell.api.chat import chat_model
from swiftshell.i18n import t
from swiftshell.menu import forms, prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.screens.home import moment
from swiftshell.menu.session import Session
from swiftshell.plan.quick import STARTER


def show(session: Session) -> None:
    """Choose a model and talk until the person leaves; then choose again or go back."""
    board = session.board()
    name, _ = chat_model(session.workspace, None, session.lineage)
    rows = [Row("", t("menu.newest_model"), forms.short_id(name), note=name, style="next")]
    rows += [Row(e.id, forms.short_id(e.id), f"{e.lineage}  {moment(e.ended)}", note=e.id)
             for e in forms.candidates("infer", "model", board, session.lineage or "") if e.id != name]
    rows.append(Row(STARTER, t("menu.the_starter"), note=t("menu.the_starter.note")))
    default: str | None = None
    while True:
        default = prompts.choose(t("menu.chat_title"), rows, default=default)
        if default is None:
            return
        _talk(session, default or None)


def _talk(session: Session, model: str | None) -> None:
    from swiftshell.render.talk import talk

    name, _ = chat_model(session.workspace, model, session.lineage)
    try:
        talk(session.workspace, model, session.lineage, name, None, {})
    except KeyboardInterrupt:  # while the model was loading
        print()
    prompts.forget_interrupts()
