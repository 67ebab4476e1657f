"""Recipes: the whole pipeline from one file. Run, read, copy and check the shipped ones and one's own."""

from __future__ import annotations

from pathlib import Path

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import hint_of, t, what
from swiftshell.menu import prompts
from swiftshell.menu.rows import Heading, Row
from swiftshell.menu.session import Session

_TYPED = "\0typed"


def show(session: Session) -> None:
    """Choose a recipe and do something with it, until one was started or the person goes back."""
    from swiftshell.recipe.catalog import shipped

    default: str | None = None
    while True:
        own = own_recipes(Path.cwd())
        rows: list[Row[str] | Heading] = [Row(name, name, t("menu.own_recipe"), style="here") for name in own]
        rows += [Row(r.name, r.name, r.summary, note=f"{r.summary}  {t('menu.stages', stages=' '.join(r.stages))}")
                 for r in shipped()]
        rows += [Heading(), Row(_TYPED, t("menu.type_recipe"))]
        default = prompts.choose(t("menu.recipes_title"), rows, default=default)
        if default is None:
            return
        name = _typed(session) if default == _TYPED else default
        if name and _act(session, name):
            return  # something ran: the board has changed


def own_recipes(folder: Path, most: int = 6) -> list[str]:
    """Return names of files in a folder that look like recipes."""
    try:
        files = [p for p in folder.iterdir() if p.suffix in (".yaml", ".yml") and p.is_file()]
        return sorted(p.name for p in files if "steps:" in p.read_text(encoding="utf-8", errors="replace"))[:most]
    except OSError:
        return []


def _typed(session: Session) -> str | None:
    def missing(text: str) -> str:
        return "" if not text or Path(text).expanduser().is_file() else t("plan.path_missing", path=text)

    answer = prompts.ask_text(t("menu.type_recipe"), default=str(session.typed.get("recipe", "")), paths=True, check=missing)
    if answer:
        session.typed["recipe"] = answer
    return answer or None


def _act(session: Session, name: str) -> bool:
    """Do things with one recipe until the person goes back; tell whether it was started."""
    rows = [Row("run", t("menu.recipe_run"), note=t("menu.recipe_run.note"), style="next"),
            Row("show", t("menu.recipe_show")), Row("copy", t("menu.recipe_copy"), note=t("menu.recipe_copy.note")),
            Row("check", t("menu.recipe_check"))]
    answer: str | None = None
    while True:
        answer = prompts.choose(name, rows, default=answer)
        if answer is None:
            return False
        if answer == "run":
            if run(session, name):
                return True
        else:
            {"show": _show, "copy": _copy, "check": _check}[answer](session, name)


def run(session: Session, name: str) -> bool:
    """Plan a recipe, show the plan, and start it if the person says so."""
    from swiftshell.api.plans import plan_target
    from swiftshell.menu.screens.start import plan_and_start

    return plan_and_start(session, lambda workspace, fresh: plan_target(workspace, name, fresh=fresh))


def _show(session: Session, name: str) -> None:
    from swiftshell.recipe.catalog import find

    path = find(name)
    if path is not None:
        print()
        print(path.read_text(encoding="utf-8"), end="")
        prompts.pause(name)


def _copy(session: Session, name: str) -> None:
    from swiftshell.recipe.catalog import copy

    def taken(text: str) -> str:
        if not text:
            return ""
        target = Path(text).expanduser()
        return t("cli.out_exists", path=text) if target.exists() else ""

    default = str(session.typed.get("copy", "mine.yaml"))
    answer = prompts.ask_text(t("menu.copy_to"), default=default, note=t("menu.recipe_copy.note"), check=taken, paths=True)
    if not answer:
        return
    session.typed["copy"] = answer
    try:
        target = copy(name, Path(answer).expanduser())
    except SwiftshellError as error:
        prompts.pause(f"{what(error.problems[0])}  {hint_of(error.problems[0])}")
        return
    prompts.pause(t("cli.recipes_copied", path=target))


def _check(session: Session, name: str) -> None:
    from swiftshell.recipe.catalog import find
    from swiftshell.recipe.load import load_recipe
    from swiftshell.render.problems import print_problems

    path = find(name)
    if path is None:
        return
    try:
        recipe = load_recipe(path)
    except SwiftshellError as error:
        print()
        print_problems(error.problems)
        prompts.pause(name)
        return
    prompts.pause(t("cli.recipes_good", path=name, steps=len(recipe.steps)))
