"""Check a data file before a run does: what it is taken for, what is wrong with it, how its rows look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import t
from swiftshell.menu import forms, prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.screens import columns
from swiftshell.menu.session import Session
from swiftshell.plan.quick import STARTER_FOLDER

PURPOSES = ("sft", "kto", "dpo", "prompts", "heldout")
_TYPED = "\0typed"
_MAKE = "\0make"
_ROWS_SHOWN = 3


def show(session: Session) -> None:
    """Ask for a file and its purpose, check it, and stay with it until the person goes back."""
    while True:
        path = _file(session)
        if path is None:
            return
        _use(session, path)


def _file(session: Session) -> Path | None:
    here = forms.data_files(Path.cwd())
    starter = sorted((STARTER_FOLDER / "data").glob("*.jsonl"))
    rows = [Row(name, name) for name in here]
    rows.append(Row(_TYPED, t("menu.type_file"), note=t("menu.type_file.note")))
    rows += [Row(str(path), t("menu.starter_file", name=path.stem), style="dim") for path in starter]
    answer = prompts.choose(t("menu.data_title"), rows, default=session.typed.get("data"))
    if answer is None:
        return None
    if answer == _TYPED:
        typed = prompts.ask_text(t("menu.type_file"), default=str(session.typed.get("data_typed", "")), paths=True,
                                 note=t("menu.type_file.note"), check=_not_there)
        if not typed:
            return _file(session)
        session.typed["data_typed"] = answer = typed
    session.typed["data"] = answer
    return Path(answer).expanduser()


def _not_there(text: str) -> str:
    from swiftshell.data.sources import exists

    if text.startswith(("hf://", "ms://")):
        return t("detect.menu_fetch_first", address=text)
    return "" if not text or exists(Path(text).expanduser()) else t("plan.path_missing", path=text)


def _use(session: Session, path: Path) -> None:
    from swiftshell.data.columns import purpose_of

    found = purpose_of(path, columns=columns.given(session, path))
    purpose: str | None = found
    while True:
        rows = [Row(name, name, t("detect.menu_found") if name == found else "", note=t(f"menu.purpose.{name}"))
                for name in PURPOSES]
        rows.append(Row(_MAKE, t("logs.menu_make"), note=t("logs.menu_make.note")))
        purpose = prompts.choose(t("menu.data_purpose", path=path), rows, default=purpose)
        if purpose is None:
            return
        if purpose == _MAKE:
            from swiftshell.menu.screens import make

            make.show(session, path)
            continue
        session.typed["purpose"] = purpose
        _check(session, path, purpose)


def _check(session: Session, path: Path, purpose: str) -> None:
    from swiftshell.data.load import check_rows
    from swiftshell.render.data import print_report
    from swiftshell.render.problems import print_problems

    mine = columns.given(session, path)
    report = check_rows(path, purpose, columns=mine or None)
    good = not any(p.severity == "error" for p in report.problems)
    print()
    print_report(report.as_json(), good=good, path=str(path), purpose=purpose)
    if report.problems:
        print_problems(report.problems)
    print(t("menu.same_command", command=f"swiftshell data check {path} --for {purpose}{columns.flags(mine)}"))
    rows = [Row("rows", t("menu.show_rows", count=_ROWS_SHOWN))] if report.usable else []
    rows += [Row("columns", t("detect.menu_correct"), note=t("detect.menu_correct.note"))] if report.rows else []
    rows += [Row("review", t("review.menu"), note=t("review.menu.note"))] if good and purpose == "kto" else []
    answer = prompts.choose(t("menu.data_checked" if good else "menu.data_bad"), rows)
    if answer == "rows":
        _rows(session, path, purpose)
    elif answer == "columns":
        columns.show(session, path, purpose)
        _check(session, path, purpose)
    elif answer == "review":
        from swiftshell.menu.screens import review

        review.show(session, path)


def _rows(session: Session, path: Path, purpose: Any) -> None:
    from swiftshell.api.preview import show as look
    from swiftshell.api.preview import speaker_for
    from swiftshell.render.preview import print_found, print_previews
    from swiftshell.render.problems import print_problems

    mine = columns.given(session, path)
    try:
        speaker = speaker_for(session.workspace, None)
        shown = look(path, purpose, speaker, rows=_ROWS_SHOWN, columns=mine or None)
    except SwiftshellError as error:
        print_problems(error.problems)
    else:
        print_found(purpose, shown.format, shown.columns)
        print_previews(shown.rows, model=speaker.name)
        print(t("menu.same_command", command=f"swiftshell data show {path} --for {purpose}{columns.flags(mine)}"))
    prompts.pause(str(path))
