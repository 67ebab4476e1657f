"""Find the workspace a person works in, open it, and list its runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swiftshell.errors import Problem, fail
from swiftshell.run.files import read_json, write_json
from swiftshell.run.paths import RunPaths

VERSION = 1
VARIABLE = "SWIFTSHELL_WORKSPACE"
_MARK = ".swiftshell"


@dataclass(frozen=True)
class Workspace:
    """The folder a person works in. `why` says how it was chosen: flag, environment, ancestor or here."""

    root: Path
    why: str = "here"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    @property
    def own(self) -> Path:
        """Return the folder for the workspace's own small files."""
        return self.root / _MARK

    @property
    def record(self) -> Path:
        return self.own / "workspace.json"

    def run(self, run_id: str) -> RunPaths:
        return RunPaths(self.runs / run_id)


@dataclass
class Runs:
    """A workspace's runs, newest first, and what lies among them that is none."""

    runs: list[RunPaths] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def find(flag: str | Path | None = None, environ: Mapping[str, str] | None = None,
         cwd: Path | None = None) -> Workspace:
    """Choose the workspace: the flag, SWIFTSHELL_WORKSPACE, the nearest folder upwards that is one, or this folder."""
    here = (cwd or Path.cwd()).absolute()
    named = (os.environ if environ is None else environ).get(VARIABLE, "")
    if flag or named:
        root = here / Path(flag or named).expanduser()
        return Workspace(Path(os.path.abspath(root)), "flag" if flag else "environment")
    for folder in (here, *here.parents):
        if (folder / _MARK).is_dir():
            return Workspace(folder, "ancestor" if folder != here else "here")
    return Workspace(here)


def open_workspace(flag: str | Path | None = None, *, environ: Mapping[str, str] | None = None, cwd: Path | None = None,
                   create: bool = True) -> Workspace:
    """Find the workspace and check that this version may use it; make its record on first use if `create`.

    Raises:
        SwiftshellError: it was written by a newer version, its record is damaged, or it cannot be written.
    """
    workspace = find(flag, environ, cwd)
    if workspace.root.exists() and not workspace.root.is_dir():
        raise fail("run.workspace_not_folder", path=str(workspace.root))
    try:
        data = read_json(workspace.record)
        if data is None and create:
            workspace.own.mkdir(parents=True, exist_ok=True)
            write_json(workspace.record, {"v": VERSION})
    except ValueError as error:
        raise fail("run.workspace_damaged", file=str(workspace.record), reason=str(error)) from error
    except OSError as error:
        raise fail("run.workspace_unwritable", path=str(workspace.root), reason=error.strerror or str(error)) from error
    _check_version(workspace, data)
    return workspace


def _check_version(workspace: Workspace, data: object) -> None:
    if data is None:
        return
    version = data.get("v") if isinstance(data, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise fail("run.workspace_damaged", file=str(workspace.record), reason=f"v: {version!r}")
    if version > VERSION:
        raise fail("run.workspace_newer", file=str(workspace.record), found=version, known=VERSION,
                   path=str(workspace.root))


def list_runs(workspace: Workspace) -> Runs:
    """Return the runs, newest first. A folder that is no run is reported and never fatal; hidden ones are ours."""
    found = Runs()
    try:
        entries = list(workspace.runs.iterdir())
    except FileNotFoundError:
        return found
    except OSError as error:
        found.problems.append(Problem("run.workspace_unreadable", {"path": str(workspace.runs),
                                                                   "reason": error.strerror or str(error)}))
        return found
    aged: list[tuple[str, float, RunPaths]] = []
    for path in entries:
        if path.name.startswith("."):
            continue
        run = RunPaths(path)
        try:
            is_run = path.is_dir() and bool(run.steps()) and run.plan.is_file()
            made = run.plan.stat().st_mtime if is_run else 0.0
        except PermissionError as error:  # another user's private run
            found.problems.append(Problem("run.workspace_unreadable", {"path": str(path), "reason": error.strerror},
                                          file=str(path), severity="warning"))
            continue
        except OSError:
            is_run, made = False, 0.0
        if is_run:
            aged.append((path.name[:10], made, run))
        else:
            found.problems.append(Problem("run.not_a_run", {"path": str(path)}, file=str(path), severity="warning"))
    found.runs = [run for _, _, run in sorted(aged, key=lambda entry: entry[:2], reverse=True)]
    return found
