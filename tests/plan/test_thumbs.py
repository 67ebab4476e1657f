"""What the plan of a KTO step says of its rows, and what it refuses before anything starts."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.plans import plan_recipe, plan_stage
from swiftshell.errors import SwiftshellError
from swiftshell.plan.model import Plan
from swiftshell.plan.quick import Options
from swiftshell.recipe.load import parse_recipe
from swiftshell.render.plan import print_plan
from swiftshell.run.workspace import open_workspace
from tests.plan.support import made

RECIPE = """
schema: 1
name: small
models: {m: {path: MODEL}}
data:
  thumbs: {path: thumbs.jsonl, ENTRY}
steps:
  - {id: kto, stage: kto, inputs: {policy: models.m, reference: models.m, train_data: data.thumbs}}
"""


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    return [
        {"prompt": f"q{n}", "response": f"a{n}", **{name: each[n] for name, each in columns.items()}}
        for n in range(count)
    ]


def plan_kto(workspace: Path, content: list[dict[str, Any]], *sets: str, **columns: str) -> Plan:
    made(workspace, "sft")
    data = write(workspace / "thumbs.jsonl", content)
    return plan_stage(open_workspace(workspace), "kto", Options(data=str(data), columns=columns), sets=sets)


def refused(call: Any, *args: Any, **options: Any) -> list[str]:
    with pytest.raises(SwiftshellError) as caught:
        call(*args, **options)
    return [p.code for p in caught.value.problems if p.severity == "error"]


def test_the_plan_counts_soft_rows_and_says_the_class_weights(workspace: Path) -> None:
    content = rows(score=[0.9, 0.8, 0.2, 1.0], trust=[1, 1, 2, 0])
    found = plan_kto(workspace, content, probability="score", weight="trust")
    thumbs = found.as_json()["steps"][-1]["thumbs"]
    # mean weight 4/3 over the three rows that count: (0.9 + 0.8 + 0.4) and (0.1 + 0.2 + 1.6), times 3/4
    assert (thumbs["desirable"], thumbs["undesirable"]) == (1.575, 1.425)
    assert (thumbs["soft"], thumbs["weightless"]) == (3, 1)
    assert thumbs["undesirable_weight"] == pytest.approx(1.575 / 1.15 / 1.425, abs=1e-4)
    out = io.StringIO()
    print_plan(found.as_json(), stream=out)
    said = " ".join(out.getvalue().split())
    for part in ("rows with a probability: 3", "weights 0 to 2", "class weights 1 desirable, 0.961"):
        assert part in said


def test_class_weights_that_a_person_sets_are_the_plans(workspace: Path) -> None:
    found = plan_kto(workspace, rows(label=[True, False]), "desirable_weight=2", "undesirable_weight=1")
    thumbs = found.steps[-1].thumbs
    assert (thumbs["desirable_weight"], thumbs["undesirable_weight"]) == (2.0, 1.0)


def test_a_rare_class_reaches_the_cap(workspace: Path) -> None:
    thumbs = plan_kto(workspace, rows(label=[True] + [False] * 30)).steps[-1].thumbs
    assert (thumbs["desirable_weight"], thumbs["capped"]) == (15.0, True)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (rows(label=[True, True]), "data.one_class_desirable"),
        (rows(probability=[0.5, 0.5]), "data.probability_all_same"),
        (rows(label=[True, False], weight=[0, 0]), "data.weights_all_zero"),
        (rows(probability=[0.5, 1.5]), "data.probability_percent"),
    ],
)
def test_rows_that_cannot_train_are_refused_in_the_plan(
    workspace: Path, content: list[dict[str, Any]], code: str
) -> None:
    assert refused(plan_kto, workspace, content) == [code]


@pytest.mark.parametrize(
    "entry",
    [
        "label_field: is_preferred, text_field: response",
        "columns: {label_field: is_preferred, text_field: response}",
        "columns: {label: is_preferred, completion: response}",
    ],
)
def test_a_recipes_data_entry_names_label_and_text(workspace: Path, entry: str) -> None:
    content = [
        {"prompt": r["prompt"], "response": r["response"], "is_preferred": r["label"]}
        for r in rows(label=[1, 0, 0])
    ]
    write(workspace / "thumbs.jsonl", content)
    model = made(workspace, "download", kind="model")
    text = RECIPE.replace("ENTRY", entry).replace("MODEL", str(model))
    (step,) = plan_recipe(open_workspace(workspace), parse_recipe(text, str(workspace / "mine.yaml"))).steps
    assert (step.thumbs["desirable"], step.thumbs["undesirable"]) == (1, 2)


def test_a_label_rule_of_probabilities_in_a_recipe(workspace: Path) -> None:
    write(workspace / "thumbs.jsonl", rows(label=[0.7, 0.1]))
    model = made(workspace, "download", kind="model")
    text = RECIPE.replace("MODEL", str(model))
    good = parse_recipe(
        text.replace("ENTRY", "label_rule: {probability: true}"), str(workspace / "mine.yaml")
    )
    (step,) = plan_recipe(open_workspace(workspace), good).steps
    assert step.thumbs["soft"] == 2
    bad = text.replace("ENTRY", "label_rule: {probability: 3}")
    assert refused(parse_recipe, bad, str(workspace / "mine.yaml")) == ["data.bad_label_rule"]
    wrong = text.replace("ENTRY", "label_field: 3")
    assert refused(parse_recipe, wrong, str(workspace / "mine.yaml")) == ["recipe.not_text"]


def test_a_reference_with_another_vocabulary_is_refused_in_the_plan(workspace: Path) -> None:
    data = write(workspace / "thumbs.jsonl", rows(label=[True, False]))
    folders = [made(workspace, "sft", step=name) for name in ("one", "other")]
    for folder, vocabulary in zip(folders, ({"a": 0, "b": 1}, {"b": 0, "a": 1}), strict=True):
        (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}), encoding="utf-8")
    options = Options(data=str(data), policy=str(folders[0]), reference=str(folders[1]))
    assert "thumbs.reference_tokenizer" in refused(plan_stage, open_workspace(workspace), "kto", options)
    (folders[1] / "tokenizer.json").write_bytes((folders[0] / "tokenizer.json").read_bytes())
    plan_stage(open_workspace(workspace), "kto", options)
