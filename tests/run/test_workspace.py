"""Which folder is the workspace, whether this version may use it, and what lies in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from swiftshell.errors import EXIT_USAGE, SwiftshellError
from swiftshell.jobs import launch
from swiftshell.run.files import read_json, write_json
from swiftshell.run.workspace import find, list_runs, open_workspace


def refused(*args: object, **kwargs: object) -> SwiftshellError:
    with pytest.raises(SwiftshellError) as error:
        open_workspace(*args, **kwargs)  # type: ignore[arg-type]
    assert error.value.exit_code == EXIT_USAGE
    return error.value


def test_flag_then_environment_then_ancestor_then_here(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    assert find(None, {}, deep).root == deep
    (tmp_path / "a" / ".swiftshell").mkdir()
    assert (find(None, {}, deep).root, find(None, {}, deep).why) == (tmp_path / "a", "ancestor")
    environ = {"SWIFTSHELL_WORKSPACE": str(tmp_path / "env")}
    assert (find(None, environ, deep).root, find(None, environ, deep).why) == (tmp_path / "env", "environment")
    assert (find("../c", environ, deep).root, find("../c", environ, deep).why) == (tmp_path / "a" / "c", "flag")
    assert not (tmp_path / "env").exists(), "looking makes nothing"


def test_first_use_makes_the_record_and_looking_does_not(tmp_path: Path) -> None:
    looked = open_workspace(tmp_path / "new", create=False)
    assert not looked.root.exists()
    opened = open_workspace(tmp_path / "new")
    assert read_json(opened.record) == {"v": 1}
    before = opened.record.stat().st_mtime_ns
    assert open_workspace(tmp_path / "new") == opened
    assert opened.record.stat().st_mtime_ns == before


def test_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    write_json(tmp_path / ".swiftshell" / "workspace.json", {"v": 2, "more": True})
    error = refused(tmp_path)
    assert error.problems[0].code == "run.workspace_newer"
    assert error.problems[0].file == str(tmp_path / ".swiftshell" / "workspace.json")
    assert "format 2" in str(error)
    assert read_json(tmp_path / ".swiftshell" / "workspace.json") == {"v": 2, "more": True}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"v": "1"}', '{"v": true}', "{}"])
def test_a_damaged_record(tmp_path: Path, content: str) -> None:
    record = tmp_path / ".swiftshell" / "workspace.json"
    record.parent.mkdir()
    record.write_text(content)
    assert refused(tmp_path).problems[0].code == "run.workspace_damaged"
    record.unlink()  # what the hint says
    open_workspace(tmp_path)


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refused(tmp_path / "file").problems[0].code == "run.workspace_not_folder"
    assert refused(tmp_path / "file" / "below").problems[0].code == "run.workspace_unwritable"


def test_a_folder_nobody_can_write() -> None:
    """/proc refuses even root."""
    error = refused("/proc")
    assert (error.problems[0].code, error.problems[0].values["path"]) == ("run.workspace_unwritable", "/proc")


def test_runs_newest_first_and_garbage_named(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    assert list_runs(workspace).runs == []
    request = {"v": 1, "stage": "echo"}
    for number, run_id in enumerate(("2026-01-02-b-aaaa", "2026-01-02-a-aaaa", "2025-12-31-z-aaaa")):
        run = launch.create(workspace.runs, run_id, "", {"v": 1}, {"one": request})
        os.utime(run.plan, (1000 + number, 1000 + number))
    (workspace.runs / "notes").mkdir()
    (workspace.runs / "file.txt").write_text("")
    (workspace.runs / ".new-2026-01-01-x-aaaa").mkdir()
    (workspace.runs / "dangling").symlink_to(tmp_path / "nowhere")
    found = list_runs(workspace)
    assert [r.id for r in found.runs] == ["2026-01-02-a-aaaa", "2026-01-02-b-aaaa", "2025-12-31-z-aaaa"]
    assert {Path(p.file or "").name for p in found.problems} == {"notes", "file.txt", "dangling"}
    assert {p.code for p in found.problems} == {"run.not_a_run"}


def test_runs_as_a_file_are_reported(tmp_path: Path) -> None:
    workspace = open_workspace(tmp_path)
    workspace.runs.write_text("")
    found = list_runs(workspace)
    assert (found.runs, [p.code for p in found.problems]) == ([], ["run.workspace_unreadable"])
