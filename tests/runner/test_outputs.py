"""Results, gates, dependencies, restored steps and published outputs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from swiftshell.errors import EXIT_NO_RESOURCES, EXIT_STAGE, EXIT_USAGE, SwiftshellError
from swiftshell.jobs import control, launch, reconcile
from swiftshell.run import artifact, lock

from . import lab


@pytest.mark.parametrize(("ending", "code", "exit_code"), [
    ("fail", "engine.echo_failed", EXIT_STAGE), ("defect", "core.defect", EXIT_STAGE),
    ("exit", "run.worker_silent", EXIT_STAGE), ("gate", "engine.echo_gate", EXIT_STAGE)])
def test_a_failing_step(workspace: Path, ending: str, code: str, exit_code: int) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1, "ending": ending}, "two": {"ticks": 1, "after": "one"},
                               "three": {"ticks": 1, "after": "two"}, "four": {"ticks": 1}})
    one, *_ = run.steps()
    lab.start(run)
    ended = lab.settled(run)
    assert (ended.status, ended.result, ended.exit_code) == ("over", "failed", exit_code)
    assert [s.result for s in ended.steps] == ["failed", "skipped", "skipped", "succeeded"]
    assert [p.code for p in ended.steps[0].problems] == [code]
    assert ended.steps[1].message is not None
    assert ended.steps[1].message.values == {"step": "two", "needs": "one"}
    assert not one.out.exists()
    assert not one.partial(1).exists()
    kept = lab.result(one)["outputs"]
    assert kept == ({"note": "out.rejected-001/note"} if ending == "gate" else {})
    if ending == "gate":
        record = artifact.read(one.root / kept["note"])
        assert record is not None
        assert record["good"] is False


def test_resume_tries_what_failed_again_and_then_what_needed_it(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1, "ending": "fail"}, "two": {"ticks": 1, "after": "one"}})
    one, _ = run.steps()
    lab.start(run)
    lab.settled(run)
    one.request.write_text(one.request.read_text().replace('"fail"', '"succeed"'))
    assert control.resume(run).how == "retry"
    ended = control.wait(run, 60)
    assert [s.result for s in ended.steps] == ["succeeded", "succeeded"]
    assert [s.attempt for s in ended.steps] == [2, 1]


def test_a_missing_environment_is_named_before_the_start(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1, "python": "/nowhere/bin/python"}})
    lab.start(run)
    ended = lab.settled(run)
    assert (ended.result, ended.exit_code) == ("failed", EXIT_NO_RESOURCES)
    assert ended.steps[0].problems[0].values["path"] == "/nowhere/bin/python"


def test_another_python_and_environment_for_the_worker(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 1, "python": sys.executable, "env": {"MARK": "set"}}})
    lab.start(run)
    lab.settled(run)
    assert lab.result(run.steps()[0])["result"] == "succeeded"


class TestPublishing:
    def test_the_artifact_at_the_new_place_knows_where_it_lies(self, workspace: Path) -> None:
        target = workspace / "deep" / "er" / "out"
        run = lab.make(workspace, {"one": {"ticks": 1, "publish": str(target)}})
        lab.start(run)
        lab.settled(run)
        record = artifact.read(target)
        assert record is not None
        assert (record["path"], record["id"]) == (str(target), f"{run.id}/one/note")
        assert artifact.damaged(target, hashes=True) == []
        assert lab.result(run.steps()[0])["published"] == str(target)
        (target / "note.txt").write_text("edited\n")
        assert artifact.damaged(run.steps()[0].out / "note", hashes=True) == []

    def test_the_same_place_twice_at_once_is_refused_by_name(self, workspace: Path) -> None:
        target = workspace / "out"
        first = lab.make(workspace, {"one": {"ticks": 150, "tick_s": 0.02, "publish": str(target)}})
        second = lab.make(workspace, {"one": {"ticks": 1, "publish": str(target)}})
        lab.start(first)
        lab.ticked(first.steps()[0], 1)
        lab.start(second)
        refused = lab.settled(second)
        assert (refused.result, refused.exit_code) == ("failed", EXIT_USAGE)
        told = refused.steps[0].problems[0]
        assert (told.code, told.values["run"], told.values["pid"]) == ("run.output_busy", first.id,
                                                                       lab.runner_pid(first))
        assert second.steps()[0].attempts() == [], "nothing was computed for a place that is taken"
        control.stop(first, "kill")
        lab.settled(first)
        assert lab.resumed_to_end(second).result == "succeeded"
        again = control.resume(first)
        assert again.how == "retry"
        taken = lab.settled(first)
        assert taken.steps[0].problems[0].code == "run.output_exists"

    def test_an_orphaned_worker_still_holds_its_place(self, workspace: Path) -> None:
        target = workspace / "out"
        run = lab.make(workspace, {"one": {"ticks": 100, "tick_s": 0.02, "publish": str(target)}})
        lab.start(run)
        lab.ticked(run.steps()[0], 1)
        lab.kill_runner(run)
        assert lock.busy(workspace / ".out.swiftshell.lock")
        control.resume(run)
        assert control.wait(run, 60).result == "succeeded"
        assert (target / "note.txt").exists()

    def test_what_lies_there_is_never_overwritten_and_work_is_not_repeated(self, workspace: Path) -> None:
        target = workspace / "out"
        run = lab.make(workspace, {"one": {"ticks": 60, "tick_s": 0.02, "publish": str(target)}})
        (one,) = run.steps()
        lab.start(run)
        lab.ticked(one, 1)
        target.mkdir()
        (target / "thesis.tex").write_text("mine")
        ended = lab.settled(run)
        assert ended.steps[0].problems[0].code == "run.output_exists"
        assert [p.name for p in target.iterdir()] == ["thesis.tex"]
        assert (one.out / "note" / "note.txt").exists(), "the output itself is safe"
        target.rename(workspace / "thesis")
        assert control.resume(run).how == "finish"
        assert control.wait(run, 60).result == "succeeded"
        assert lab.starts(one) == [1]
        assert (target / "note.txt").exists()

    def test_a_file_and_a_full_folder_are_refused_before_the_work(self, workspace: Path) -> None:
        (workspace / "file").write_text("x")
        (workspace / "full").mkdir()
        (workspace / "full" / "x").write_text("x")
        for name in ("file", "full"):
            run = lab.make(workspace, {"one": {"ticks": 1, "publish": str(workspace / name)}})
            lab.start(run)
            ended = lab.settled(run)
            assert ended.steps[0].problems[0].code == "run.output_exists"
            assert run.steps()[0].attempts() == []

    def test_an_empty_folder_is_taken(self, workspace: Path) -> None:
        (workspace / "out").mkdir()
        run = lab.make(workspace, {"one": {"ticks": 1, "publish": str(workspace / "out")}})
        lab.start(run)
        assert lab.settled(run).result == "succeeded"
        assert (workspace / "out" / "note.txt").exists()

    def test_a_place_under_a_file_cannot_be_written(self, workspace: Path) -> None:
        (workspace / "file").write_text("x")
        run = lab.make(workspace, {"one": {"ticks": 1, "publish": str(workspace / "file" / "out")}})
        lab.start(run)
        assert lab.settled(run).steps[0].problems[0].code == "run.output_unwritable"


class TestRestoring:
    def test_a_restored_step_points_at_the_earlier_output(self, workspace: Path) -> None:
        first = lab.make(workspace, {"one": {"ticks": 1}})
        lab.start(first)
        lab.settled(first)
        source = first.steps()[0]
        second = lab.make(workspace, {"one": {"ticks": 1, "restored_from": str(source.root)},
                                      "two": {"ticks": 1, "after": "one"}})
        lab.start(second)
        ended = lab.settled(second)
        assert [s.result for s in ended.steps] == ["succeeded", "succeeded"]
        one = second.steps()[0]
        assert one.attempts() == []
        assert lab.result(one)["restored_from"] == str(source.root)
        assert lab.result(one)["outputs"] == {"note": str(source.out / "note")}
        assert ended.steps[0].restored_from == str(source.root)
        record = artifact.read(one.out / "note")
        assert record is not None
        assert record["path"] == str(source.out / "note")
        third = lab.make(workspace, {"one": {"ticks": 1, "restored_from": str(one.root),
                                             "publish": str(workspace / "out")}})
        lab.start(third)
        assert lab.settled(third).result == "succeeded"
        assert lab.result(third.steps()[0])["outputs"] == {"note": str(source.out / "note")}
        assert (workspace / "out" / "note.txt").exists()

    def test_a_source_that_is_gone_or_cut_is_run_instead(self, workspace: Path) -> None:
        first = lab.make(workspace, {"one": {"ticks": 1}})
        lab.start(first)
        lab.settled(first)
        source = first.steps()[0]
        (source.out / "note" / "note.txt").write_text("")
        second = lab.make(workspace, {"one": {"ticks": 1, "restored_from": str(source.root)}})
        lab.start(second)
        assert lab.settled(second).result == "succeeded"
        assert lab.starts(second.steps()[0]) == [1]
        assert lab.result(second.steps()[0])["restored_from"] is None
        assert not (second.steps()[0].out).is_symlink()
        assert not (second.steps()[0].out / "note").is_symlink()


class TestCreating:
    def test_a_run_is_complete_before_it_is_seen(self, workspace: Path) -> None:
        run = lab.make(workspace, {"one": {}, "two": {"after": "one"}})
        assert sorted(p.name for p in run.root.iterdir()) == ["plan.json", "recipe.yaml", "requests", "run.lock",
                                                              "state.json", "steps"]
        assert [s.root.name for s in run.steps()] == ["01-one", "02-two"]
        assert reconcile.status(run).status == "waiting"
        assert [s.status for s in reconcile.status(run).steps] == ["waiting", "waiting"]
        assert [p.name for p in run.root.parent.iterdir()] == [run.id]

    def test_names(self, workspace: Path) -> None:
        run_id = launch.new_run_id(workspace, "Qwen2.5 7B/KTO 中文")
        date, rest = run_id[:10], run_id[11:]
        assert len(date.split("-")) == 3
        assert rest.rpartition("-")[0] == "qwen2-5-7b-kto"
        assert launch.new_run_id(workspace, "中文")[11:].rpartition("-")[0] == "run"
        assert len({launch.new_run_id(workspace, "kto") for _ in range(50)}) > 45

    def test_a_taken_name_is_refused_and_the_old_run_stays(self, workspace: Path) -> None:
        run = lab.make(workspace, {"one": {}})
        with pytest.raises(SwiftshellError) as refused:
            launch.create(run.root.parent, run.id, "", {}, {})
        assert refused.value.problems[0].code == "run.id_taken"
        assert [s.id for s in run.steps()] == ["one"]

    def test_a_folder_that_cannot_be_written(self, workspace: Path) -> None:
        (workspace / "file").write_text("")
        with pytest.raises(SwiftshellError) as refused:
            launch.create(workspace / "file" / "runs", "x", "", {}, {"one": {}})
        assert refused.value.problems[0].code == "run.folder_unwritable"

    def test_a_runner_that_cannot_start_is_told_with_its_log(self, workspace: Path,
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
        broken = workspace / "python"
        broken.write_text("#!/bin/sh\necho no interpreter here >&2\nexit 1\n")
        os.chmod(broken, 0o755)
        monkeypatch.setattr(sys, "executable", str(broken))
        run = lab.make(workspace, {"one": {}})
        with pytest.raises(SwiftshellError) as failed:
            launch.start(run.root)
        assert failed.value.problems[0].code == "run.runner_ended"
        assert "no interpreter here" in str(failed.value)


def test_a_workspace_with_spaces_and_chinese_in_an_ascii_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "C")
    monkeypatch.setenv("LC_ALL", "C")
    place = tmp_path / "工作 区 'x'"
    place.mkdir()
    run = lab.make(place, {"one": {"ticks": 1, "text": "你好", "publish": str(place / "输出")}})
    lab.start(run)
    assert lab.settled(run).result == "succeeded"
    assert (place / "输出" / "note.txt").read_text(encoding="utf-8") == "你好\n"
