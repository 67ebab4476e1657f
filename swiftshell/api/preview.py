"""Show the rows of a data set as a model reads them: find the model, read the rows, render them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.data.check import Check
from swiftshell.data.preview import Preview, preview
from swiftshell.data.row import Purpose
from swiftshell.data.template import Speaker, has_jinja, open_speaker
from swiftshell.errors import Problem, SwiftshellError, fail
from swiftshell.machine import cache
from swiftshell.plan import board as boards
from swiftshell.plan.quick import STARTER, STARTER_FOLDER, newest_model
from swiftshell.run.workspace import Workspace

_LOOKED_AT = 200  # rows: enough to read labels by their column, and to find thumbs a partner
_TOLD = 5
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*\Z", re.ASCII)


def speaker_for(workspace: Workspace, model: str | None) -> Speaker:
    """Return what renders rows: the named model, else the newest on the board, else the starter.

    Raises:
        SwiftshellError: no such model is on this disk, or it has no tokenizer files.
    """
    name, folder = model_folder(workspace, model)
    return open_speaker(folder, name)


@dataclass(frozen=True)
class Shown:
    """The first rows of a data set as a model reads them.

    Attributes:
        rows: those that can be used.
        format, columns: what the data set was taken for.
        bad_rows: how many of the rows looked at cannot be used.
    """

    rows: list[Preview]
    format: str
    columns: Mapping[str, str]
    bad_rows: int


def show(path: Path, purpose: Purpose, speaker: Speaker, *, rows: int, **options: Any) -> Shown:
    """Return the first rows of a data set as the model reads them; options as `load_rows`.

    Whether the set as a whole can be used (both classes, enough rows) is not asked here.

    Raises:
        SwiftshellError: none of these rows can be used, or jinja2 is not installed.
    """
    if speaker.template is not None and not has_jinja():
        raise fail("detect.needs_jinja")
    check = Check(path, purpose, limit=max(rows, _LOOKED_AT), **options)
    usable = check.finish(list(check.rows()))
    report = check.report
    if not usable:
        raise SwiftshellError(report.errors[:_TOLD] or [Problem("data.empty", {"path": str(path)}, file=str(path))])
    shown = [preview(row, speaker) for row in usable[:rows]]
    return Shown(shown, report.format or "", report.columns, report.bad_rows)


def model_folder(workspace: Workspace, model: str | None) -> tuple[str, Path]:
    """Return the name and folder of a model: of the board, a folder, the hub's cache; the newest one, or the starter's.

    Raises:
        SwiftshellError: it is not on this machine.
    """
    board = boards.read(workspace.runs)
    if model is None:
        lineages = board.lineages()
        entry = newest_model(board, lineages[0]) if lineages else None
        return (entry.id, entry.path) if entry is not None else (STARTER, STARTER_FOLDER / "model")
    if model == STARTER:
        return STARTER, STARTER_FOLDER / "model"
    if (entry := board.by_id(model)) is not None:
        return entry.id, entry.path
    path = Path(model).expanduser()
    if path.is_dir():
        return path.name, path.absolute()
    repo = model.removeprefix("hf://")
    if _REPO.match(repo) and (cached := _cached(repo)) is not None:
        return repo, cached
    raise fail("detect.model_not_here" if _REPO.match(repo) else "detect.model_unknown", model=model, repo=repo)


def _cached(repo: str) -> Path | None:
    """Return the newest snapshot of a repository that the hub's cache holds."""
    folder = cache.hub_cache().path / f"models--{repo.replace('/', '--')}" / "snapshots"
    snapshots = sorted(folder.iterdir(), key=lambda p: p.stat().st_mtime) if folder.is_dir() else []
    return snapshots[-1] if snapshots else None
