"""`swiftshell recipes`: list, show, copy and check."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from swiftshell.errors import fail
from swiftshell.i18n import t
from swiftshell.result import Result


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", nargs="?", default="list", choices=("list", "show", "copy", "check"),
                        help=t("cli.recipes_action"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=t("cli.recipes_args"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Do the action."""
    needed = {"list": 0, "show": 1, "copy": 2, "check": 1}[args.action]
    if len(args.names) != needed:
        raise fail("cli.recipes_usage", action=args.action, needed=" ".join(["NAME", "NEW_FILE"][:needed]) or "-")
    found: Result[Any] = {"list": _list, "show": _show, "copy": _copy, "check": _check}[args.action](args)
    return found


def _list(args: argparse.Namespace) -> Result[Any]:
    from swiftshell.recipe.catalog import shipped

    facts = [{"name": r.name, "summary": r.summary, "stages": list(r.stages), "path": str(r.path)} for r in shipped()]
    if not args.json:
        from swiftshell.render.recipes import print_recipes

        print_recipes(facts)
    return Result(facts)


def _show(args: argparse.Namespace) -> Result[Any]:
    path = _find(args.names[0])
    text = path.read_text(encoding="utf-8")
    if not args.json:
        print(text, end="")
    return Result({"path": str(path), "text": text})


def _copy(args: argparse.Namespace) -> Result[Any]:
    from swiftshell.recipe.catalog import copy

    target = copy(args.names[0], Path(args.names[1]))
    if not args.json:
        print(t("cli.recipes_copied", path=target))
    return Result({"path": str(target)})


def _check(args: argparse.Namespace) -> Result[Any]:
    from swiftshell.recipe.load import load_recipe

    recipe = load_recipe(_find(args.names[0]))
    if not args.json:
        print(t("cli.recipes_good", path=args.names[0], steps=len(recipe.steps)))
    return Result({"name": recipe.name, "steps": [s.id for s in recipe.steps]}, notes=list(recipe.notes))


def _find(name: str) -> Path:
    from swiftshell.recipe.catalog import closest, find

    path: Path | None = find(name)
    if path is None:
        near = closest(name)
        raise fail("recipe.shipped_unknown" if near else "recipe.shipped_unknown_far", name=name, nearest=near)
    return path
