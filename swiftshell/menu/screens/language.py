"""Switch the language, now and for the next time."""

from __future__ import annotations

from swiftshell import settings
from swiftshell.i18n import catalogue, language, set_language, t
from swiftshell.menu import prompts
from swiftshell.menu.rows import Row
from swiftshell.menu.session import Session

NAMES = {"zh": "中文", "en": "English"}


def show(session: Session) -> None:
    """Choose a language; a choice that cannot be saved still holds until the menu is left."""
    rows = [Row(code, name, note=catalogue(code)["menu.language_saved"]) for code, name in NAMES.items()]
    answer = prompts.choose(t("menu.language"), rows, default=language())
    if answer is None:
        return
    set_language(answer)
    try:
        settings.save("language", answer)
    except OSError as error:
        prompts.pause(t("menu.not_saved", path=settings.path(), why=error.strerror or str(error)))
