"""Small tables: runs and jobs, doctor, recipes, explanations, data reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from swiftshell.api.explain import explain
from swiftshell.data.load import check_rows
from swiftshell.recipe.catalog import shipped
from swiftshell.render.data import print_report
from swiftshell.render.doctor import print_findings
from swiftshell.render.explain import print_explanation
from swiftshell.render.recipes import print_recipes
from swiftshell.render.runs import print_runs
from tests.render.conftest import Json, Show, step

RUNS: list[Json] = [
    {"run": "2026-11-25-all-k3f9", "status": "over", "result": "succeeded",
     "steps": [step("sft", "sft", duration_s=60.0), step("kto", "kto", duration_s=5.0, restored_from="/x")]},
    {"run": "2026-11-25-kto-aaaa", "status": "running", "result": None,
     "steps": [step("sft", "sft"), step("kto", "kto", status="running", result=None, duration_s=None)]},
    {"run": "2026-11-24-kto-bbbb", "status": "over", "result": "failed", "steps": [step("kto", "kto", result="failed")]},
    {"run": "2026-11-24-new-cccc", "status": "waiting", "result": None, "steps": []},
]  # fmt: skip
FINDINGS = [
    {"check": "Python", "verdict": "ok", "found": "Python 3.11", "todo": ""},
    {"check": "GPU", "verdict": "warn", "found": "unknown", "todo": "look"},
    {"check": "packages", "verdict": "bad", "found": "missing: torch", "todo": "./install.sh setup"},
]


def fits(text: str, width: int) -> bool:
    return max(cell_len(line) for line in text.splitlines()) <= width


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize("lang", ["en", "zh"])
def test_runs(show: Show, width: int, lang: str) -> None:
    text = show(print_runs, RUNS, width=width, lang=lang)
    assert fits(text, width)
    joined = "".join(text.split())
    assert all(facts["run"] in joined for facts in RUNS)
    assert joined.index("k3f9") < joined.index("aaaa") < joined.index("cccc")
    if (width, lang) == (80, "en"):
        first, second, third = (
            line
            for line in text.splitlines()
            if "-2" in line and "0" in line and "✔▶✘".find(line.strip()[0]) >= 0
        )
        assert ("2/2" in first, "1:00" in first, "done" in first) == (True, True, True)
        assert ("1/2 kto" in second, "running" in second) == (True, True)
        assert ("0/1 kto" in third, "failed" in third) == (True, True)


def test_doctor(show: Show) -> None:
    text = show(print_findings, FINDINGS)
    assert "→ ./install.sh setup" in text
    assert "1 to mend, 1 worth a look" in text
    assert "everything needed is here" in show(print_findings, FINDINGS[:1])
    assert show(print_findings, FINDINGS, encoding="ascii").isascii()
    assert fits(show(print_findings, FINDINGS, width=40), 40)


@pytest.mark.parametrize("width", [40, 80])
def test_recipes(show: Show, width: int) -> None:
    facts = [
        {"name": r.name, "summary": r.summary, "stages": list(r.stages), "path": str(r.path)}
        for r in shipped()
    ]
    text = show(print_recipes, facts, width=width)
    assert fits(text, width)
    assert all(str(r["name"]) in text for r in facts), "a name is to be copied whole"


@pytest.mark.parametrize("width", [40, 80, 140])
@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("topic", [None, "kto", "evaluate", "kto.beta"])
def test_explanations(show: Show, topic: str | None, lang: str, width: int) -> None:
    text = show(print_explanation, explain(topic), width=width, lang=lang)
    assert fits(text, width)
    if topic == "kto":
        assert ("beta" in text, "reference" in text, "undesirable_weight" in text) == (True, True, True)
    if topic == "kto.beta":
        assert "kto.beta = 0.1" in text


def test_explanation_of_a_run(show: Show, finished: Json) -> None:
    note: Any = {
        "code": "data.duplicate",
        "severity": "warning",
        "values": {"first": 1},
        "file": "x.jsonl",
        "row": 3,
    }
    text = show(print_explanation, {"kind": "run", **finished, "plan": {}, "notes": [note]})
    assert "2026-11-25-all-k3f9: done" in text
    assert "warning[data.duplicate]" in text


def test_data_report(show: Show, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    good = [f'{{"prompt": "{"q" * (n * 20)}", "completion": "a", "label": {n % 2}}}' for n in range(1, 9)]
    path.write_text("\n".join(good), encoding="utf-8")
    report = check_rows(path, "kto")
    text = show(print_report, report.as_json(), good=True, path="x.jsonl", purpose="kto")
    for part in (
        "prompt_completion",
        "label = label",
        "1 = desirable, 0 = undesirable",
        "desirable 4 (50 %)",
        "no problems",
    ):
        assert part in text
    bins = [line for line in text.splitlines() if "█" in line]
    assert [line.split()[0] for line in bins] == ["0-31", "32-63", "64-127", "128-255", "0-31"]
    path.write_text("\n".join([*good, "{oops"]), encoding="utf-8")
    text = show(
        print_report,
        check_rows(path, "kto").as_json(),
        good=False,
        path="x.jsonl",
        purpose="kto",
        lang="zh",
        width=40,
    )
    assert "data.bad_json × 1" in text
    assert "没有问题" not in text
    assert fits(text, 40)
