"""What a person chose once for all workspaces (`settings.json`), and which of several sources a value comes from.

The order is: flag, environment, the person's own file, locale. Standard library only: every command starts here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from swiftshell import i18n

Source = Literal["flag", "environment", "file", "locale"]
VERSION = 1


@dataclass(frozen=True)
class Setting:
    """A value and where it comes from; `where` names the flag, the variable or the file."""

    value: str
    source: Source
    where: str


def path(environ: Mapping[str, str] | None = None) -> Path:
    """Return the person's own settings file (XDG_CONFIG_HOME, else ~/.config)."""
    env = os.environ if environ is None else environ
    home = env.get("XDG_CONFIG_HOME", "")
    folder = Path(home) if home.startswith("/") else Path(env.get("HOME") or "~").expanduser() / ".config"
    return folder / "swiftshell" / "settings.json"


def saved(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what the file holds; an unreadable or damaged one counts as empty, since nothing depends on it."""
    try:
        found = json.loads(path(environ).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def save(name: str, value: str) -> Path:
    """Write one value into the file, replaced as a whole, and return its path.

    Raises:
        OSError: the folder cannot be written.
    """
    file = path()
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {**saved(), "v": VERSION, name: value}
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(temporary, file)
    return file


def language(flag: str | None = None, environ: Mapping[str, str] | None = None) -> Setting:
    """Return the language to speak and why. A flag `auto` means the locale, whatever was saved."""
    env = dict(os.environ if environ is None else environ)
    if flag in i18n.LANGUAGES:
        return Setting(str(flag), "flag", "--lang")
    chosen = env.get("SWIFTSHELL_LANG", "").lower()
    if chosen in i18n.LANGUAGES:
        return Setting(chosen, "environment", "SWIFTSHELL_LANG")
    own = saved(env).get("language")
    if own in i18n.LANGUAGES and flag != "auto":
        return Setting(str(own), "file", str(path(env)))
    variable = next((name for name in ("LC_ALL", "LC_MESSAGES", "LANG") if env.get(name)), "LANG")
    return Setting(i18n.detect(env), "locale", variable)


def use_saved_language() -> None:
    """Speak the language the person saved, unless the environment or an earlier choice in this process says otherwise."""
    found = language()
    if found.source == "file" and not i18n.is_set():
        i18n.set_language(found.value)
