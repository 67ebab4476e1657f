"""Print recipes, one a line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from swiftshell.i18n import t
from swiftshell.render.console import NARROW_COLUMNS, has_unicode, new_table, open_console

_STAGES_COLUMNS = 100  # below this the summary alone says what a recipe does


def print_recipes(recipes: Sequence[Mapping[str, Any]], stream: IO[str] | None = None) -> None:
    """Print recipes with their stages and what they are for."""
    from rich.text import Text

    stream = sys.stdout if stream is None else stream
    console = open_console(stream)
    if console.width < NARROW_COLUMNS:
        for recipe in recipes:
            console.print(Text(str(recipe["name"]), style="bold"))
            console.print(Text(f"  {recipe.get('summary', '')}"))
        return
    table = new_table(unicode=has_unicode(stream))
    longest = max((len(str(recipe["name"])) for recipe in recipes), default=0)
    table.add_column(t("render.recipe"), min_width=longest, no_wrap=True)  # a name is to be copied whole
    with_stages = console.width >= _STAGES_COLUMNS
    if with_stages:
        table.add_column(t("render.stages"))
    table.add_column(t("render.summary"), overflow="fold")
    for recipe in recipes:
        stages = [" ".join(dict.fromkeys(recipe.get("stages") or []))] if with_stages else []
        table.add_row(Text(str(recipe["name"]), style="bold"), *stages, recipe.get("summary", ""))
    console.print(table)
