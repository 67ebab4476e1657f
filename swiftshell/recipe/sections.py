"""Read the sections `models` and `data`: where each entry comes from and how rows are read."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from swiftshell.errors import SwiftshellError
from swiftshell.recipe.checking import Checker
from swiftshell.recipe.document import KeyPath
from swiftshell.recipe.model import DataSpec, ModelSpec
from swiftshell.recipe.suggest import shown

ORIGINS = ("repo", "path", "starter")
MODEL_KEYS = (*ORIGINS, "revision", "source")
DATA_KEYS = (*ORIGINS, "revision", "source", "split", "file", "columns", "format", "label_rule", "limit")
# Names of columns that many recipes write beside `path`; the same as under `columns`.
COLUMN_KEYS = ("label_field", "text_field", "prompt_field", "weight_field", "probability_field")
STARTER_DATA = ("sft", "kto", "dpo", "heldout")
SOURCES = ("hf", "ms")  # ms: ModelScope
_ID = re.compile(r"[^\W_][\w-]{0,39}\Z")
_NAME = re.compile(r"[^\W_][\w.-]{0,63}\Z")
_REPO = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*\Z", re.ASCII)


def absolute(text: str, base: Path) -> Path:
    """Return a path with `~` expanded, counted from `base` if it is relative; links are left as they are."""
    return Path(os.path.abspath(base / os.path.expanduser(text)))


def read_id(checker: Checker, path: KeyPath, text: str, *, dots: bool = False, key: bool = False) -> None:
    """Record an id that could not be a folder's name or the part of a reference."""
    if not (_NAME if dots else _ID).match(text):
        checker.add(path, "recipe.id_form", key=key, found=shown(text), most=64 if dots else 40)


def read_models(checker: Checker, value: Any, base: Path) -> dict[str, ModelSpec]:
    """Return the entries of `models`; an entry that is wrong is recorded and left out."""
    found = {}
    for name, entry in checker.mapping(("models",), value).items():
        path: KeyPath = ("models", name)
        read_id(checker, path, name, key=True)
        before = len(checker.errors())
        fields = checker.mapping(path, entry, MODEL_KEYS)
        origin = _origin(checker, path, fields, base)
        starter = checker.choice((*path, "starter"), fields.get("starter"), (True,))
        if len(checker.errors()) == before:
            found[name] = ModelSpec(name, starter=bool(starter), line=checker.document.key_mark(path).line, **origin)
    return found


def read_data(checker: Checker, value: Any, base: Path) -> dict[str, DataSpec]:
    """Return the entries of `data`; an entry that is wrong is recorded and left out."""
    found = {}
    for name, entry in checker.mapping(("data",), value).items():
        path: KeyPath = ("data", name)
        read_id(checker, path, name, key=True)
        before = len(checker.errors())
        fields = checker.mapping(path, entry, (*DATA_KEYS, *COLUMN_KEYS))
        origin = _origin(checker, path, fields, base)
        starter = checker.choice((*path, "starter"), fields.get("starter"), STARTER_DATA)
        reading: dict[str, Any] = {key: checker.text((*path, key), fields.get(key)) for key in ("split", "file")}
        reading["format"] = _format(checker, (*path, "format"), fields.get("format"))
        columns = _columns(checker, (*path, "columns"), fields.get("columns"))
        columns |= {key: column for key in COLUMN_KEYS if (column := checker.text((*path, key), fields.get(key)))}
        rule = _label_rule(checker, (*path, "label_rule"), fields.get("label_rule"))
        limit = checker.whole((*path, "limit"), fields.get("limit"), 0, 0, 2**53)
        if len(checker.errors()) == before:
            found[name] = DataSpec(name, starter=starter, columns=columns, label_rule=rule, limit=limit,
                                   line=checker.document.key_mark(path).line, **origin, **reading)
    return found


def _origin(checker: Checker, path: KeyPath, fields: dict[str, Any], base: Path) -> dict[str, Any]:
    """Check that exactly one origin is given, and its form."""
    given = [key for key in ORIGINS if fields.get(key) is not None]
    if len(given) != 1:
        code = "recipe.origin_many" if given else "recipe.origin_none"
        checker.add(path, code, key=True, found=", ".join(given), name=path[-1])
    repo = checker.text((*path, "repo"), fields.get("repo"))
    if repo is not None:
        _repo(checker, (*path, "repo"), repo)
    local = checker.text((*path, "path"), fields.get("path"))
    if local is not None and re.match(r"[a-z][a-z0-9+.-]*://", local):
        if local.startswith("hf://"):
            checker.add((*path, "path"), "recipe.path_is_repo", found=local, repo=local.removeprefix("hf://"))
        else:
            checker.add((*path, "path"), "recipe.path_is_url", found=local)
    for key in ("revision", "source"):
        if fields.get(key) is not None and given and given != ["repo"]:
            checker.add((*path, key), "recipe.only_for_repo", key=True, found=key, origin=given[0])
    revision = checker.text((*path, "revision"), fields.get("revision"))
    source = checker.choice((*path, "source"), fields.get("source"), SOURCES)
    folder = absolute(local, base) if local else None
    return {"repo": repo, "path": folder, "revision": revision, "source": source or "hf"}


def _repo(checker: Checker, path: KeyPath, repo: str) -> None:
    if repo.startswith(("./", "../", "/", "~")):
        checker.add(path, "recipe.repo_is_path", found=repo)
    elif repo.startswith("hf://"):
        checker.add(path, "recipe.repo_prefix", found=repo, repo=repo.removeprefix("hf://"))
    elif not _REPO.match(repo):
        checker.add(path, "recipe.repo_form", found=repo)


def _columns(checker: Checker, path: KeyPath, value: Any) -> dict[str, str]:
    found: dict[str, str] = {}
    if not value:
        return found
    from swiftshell.data.parts import ALIASES, ROLES

    for key, column in checker.mapping(path, value, (*ROLES, *ALIASES)).items():
        text = checker.text((*path, key), column)
        if text is not None:
            found[key] = text
        elif column is None:
            checker.add((*path, key), "recipe.blank")
    return found



def _format(checker: Checker, path: KeyPath, value: Any) -> str | None:
    if value is None:
        return None
    from swiftshell.data.parts import FORMATS

    found: str | None = checker.choice(path, value, FORMATS)
    return found


def _label_rule(checker: Checker, path: KeyPath, value: Any) -> dict[str, Any] | None:
    if value is None:
        return None
    rule = checker.mapping(path, value, ("threshold", "probability", "desirable", "undesirable"))
    from swiftshell.data.labels import parse_rule

    try:
        parse_rule(rule)
    except SwiftshellError as error:
        for problem in error.problems:
            checker.add(path, problem.code, **problem.values)
    return rule or None
