"""The first screen: what it suggests, what it offers, and why not the rest."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.board import board_facts
from swiftshell.i18n import catalogue
from swiftshell.menu.rows import Row
from swiftshell.menu.screens.home import home_rows, moment
from swiftshell.menu.session import Session
from swiftshell.run.files import write_json
from swiftshell.run.paths import StepPaths
from swiftshell.stages import registry
from tests.plan.support import made


def facts_of(workspace: Path, lineage: str | None = None) -> dict[str, Any]:
    return board_facts(Session.open(str(workspace)).workspace, lineage)


def rows_of(workspace: Path) -> dict[str, Row[str]]:
    session = Session.open(str(workspace))
    rows = home_rows(board_facts(session.workspace), session)
    return {row.value: row for row in rows if isinstance(row, Row)}


def test_a_new_workspace_begins_with_something_to_try(workspace: Path, language: Callable[[str], None]) -> None:
    rows = rows_of(workspace)
    assert next(iter(rows)) == "try"
    assert not rows["stage:download"].disabled
    assert rows["stage:sft"].disabled == "needs a model: run download first"
    assert rows["stage:kto"].disabled == "needs an SFT model: run sft first"
    assert rows["stage:merge"].disabled == "needs an adapter: run sft first"
    assert rows["stage:quantize"].disabled == "needs a merged model: run merge first"
    assert "chat" not in rows
    assert "runs" not in rows


def test_looking_writes_nothing(workspace: Path) -> None:
    rows_of(workspace)
    assert list(workspace.iterdir()) == []


def test_every_stage_stands_on_the_board_in_order(workspace: Path) -> None:
    stages = [value for value in rows_of(workspace) if value.startswith("stage:")]
    assert stages == [f"stage:{name}" for name in registry.PIPELINE]


@pytest.mark.parametrize(("done", "suggested"), [
    ((), "download"), (("download",), "sft"), (("download", "sft"), "kto"), (("download", "sft", "kto"), "dpo"),
    (("download", "sft", "kto", "dpo"), "merge"), (("download", "sft", "kto", "dpo", "merge"), "infer"),
    (("download", "sft", "kto", "dpo", "merge", "infer", "quantize", "evaluate", "kto"), "dpo"),
    (("download", "sft", "kto", "dpo", "merge", "infer", "quantize", "evaluate"), None),
])
def test_what_comes_next(workspace: Path, done: tuple[str, ...], suggested: str | None) -> None:
    """The stage after the one done last; after a second KTO the pipeline goes on from there."""
    kinds = {"download": "model", "merge": "model", "quantize": "quantized_model", "infer": "answers", "evaluate": "report"}
    for stage in done:
        made(workspace, stage, kind=kinds.get(stage, "adapter"), slot=kinds.get(stage))
    assert facts_of(workspace)["next"] == suggested
    if suggested is not None and done:
        assert next(iter(rows_of(workspace))) == f"next:{suggested}"


def test_data_to_be_chosen_does_not_make_a_stage_impossible(workspace: Path) -> None:
    """The form asks for it."""
    made(workspace, "download", kind="model", lineage="qwen")
    assert next(s for s in facts_of(workspace)["stages"] if s["stage"] == "sft")["possible"]


def test_lineages_can_be_switched_when_there_are_several(workspace: Path) -> None:
    made(workspace, "download", kind="model")
    assert "lineage" not in rows_of(workspace)
    made(workspace, "download", kind="model", lineage="qwen")
    assert "lineage" in rows_of(workspace)
    assert facts_of(workspace)["lineage"] == "qwen"
    assert facts_of(workspace, "starter")["lineage"] == "starter"
    assert facts_of(workspace, "gone")["lineage"] == "qwen"


def test_an_evaluated_model_shows_its_share(workspace: Path, language: Callable[[str], None]) -> None:
    sft = made(workspace, "sft")
    report = made(workspace, "evaluate", kind="report", slot="report")
    step = StepPaths(report.parents[1])
    write_json(step.request, {"stage": "evaluate", "inputs": {"models": [{"path": str(sft)}]}})
    models = [{"name": "sft.adapter", "metrics": {"desirable_share": [0.62, 0.5, 0.7]}}]
    write_json(step.result, {"v": 1, "result": "succeeded", "ended": "2026-11-26T00:00:00+00:00",
                             "outputs": {"report": "out/report"}, "summary": {"models": models}})
    assert "62 %" in rows_of(workspace)["stage:sft"].detail


def test_a_running_step_is_shown_and_nothing_is_suggested_meanwhile(workspace: Path, monkeypatch: pytest.MonkeyPatch,
                                                                    language: Callable[[str], None]) -> None:
    """What it makes may be what the next stage starts from."""
    made(workspace, "download", kind="model")
    step = {"run": "r1", "step": "sft", "stage": "sft", "status": "running", "phase": "training",
            "progress": {"done": 3, "total": 12}}
    monkeypatch.setattr("swiftshell.api.board.live_steps", lambda _workspace: [step])
    facts = facts_of(workspace)
    assert facts["next"] is None
    rows = rows_of(workspace)
    assert next(iter(rows)) == "watch:r1"
    assert "25 %" in rows["stage:sft"].detail
    assert rows["jobs"].text == "Running jobs (1)"


def test_when() -> None:
    assert moment("nonsense") == ""
    assert re.fullmatch(r"\d\d-\d\d", moment("2020-02-03T10:00:00+00:00"))


def used_keys(repository: Path) -> set[str]:
    """Every catalogue key of the menu that its code names as a whole."""
    sources = (repository / "swiftshell" / "menu").rglob("*.py")
    return {key for path in sources for key in re.findall(r'"(menu\.[a-z0-9_.]+[a-z0-9])"', path.read_text(encoding="utf-8"))}


def test_every_sentence_exists(repository: Path) -> None:
    keys = used_keys(repository)
    assert len(keys) > 60
    missing = {key for key in keys if key not in catalogue("en") or key not in catalogue("zh")}
    assert missing == {key for key in missing if any(k.startswith(key) for k in catalogue("en"))}  # f-strings' beginnings


def test_chinese_holds_no_english_leftovers() -> None:
    """Names, keys and commands may stay; sentences may not."""
    allowed = re.compile(r"[{}a-zA-Z0-9_.:/=*↑↓←<>-]+")
    for key, text in catalogue("zh").items():
        if key.startswith("menu.") and key not in ("menu.title", "menu.language"):
            assert re.search(r"[\u4e00-\u9fff]", allowed.sub("", text)), (key, text)
