"""What `run <stage>` chooses from the board, why, and what it says when there is nothing to choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import sentence, set_language, t
from swiftshell.plan import board as boards
from swiftshell.plan.quick import Options, Quick, build
from tests.plan.support import identity, made


def quick(workspace: Path, stage: str, **options: object) -> Quick:
    return build(stage, boards.read(workspace / "runs"), Options(**options))  # type: ignore[arg-type]


def chosen(found: Quick, slot: str) -> str:
    return str(found.recipe["models"][slot]["path"])


def refusal(workspace: Path, stage: str, **options: object) -> str:
    with pytest.raises(SwiftshellError) as caught:
        quick(workspace, stage, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize(("stage", "command"), [
    ("sft", "swiftshell run download"), ("kto", "swiftshell run download"), ("dpo", "swiftshell run download"),
    ("merge", "swiftshell run sft"), ("quantize", "swiftshell run merge"), ("infer", "swiftshell run download"),
    ("evaluate", "swiftshell run download"),
])
def test_with_nothing_to_start_from_a_command_is_named(workspace: Path, stage: str, command: str) -> None:
    assert command in refusal(workspace, stage)


def test_kto_without_sft_names_sft_once_a_model_is_there(workspace: Path) -> None:
    made(workspace, "download", kind="model")
    assert "swiftshell run sft" in refusal(workspace, "kto")


def test_download_takes_the_starter_by_itself(workspace: Path) -> None:
    found = quick(workspace, "download")
    assert found.recipe["models"] == {"model": {"starter": True}}
    assert found.lineage == "starter"


def test_kto_starts_from_the_newest_sft_and_is_held_against_it(workspace: Path) -> None:
    made(workspace, "download", kind="model")
    made(workspace, "sft")
    newest = made(workspace, "sft")
    found = quick(workspace, "kto")
    assert chosen(found, "policy") == chosen(found, "reference") == str(newest)
    assert found.whys["models.policy"][0] == "plan.why_newest_sft"
    assert found.whys["models.reference"][0] == "plan.why_reference_sft"


def test_continue_keeps_the_reference_of_the_last_kto(workspace: Path) -> None:
    sft = made(workspace, "sft")
    kto = made(workspace, "kto", reference=identity(sft), reference_path=sft)
    made(workspace, "sft")  # a newer SFT model does not become the reference of the old line
    found = quick(workspace, "kto", continue_=True)
    assert (chosen(found, "policy"), chosen(found, "reference")) == (str(kto), str(sft))


def test_continue_without_a_kto_says_to_run_it_without(workspace: Path) -> None:
    made(workspace, "sft")
    assert "swiftshell run kto" in refusal(workspace, "kto", continue_=True)


def test_dpo_continues_the_kto_of_this_sft_model_against_the_sft_model(workspace: Path) -> None:
    sft = made(workspace, "sft")
    kto = made(workspace, "kto", reference=identity(sft), reference_path=sft)
    found = quick(workspace, "dpo")
    assert (chosen(found, "policy"), chosen(found, "reference")) == (str(kto), str(sft))


def test_dpo_starts_from_a_newer_sft_model_not_from_an_older_ones_kto(workspace: Path) -> None:
    old = made(workspace, "sft")
    made(workspace, "kto", reference=identity(old), reference_path=old)
    new = made(workspace, "sft")
    assert chosen(quick(workspace, "dpo"), "policy") == str(new)


def test_merge_takes_the_newest_adapter_and_quantize_the_newest_full_model(workspace: Path) -> None:
    made(workspace, "sft")
    dpo = made(workspace, "dpo", reference="x")
    merged = made(workspace, "merge", kind="model")
    assert chosen(quick(workspace, "merge"), "adapter") == str(dpo)
    assert chosen(quick(workspace, "quantize"), "model") == str(merged)


def test_what_a_gate_refused_or_a_failed_step_left_is_never_chosen(workspace: Path) -> None:
    sft = made(workspace, "sft")
    made(workspace, "sft", good=False)
    made(workspace, "sft", result="failed")
    assert chosen(quick(workspace, "kto"), "policy") == str(sft)


def test_the_lineage_worked_on_last_is_taken_and_can_be_chosen(workspace: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b", "label": true}\n', encoding="utf-8")
    other = made(workspace, "sft", lineage="qwen2.5-7b")
    starter = made(workspace, "sft", lineage="starter")
    assert chosen(quick(workspace, "kto"), "policy") == str(starter)
    found = quick(workspace, "kto", lineage="qwen2.5-7b", data=str(rows))
    assert chosen(found, "policy") == str(other)
    assert "qwen2.5-7b" in refusal(workspace, "kto", lineage="nope")


def test_another_lineage_than_the_starters_needs_its_own_data(workspace: Path) -> None:
    made(workspace, "sft", lineage="qwen2.5-7b")
    assert "--data" in refusal(workspace, "kto")


def test_settings_for_the_tiny_starter_are_not_used_for_other_models(workspace: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b", "label": true}\n', encoding="utf-8")
    made(workspace, "sft", lineage="starter")
    assert quick(workspace, "kto").recipe["steps"][0]["params"]
    made(workspace, "sft", lineage="qwen2.5-7b")
    assert not quick(workspace, "kto", data=str(rows)).recipe["steps"][0]["params"]


def test_evaluate_follows_the_lineage_in_pipeline_order(workspace: Path) -> None:
    made(workspace, "merge", kind="model")
    made(workspace, "download", kind="model")
    made(workspace, "kto", reference="x")
    made(workspace, "sft")
    assert quick(workspace, "evaluate").recipe["steps"][0]["inputs"]["models"] == [
        "models.base", "models.sft", "models.kto", "models.merge"]


def test_a_wrong_path_names_the_nearest_file(workspace: Path) -> None:
    made(workspace, "sft")
    (workspace / "thumbs.jsonl").write_text("{}\n", encoding="utf-8")
    said = refusal(workspace, "kto", data="thumb.jsonl")
    assert "'thumb.jsonl'" in said
    assert "thumbs.jsonl" in said.split("hint")[1]


def test_a_model_that_is_nothing_is_refused_without_asking_any_hub(workspace: Path) -> None:
    assert "'no such model'" in refusal(workspace, "sft", model="no such model")


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_reason_is_a_sentence_in_both_languages(workspace: Path, lang: str) -> None:
    sft = made(workspace, "sft")
    made(workspace, "kto", reference=identity(sft), reference_path=sft)
    set_language(lang)
    try:
        for stage, options in (("kto", {}), ("kto", {"continue_": True}), ("dpo", {}), ("merge", {}), ("evaluate", {})):
            for code, values in quick(workspace, stage, **options).whys.values():
                said = t(code, **values)
                assert said != code
                assert "{" not in said
        with pytest.raises(SwiftshellError) as caught:
            quick(workspace, "quantize")
        assert "{" not in sentence(caught.value.problems[0])
    finally:
        set_language("auto")


def test_a_model_from_elsewhere_gets_neither_the_starters_settings_nor_its_rows(workspace: Path, tmp_path: Path) -> None:
    made(workspace, "download", kind="model")
    (tmp_path / "other").mkdir()
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    assert quick(workspace, "sft").recipe["steps"][0]["params"] != {}
    found = quick(workspace, "sft", model=str(tmp_path / "other"), data=str(rows))
    assert (found.recipe["steps"][0]["params"], found.lineage) == ({}, "")
    assert "--data" in refusal(workspace, "sft", model=str(tmp_path / "other"))
    assert quick(workspace, "sft", model="org/name", data=str(rows)).recipe["steps"][0]["params"] == {}


def test_a_reference_by_name_does_not_change_the_lineage(workspace: Path, tmp_path: Path) -> None:
    made(workspace, "sft", lineage="mine")
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "a", "completion": "b", "label": true}\n', encoding="utf-8")
    found = quick(workspace, "kto", reference="starter", data=str(rows))
    assert (found.recipe["steps"][0]["params"], found.lineage) == ({}, "mine")


def test_a_folder_that_a_run_here_made_keeps_its_lineage(workspace: Path) -> None:
    sft = made(workspace, "sft", lineage="mine")
    assert quick(workspace, "merge", model=str(sft)).lineage == "mine"
