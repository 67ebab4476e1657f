"""A further round of KTO or DPO: which held-out rows it is measured on, and which old rows join the new ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.plans import plan_stage
from swiftshell.errors import SwiftshellError
from swiftshell.plan import board as boards
from swiftshell.plan import rounds
from swiftshell.plan.board import Entry
from swiftshell.plan.quick import Options, Quick, build
from swiftshell.run import artifact
from swiftshell.run.files import read_json, write_json
from swiftshell.run.workspace import open_workspace
from tests.plan.support import identity, made


def thumbs(path: Path, start: int = 0) -> Path:
    rows = [
        {"prompt": f"Question {i}?", "completion": f"Answer {i}", "label": i % 2 == 0}
        for i in range(start, start + 8)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def one_round(
    workspace: Path,
    sft: Path,
    number: int,
    previous: Path | None,
    data: dict[str, Any],
    *,
    stage: str = "kto",
    lineage: str = "mine",
) -> Path:
    """Write a finished round with the inputs its request names."""
    folder = made(workspace, stage, reference=identity(sft), reference_path=sft, lineage=lineage)
    record = artifact.read(folder)
    assert record is not None
    record["rounds"] = {"number": number, "previous": identity(previous) if previous else None}
    artifact.write(folder, record)
    request = folder.parents[1] / "request.json"
    inputs = {slot: {"kind": "dataset", **given} for slot, given in data.items()}
    write_json(request, {**read_json(request), "inputs": inputs})
    return folder


def given(path: Path, **options: Any) -> dict[str, Any]:
    return {"path": str(path), "name": str(path), "options": options}


def quick(workspace: Path, stage: str = "kto", **options: Any) -> Quick:
    return build(stage, boards.read(workspace / "runs"), Options(**options))


def newest(workspace: Path) -> Entry:
    found = boards.read(workspace / "runs").newest("kto")
    assert found is not None
    return found


@pytest.fixture
def sft(workspace: Path) -> Path:
    return made(workspace, "sft", lineage="mine")


def test_a_round_is_measured_on_the_held_out_rows_of_the_last(
    workspace: Path, sft: Path, tmp_path: Path
) -> None:
    held, old, new = (thumbs(tmp_path / f"{n}.jsonl") for n in ("held", "old", "new"))
    one_round(
        workspace,
        sft,
        1,
        None,
        {"train_data": given(old), "eval_data": given(held, columns={"label": "label"})},
    )
    found = quick(workspace, continue_=True, data=str(new))
    assert found.recipe["data"]["eval_data"] == {"path": str(held), "columns": {"label": "label"}}
    assert found.whys["data.eval_data"] == ("rounds.why_held_out", {"name": str(held), "number": 1})


def test_held_out_rows_that_a_person_names_come_first(workspace: Path, sft: Path, tmp_path: Path) -> None:
    held, other, new = (thumbs(tmp_path / f"{n}.jsonl") for n in ("held", "other", "new"))
    one_round(workspace, sft, 1, None, {"train_data": given(new), "eval_data": given(held)})
    found = quick(workspace, continue_=True, data=str(new), eval_data=str(other))
    assert found.recipe["data"]["eval_data"] == {"path": str(other)}


@pytest.mark.parametrize("stage", ["kto", "dpo"])
def test_the_starter_lineage_has_its_own_held_out_rows(workspace: Path, stage: str) -> None:
    start = made(workspace, "sft")
    one_round(workspace, start, 1, None, {}, stage=stage, lineage="starter")
    assert quick(workspace, stage, continue_=True).recipe["data"]["eval_data"] == {"starter": "heldout"}


def test_held_out_rows_that_are_gone_are_not_planned_with(workspace: Path, sft: Path, tmp_path: Path) -> None:
    new = thumbs(tmp_path / "new.jsonl")
    one_round(workspace, sft, 1, None, {"eval_data": given(tmp_path / "gone.jsonl")})
    assert "eval_data" not in quick(workspace, continue_=True, data=str(new)).recipe["data"]


def test_a_first_round_takes_no_held_out_rows_by_itself(workspace: Path) -> None:
    made(workspace, "sft")
    assert "eval_data" not in quick(workspace).recipe["data"]


def test_replay_takes_the_data_of_all_earlier_rounds_newest_first(
    workspace: Path, sft: Path, tmp_path: Path
) -> None:
    files = [thumbs(tmp_path / f"{n}.jsonl", n * 8) for n in range(3)]
    first = one_round(workspace, sft, 1, None, {"train_data": given(files[0], limit=4)})
    one_round(workspace, sft, 2, first, {"train_data": given(files[1])})
    found = quick(workspace, continue_=True, data=str(files[2]), replay="rounds")
    data = found.recipe["data"]
    assert (data["replay"], data["replay_2"]) == (
        {"path": str(files[1])},
        {"path": str(files[0]), "limit": 4},
    )
    step = found.recipe["steps"][0]
    assert step["inputs"]["replay_data"] == ["data.replay", "data.replay_2"]
    assert step["params"]["replay_ratio"] == 1.0
    assert found.whys["data.replay_2"] == ("rounds.why_replay", {"name": str(files[0]), "number": 1})


def test_a_file_that_two_rounds_were_trained_on_is_replayed_once(
    workspace: Path, sft: Path, tmp_path: Path
) -> None:
    file = thumbs(tmp_path / "same.jsonl")
    first = one_round(workspace, sft, 1, None, {"train_data": given(file)})
    one_round(workspace, sft, 2, first, {"train_data": given(file)})
    assert [e.id for e in rounds.chain(boards.read(workspace / "runs"), newest(workspace))] == [
        newest(workspace).id,
        identity(first),
    ]
    found = quick(workspace, continue_=True, data=str(file), replay="rounds")
    assert found.recipe["steps"][0]["inputs"]["replay_data"] == ["data.replay"]


def test_records_without_rounds_are_followed_by_their_parents(
    workspace: Path, sft: Path, tmp_path: Path
) -> None:
    file = thumbs(tmp_path / "old.jsonl")
    first = one_round(workspace, sft, 1, None, {"train_data": given(file)})
    second = one_round(workspace, sft, 2, None, {})
    record = artifact.read(second)
    assert record is not None
    del record["rounds"]
    artifact.write(
        second, {**record, "parents": [{"slot": "policy", "id": identity(first), "path": str(first)}]}
    )
    chain = rounds.chain(boards.read(workspace / "runs"), newest(workspace))
    assert [e.id for e in chain] == [identity(second), identity(first)]


def test_a_named_file_needs_no_earlier_round(workspace: Path, tmp_path: Path) -> None:
    made(workspace, "sft")
    file = thumbs(tmp_path / "old.jsonl")
    assert quick(workspace, replay=str(file)).recipe["data"]["replay"] == {"path": str(file)}


def refusal(workspace: Path, stage: str = "kto", **options: Any) -> str:
    with pytest.raises(SwiftshellError) as caught:
        quick(workspace, stage, **options)
    assert caught.value.exit_code == 2
    return caught.value.problems[0].code


def test_replay_of_rounds_needs_a_round(workspace: Path) -> None:
    made(workspace, "sft")
    assert refusal(workspace, replay="rounds") == "rounds.nothing_to_replay"


def test_replay_of_data_that_is_gone_is_refused(workspace: Path, sft: Path, tmp_path: Path) -> None:
    one_round(workspace, sft, 1, None, {"train_data": given(tmp_path / "gone.jsonl")})
    new = thumbs(tmp_path / "new.jsonl")
    assert refusal(workspace, continue_=True, data=str(new), replay="rounds") == "rounds.data_gone"


def test_replay_is_for_kto(workspace: Path) -> None:
    made(workspace, "sft")
    assert refusal(workspace, "dpo", replay="rounds") == "rounds.replay_only_kto"


def test_the_plan_checks_old_rows_too_and_shows_the_command(
    workspace: Path, sft: Path, tmp_path: Path
) -> None:
    old, new = thumbs(tmp_path / "old.jsonl"), thumbs(tmp_path / "new.jsonl", 8)
    one_round(workspace, sft, 1, None, {"train_data": given(old)})
    place = open_workspace(workspace)
    for folder in (sft, newest(workspace).path):
        (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    plan = plan_stage(place, "kto", Options(continue_=True, data=str(new)), sets=["replay_ratio=0.5"])
    assert [i.name for i in plan.steps[0].inputs["replay_data"]] == [str(old)]
    assert plan.steps[0].params["replay_ratio"] == 0.5
    assert plan.steps[0].rows["replay_data"] == 8
    again = plan_stage(place, "kto", Options(continue_=True, data=str(new), replay="rounds"))
    assert {"--continue", "--replay", "--data"} <= set(again.command.split())
    assert again.command.split("--replay")[1].split()[0].startswith("--")  # the flag stands without a file
    old.write_text('{"prompt": "Question?", "completion": "", "label": true}\n' * 2, encoding="utf-8")
    with pytest.raises(SwiftshellError) as caught:
        plan_stage(place, "kto", Options(continue_=True, data=str(new), replay="rounds"))
    assert any(p.file == str(old) for p in caught.value.problems)


def test_the_starters_rows_can_be_replayed(workspace: Path) -> None:
    made(workspace, "sft")
    assert quick(workspace, replay="starter").recipe["data"]["replay"] == {"starter": "kto"}


def test_the_board_tells_which_round_a_model_is(workspace: Path, sft: Path) -> None:
    from swiftshell.api.board import board_facts
    from swiftshell.menu.screens.home import _cells
    from swiftshell.render.words import with_round

    first = one_round(workspace, sft, 1, None, {})
    one_round(workspace, sft, 2, first, {})
    stages = {s["stage"]: s for s in board_facts(open_workspace(workspace))["stages"]}
    assert stages["kto"]["newest"]["round"] == 2
    assert stages["sft"]["newest"]["round"] is None
    assert _cells(stages["kto"], None)[0] == "kto.adapter (round 2)"
    assert with_round("kto.adapter", 1) == with_round("kto.adapter", None) == "kto.adapter"


def test_a_round_that_is_worse_is_not_on_the_board(workspace: Path, sft: Path) -> None:
    first = one_round(workspace, sft, 1, None, {})
    worse = one_round(workspace, sft, 2, first, {})
    record = artifact.read(worse)
    assert record is not None
    artifact.write(worse, {**record, "good": False})
    assert newest(workspace).path == first.resolve()


def test_the_list_of_runs_tells_the_round(capsys: pytest.CaptureFixture[str]) -> None:
    from swiftshell.render.runs import print_runs

    step = {"id": "kto", "stage": "kto", "status": "over", "result": "succeeded", "summary": {"rounds": {"number": 3}}}
    print_runs([{"run": "r", "status": "over", "result": "succeeded", "steps": [step]}])
    assert "(round 3)" in capsys.readouterr().out


def test_python_plans_the_same_next_round(workspace: Path, sft: Path, tmp_path: Path) -> None:
    from swiftshell import SwiftApp

    old, new = thumbs(tmp_path / "old.jsonl"), thumbs(tmp_path / "new.jsonl", 8)
    one_round(workspace, sft, 1, None, {"train_data": given(old), "eval_data": given(old)})
    app = SwiftApp.next_round(data=new, replay=True, params={"replay_ratio": 0.5}, workspace=workspace)
    step = app.plan()["steps"][0]
    assert step["inputs"]["policy"][0]["path"] == str(newest(workspace).path)
    assert step["inputs"]["reference"][0]["path"] == str(sft)
    assert [i["name"] for i in step["inputs"]["replay_data"]] == [str(old)]
    assert step["inputs"]["eval_data"][0]["name"] == str(old)
    assert step["inputs"]["eval_data"][0]["why"]["code"] == "rounds.why_held_out"
    assert step["params"]["replay_ratio"] == 0.5
    assert step["lineage"] == "mine"


def test_python_reports_on_what_it_ran_only(tmp_path: Path) -> None:
    from swiftshell import SwiftApp

    app = SwiftApp({"model_type": "starter", "train_type": "sft", "dataset": "starter"}, workspace=tmp_path)
    with pytest.raises(SwiftshellError) as caught:
        app.report()
    assert caught.value.problems[0].code == "report.nothing_run"
