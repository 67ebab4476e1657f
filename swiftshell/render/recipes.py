"""Print recipes, one a line."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import IO, Any

from swiftshell.i18n import t
from swiftshell.render.console import NARROW_COLUMNS, has_unicode, new_table, open_console


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
    table = new_table(
        t("render.recipe"), t("render.stages"), t("render.summary"), unicode=has_unicode(stream)
    )
    for recipe in recipes:
        stages = " ".join(dict.fromkeys(recipe.get("stages") or []))
        table.add_row(
            Text(str(recipe["name"]), style="bold", no_wrap=True), stages, recipe.get("summary", "")
        )
    console.print(table)
