"""Switch the lineage in view: what grew from one base model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from swiftshell.i18n import t
from swiftshell.menu import prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.screens.home import moment
from swiftshell.menu.session import Session


def show(session: Session, facts: Mapping[str, Any]) -> None:
    """Choose among the lineages of the workspace."""
    board = session.board()
    rows = []
    for lineage in facts["lineages"]:
        newest = next(e for e in board.entries if e.lineage == lineage)
        rows.append(Row(lineage, lineage, f"{newest.stage}  {moment(newest.ended)}"))
    answer = prompts.choose(t("menu.lineage_title"), rows, default=facts["lineage"])
    if answer is not None:
        session.lineage = answer
