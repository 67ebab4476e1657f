"""Messages in Chinese and English: one catalogue per language, complete in both.

A catalogue is the union of the JSON files in its folder (`en/`, `zh/`), one file per area of the product, each a flat
mapping from key to a `str.format` template. Keys are `<area>.<name>`, and an area's keys live in `<area>.json`.
Standard library only: the menu, the command line and error rendering all sit on top of it.
"""

from __future__ import annotations

import json
import os
import string
from functools import cache
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem

LANGUAGES = ("en", "zh")
_HERE = Path(__file__).parent
_FOREIGN = ("why", "reason", "message", "type")  # values that hold words of the system's, Python's or JSON's
_current: list[str] = []


class _Lenient(string.Formatter):
    """Format a template without ever failing: a message about an error must not raise another."""

    def get_value(self, key: int | str, args: Any, kwargs: Any) -> Any:
        return kwargs.get(key, "{" + str(key) + "}") if isinstance(key, str) else super().get_value(key, args, kwargs)


def detect(environ: dict[str, str] | None = None) -> str:
    """Return `zh` or `en` from SWIFTSHELL_LANG, else LC_ALL, LC_MESSAGES, LANG in POSIX order."""
    env = os.environ if environ is None else environ
    chosen = env.get("SWIFTSHELL_LANG", "").lower()
    if chosen in LANGUAGES:
        return chosen
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if env.get(name):
            return "zh" if env[name].lower().startswith("zh") else "en"
    return "en"


def set_language(lang: str) -> None:
    """Fix the language for this process; `auto` goes back to the locale."""
    _current[:] = [] if lang == "auto" else [lang]


def is_set() -> bool:
    """Tell whether the language was fixed for this process."""
    return bool(_current)


def language() -> str:
    """Return the language in force."""
    return _current[0] if _current else detect()


@cache
def catalogue(lang: str) -> dict[str, str]:
    """Return every message of a language, merged from its area files."""
    merged: dict[str, str] = {}
    for path in sorted((_HERE / lang).glob("*.json")):
        merged.update(json.loads(path.read_text(encoding="utf-8")))
    return merged


def has(key: str) -> bool:
    """Tell whether the catalogue in force has this key."""
    return key in catalogue(language())


def t(key: str, **values: Any) -> str:
    """Return the message for `key` in the language in force, formatted with `values`.

    A key missing in one language falls back to English and then to the key itself: visible, never fatal (a test holds
    both catalogues complete).
    """
    template = catalogue(language()).get(key) or catalogue("en").get(key) or key
    return _Lenient().format(template, **values)


def sentence(problem: Problem) -> str:
    """Return a problem as plain text: what, where, one thing to do (see house rules for errors)."""
    lines = [f"{t('core.' + problem.severity)}[{problem.code}]: {t(problem.code, **_values(problem))}"]
    if where := place(problem):
        lines.append(f"  --> {where}")
    if hint := hint_of(problem):
        lines.append(f"{t('core.hint')}: {hint}")
    return "\n".join(lines)


def what(problem: Problem) -> str:
    """Return the problem's sentence alone."""
    return t(problem.code, **_values(problem))


def hint_of(problem: Problem) -> str:
    """Return the one thing to do about a problem, or an empty string."""
    key = problem.code + ".hint"
    return t(key, **_values(problem)) if key in catalogue("en") else ""


def place(problem: Problem) -> str:
    """Return `file:line:column`, with the data row named where there is one."""
    if problem.file is None:
        return ""
    where = ":".join(str(x) for x in (problem.file, problem.line, problem.column) if x is not None)
    return f"{where} ({t('core.row', row=problem.row)})" if problem.row is not None else where


def _values(problem: Problem) -> dict[str, Any]:
    places = {"file": problem.file, "line": problem.line, "column": problem.column, "row": problem.row,
              "field": problem.field_name}
    told = {k: _translated(v) if k in _FOREIGN else v for k, v in problem.values.items()}
    return {**{k: v for k, v in places.items() if v is not None}, **told}


def _translated(text: Any) -> Any:
    """Return what the system or a library said in the language in force, where the catalogue knows it."""
    return t(f"said.{text}") if isinstance(text, str) and has(f"said.{text}") else text
