"""Recipes become plans: inputs bound, references held to the rule, work done before recognised, nothing changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftshell.api.plans import plan_recipe, plan_stage, plan_target
from swiftshell.errors import SwiftshellError
from swiftshell.plan.model import Plan
from swiftshell.plan.quick import Options
from swiftshell.recipe.catalog import shipped
from swiftshell.recipe.load import parse_recipe
from swiftshell.run.workspace import open_workspace
from tests.plan.support import identity, made

PIPELINE = """
schema: 1
name: small
models: {m: {starter: true}}
data: {chat: {starter: sft}, thumbs: {starter: kto}, pairs: {starter: dpo}}
steps:
  - {id: base, stage: download, inputs: {model: models.m}}
  - {id: sft, stage: sft, inputs: {policy: base.model, train_data: data.chat}}
  - {id: kto, stage: kto, inputs: {policy: sft.adapter, reference: %s, train_data: data.thumbs}}
  - {id: again, stage: kto, inputs: {policy: kto.adapter, reference: %s, train_data: data.thumbs}}
"""


def plan(workspace: Path, text: str) -> Plan:
    return plan_recipe(open_workspace(workspace), parse_recipe(text, None))


def refused(workspace: Path, text: str) -> list[str]:
    with pytest.raises(SwiftshellError) as caught:
        plan(workspace, text)
    assert caught.value.exit_code == 2
    return [p.code for p in caught.value.problems if p.severity == "error"]


def test_inputs_made_in_the_same_run_point_into_it(workspace: Path) -> None:
    found = plan(workspace, PIPELINE % ("sft.adapter", "sft.adapter"))
    kto = found.steps[2]
    assert kto.inputs["policy"][0].path == workspace / "runs" / found.run / "steps" / "02-sft" / "out" / "adapter"
    assert {s.lineage for s in found.steps} == {"starter"}
    assert kto.params["beta"] == 0.1
    assert kto.rows["train_data"] >= 600


@pytest.mark.parametrize(("first", "second"), [("base.model", "sft.adapter"), ("sft.adapter", "kto.adapter")])
def test_the_base_or_the_previous_kto_as_reference_is_refused(workspace: Path, first: str, second: str) -> None:
    assert refused(workspace, PIPELINE % (first, second)) == ["plan.reference_not_sft"]


def test_another_reference_by_name_is_allowed_and_said(workspace: Path) -> None:
    text = (PIPELINE % ("sft.adapter", "kto.adapter")).rstrip()[:-1] + ", params: {other_reference: true}}\n"
    assert [n.code for n in plan(workspace, text).notes if n.severity == "warning" and n.code.startswith("plan")] == [
        "plan.other_reference"]


def test_the_board_gives_the_rule_its_facts_across_runs(workspace: Path) -> None:
    sft = made(workspace, "sft")
    kto = made(workspace, "kto", reference=identity(sft), reference_path=sft)
    opened = open_workspace(workspace)
    assert plan_stage(opened, "kto", Options(continue_=True)).steps[0].inputs["reference"][0].path == sft
    with pytest.raises(SwiftshellError) as caught:
        plan_stage(opened, "kto", Options(policy=str(kto), reference=str(kto)))
    assert "plan.reference_not_sft" in {p.code for p in caught.value.problems}


def test_planning_changes_nothing(workspace: Path) -> None:
    opened = open_workspace(workspace)
    before = sorted(str(p) for p in workspace.rglob("*"))
    plan_target(opened, "download")
    after = sorted(str(p) for p in workspace.rglob("*"))
    assert [p for p in after if "/cache" not in p] == before
    assert not (workspace / "runs").exists()


@pytest.mark.parametrize("recipe", shipped(), ids=lambda r: r.name)
def test_every_shipped_recipe_plans(workspace: Path, recipe: object, tmp_path: Path) -> None:
    """Placeholders for the user's own files are filled with rows of the right shape, beside a copy of the recipe."""
    import shutil

    from swiftshell.starter import DATA_DIR

    path = tmp_path / "recipe.yaml"
    shutil.copy(recipe.path, path)  # type: ignore[attr-defined]
    text = path.read_text(encoding="utf-8")
    for line in text.splitlines():
        if "path:" not in line or line.lstrip().startswith("#"):
            continue
        name = line.split("path:")[1].split(",")[0].strip(" }").strip()
        kind = next((k for k in ("pairs", "thumbs", "heldout", "chat") if k in name), "chat")
        source = {"pairs": "dpo", "thumbs": "kto", "heldout": "heldout", "chat": "sft"}[kind]
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DATA_DIR / f"{source}.jsonl", target)
    found = plan_target(open_workspace(workspace), str(path))
    assert found.steps
    assert all(s.fingerprint for s in found.steps)
    assert not any("revision" in str(i.options) and i.options.get("revision") for s in found.steps
                   for refs in s.inputs.values() for i in refs), "shipped recipes name no revision"


def test_a_hub_model_used_directly_gets_its_download(workspace: Path) -> None:
    text = """
schema: 1
name: x
models: {m: {repo: org/name}}
data: {d: {starter: sft}}
steps:
  - {id: sft, stage: sft, inputs: {policy: models.m, train_data: data.d}}
"""
    found = plan(workspace, text)
    assert [(s.stage, s.implied, s.network) for s in found.steps] == [("download", True, True), ("sft", False, False)]
    assert found.steps[1].inputs["policy"][0].producer == "download-m"


def test_bad_rows_stop_a_plan_with_their_numbers(workspace: Path) -> None:
    rows = workspace / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b", "label": true}\n{"prompt": "a", "completion": "c"}\n'
                    '{"prompt": "a", "completion": "d", "label": "perhaps"}\n', encoding="utf-8")
    made(workspace, "sft", lineage="mine")
    with pytest.raises(SwiftshellError) as caught:
        plan_stage(open_workspace(workspace), "kto", Options(data=str(rows)))
    said = str(caught.value)
    assert "row 2" in said
    assert "row 3" in said
    assert "perhaps" in said


def test_an_output_folder_that_holds_something_is_refused(workspace: Path) -> None:
    (workspace / "out").mkdir()
    (workspace / "out" / "mine.txt").touch()
    text = "schema: 1\nname: x\nsteps:\n  - {id: a, stage: echo, output_dir: out}\n"
    assert refused(workspace, text) == ["plan.output_exists"]


def test_a_full_disk_is_found_before_the_start(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIFTSHELL_FREE_DISK_GIB", "0.01")
    assert refused(workspace, "schema: 1\nname: x\nsteps:\n  - {id: a, stage: echo}\n") == ["plan.disk_short"]


def test_a_flag_that_means_nothing_to_a_recipe_is_refused(workspace: Path) -> None:
    with pytest.raises(SwiftshellError) as caught:
        plan_target(open_workspace(workspace), "starter/all-stages", Options(model="starter"))
    assert caught.value.problems[0].code == "plan.options_ignored"


def test_an_unknown_target_names_the_nearest(workspace: Path) -> None:
    with pytest.raises(SwiftshellError) as caught:
        plan_target(open_workspace(workspace), "merg")
    assert "merge" in str(caught.value)


def test_held_out_prompts_that_were_trained_on_are_named(workspace: Path) -> None:
    rows = '{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n'
    (workspace / "sft.jsonl").write_text(rows, encoding="utf-8")
    (workspace / "held.jsonl").write_text('{"prompt": "x", "reference": "y"}\n{"prompt": "c", "reference": "d"}\n',
                                          encoding="utf-8")
    text = """
schema: 1
name: x
models: {m: {starter: true}}
data: {d: {path: sft.jsonl}, h: {path: %s}}
steps:
  - {id: base, stage: download, inputs: {model: models.m}}
  - {id: sft, stage: sft, inputs: {policy: base.model, train_data: data.d}}
  - {id: score, stage: evaluate, inputs: {models: [base.model, sft.adapter], eval_data: data.h}}
"""
    said = {n.code: n.values for n in plan(workspace, text % "held.jsonl").notes}
    assert said["plan.leak"]["rows"] == 1
    (workspace / "clean.jsonl").write_text('{"prompt": "x", "reference": "y"}\n', encoding="utf-8")
    assert "plan.leak" not in {n.code for n in plan(workspace, text % "clean.jsonl").notes}


@pytest.mark.parametrize("named", [{"policy": "starter"}, {"model": "org/name"},
                                   {"policy": "starter", "reference": "starter"}])
def test_a_named_start_that_is_not_here_yet_is_its_own_reference(workspace: Path, named: dict[str, str]) -> None:
    rows = workspace / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b", "label": true}\n'
                    '{"prompt": "c", "completion": "d", "label": false}\n', encoding="utf-8")
    found = plan_stage(open_workspace(workspace), "kto", Options(data=str(rows), **named))  # type: ignore[arg-type]
    assert [s.stage for s in found.steps] == ["download", "kto"]
    kto = found.steps[1]
    assert kto.inputs["policy"][0].path == kto.inputs["reference"][0].path
