"""What works here and what to do about the rest."""

from __future__ import annotations

from swiftshell.api.doctor import examine
from swiftshell.i18n import t
from swiftshell.menu import prompts
from swiftshell.menu.session import Session
from swiftshell.render.doctor import print_findings


def show(session: Session) -> None:
    """Look, tell, and wait until it was read."""
    print()
    print_findings(examine(session.flag))
    prompts.pause(t("menu.doctor"))
