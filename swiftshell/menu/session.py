"""What the menu remembers while it is open: the workspace, the lineage in view, and the forms as they were left."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from swiftshell.run.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from swiftshell.menu.forms import Form
    from swiftshell.plan.board import Board


@dataclass
class Session:
    """One sitting at the menu. `flag` is what `--workspace` said."""

    flag: str | None
    workspace: Workspace
    lineage: str | None = None  # None: the one worked on last
    forms: dict[str, Form] = field(default_factory=dict)
    typed: dict[str, Any] = field(default_factory=dict)  # answers kept by name, for the next time they are asked

    @classmethod
    def open(cls, flag: str | None) -> Session:
        """Look at the workspace; nothing is written before something is started."""
        return cls(flag, open_workspace(flag, create=False))

    def board(self) -> Board:
        """Read the board as it is now."""
        from swiftshell.plan import board

        return board.read(self.workspace.runs)

    def lineage_flag(self, board: Board) -> str | None:
        """Return the lineage to name: none where it is the one that would be taken anyway."""
        lineages = board.lineages()
        return self.lineage if self.lineage in lineages[1:] else None
