"""Collect the problems of a document, each with its place and its dotted name."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from swiftshell.errors import Problem, Severity
from swiftshell.recipe.document import Document, KeyPath
from swiftshell.recipe.suggest import nearest, shown


class Checker:
    """Problems found so far in one document."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []

    def add(self, path: KeyPath, code: str, *, key: bool = False, severity: Severity = "error",
            field: str | None = None, **values: Any) -> None:
        """Record a problem at a key (`key=True`) or at its value."""
        mark = self.document.key_mark(path) if key else self.document.value_mark(path)
        self.problems.append(Problem(code, values, file=self.document.file, line=mark.line, column=mark.column,
                                     field_name=field or self.dotted(path) or None, severity=severity))

    def errors(self) -> list[Problem]:
        """Return what stops the recipe, in the order of the file."""
        found = [p for p in self.problems if p.severity == "error"]
        return sorted(found, key=lambda p: (p.line is None, p.line or 0, p.column or 0))

    def notes(self) -> tuple[Problem, ...]:
        """Return what is only worth knowing."""
        return tuple(p for p in self.problems if p.severity != "error")

    def dotted(self, path: KeyPath) -> str:
        """Return a path as people read it: steps by their id, list items by their position from 0."""
        parts: list[str] = []
        node: Any = self.document.data
        for i, part in enumerate(path):
            node = _child(node, part)
            if isinstance(part, str):
                parts.append(part)
            elif i == 1 and path[0] == "steps" and isinstance(node, dict) and isinstance(node.get("id"), str):
                parts.append(node["id"])
            else:
                parts[-1:] = [f"{parts[-1]}[{part}]"]
        return ".".join(parts)

    def mapping(self, path: KeyPath, value: Any, known: Collection[str] = ()) -> dict[str, Any]:
        """Return a mapping; anything else is a problem, and so is a key that is not known (empty: all are)."""
        if value is None and len(path):
            return {}
        if not isinstance(value, dict):
            self.add(path, "recipe.not_map", found=shown(value), what=self.dotted(path) or "recipe")
            return {}
        for key in value:
            if known and key not in known:
                self.unknown((*path, key), known)
        return value

    def unknown(self, path: KeyPath, known: Collection[str]) -> None:
        """Record an unknown key with the nearest known one, or with all of them."""
        near = nearest(path[-1], known)
        if near:
            self.add(path, "recipe.unknown_key", key=True, found=path[-1], nearest=near)
        else:
            self.add(path, "recipe.unknown_key_far", key=True, found=path[-1], known=", ".join(known))

    def text(self, path: KeyPath, value: Any) -> str | None:
        """Return a non-empty text; None if it is absent, or wrong, which is recorded."""
        if value is None:
            return None
        if not isinstance(value, str):
            self.add(path, "recipe.not_text", found=shown(value))
            return None
        if not value.strip():
            self.add(path, "recipe.blank")
            return None
        return value

    def choice(self, path: KeyPath, value: Any, choices: Collection[Any]) -> Any:
        """Return a value that is one of the choices; None if it is absent, or wrong, which is recorded."""
        if value is None or any(value is c or (value == c and type(value) is type(c)) for c in choices):
            return value
        self.add(path, "recipe.choice", found=shown(value), choices=", ".join(plain(c) for c in choices))
        return None

    def whole(self, path: KeyPath, value: Any, default: int, least: int, most: int) -> int:
        """Return a whole number within bounds, or the default if it is absent, or wrong, which is recorded."""
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int):
            self.add(path, "recipe.param_int", found=shown(value))
        elif not least <= value <= most:
            bounds = f"≥ {least}" if most >= 2**53 else f"{least} … {most}"
            self.add(path, "recipe.param_range", found=shown(value), bounds=bounds)
        else:
            return value
        return default


def plain(value: Any) -> str:
    """Return a choice without quotes, as YAML writes it."""
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def _child(node: Any, part: str | int) -> Any:
    if isinstance(node, dict) and isinstance(part, str):
        return node.get(part)
    if isinstance(node, list) and isinstance(part, int) and part < len(node):
        return node[part]
    return None
