"""Which stage suits the data: decided from counts, told with reasons, settings that validate and a command that plans."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swiftshell.api.choose import choose, choosing
from swiftshell.api.explain import CLAIMS, SECTIONS, explain
from swiftshell.cli.main import main
from swiftshell.data.suitability import Choice, Looked, decide
from swiftshell.errors import SwiftshellError
from swiftshell.i18n import LANGUAGES, catalogue, set_language
from swiftshell.recipe.describe import param_names
from swiftshell.stages import registry

Json = dict[str, Any]
Write = Callable[[list[Json]], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def _write(rows: list[Json]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return _write


def thumbs(
    count: int, good: Callable[[int], bool], prompt: Callable[[int], str] = lambda i: f"p{i}"
) -> list[Json]:
    return [{"prompt": prompt(i), "completion": f"answer {i}", "label": good(i)} for i in range(count)]


def pairs(count: int) -> list[Json]:
    return [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(count)]


def codes(facts: Json, part: str = "reasons") -> list[str]:
    return [entry["code"] for entry in facts[part]]


def settings(facts: Json) -> dict[str, Any]:
    return {f"{s['stage']}.{s['name']}": s["value"] for s in facts["settings"]}


def test_single_thumbs_are_for_kto(write: Write) -> None:
    facts = choose(write(thumbs(640, lambda i: i % 4 == 0)))
    assert facts["choice"] == ["kto"]
    assert codes(facts) == ["choose.unpaired", "choose.unbalanced"]
    assert (facts["data"]["desirable"], facts["data"]["undesirable"], facts["data"]["pairs"]) == (160, 480, 0)
    assert settings(facts) == {"kto.beta": 0.1, "kto.desirable_weight": "auto"}
    assert facts["commands"] == [f"swiftshell run kto --data {facts['path']}"]
    (weights,) = [s["values"] for s in facts["settings"] if s["name"] == "desirable_weight"]
    assert weights == {"desirable_weight": 3.45, "undesirable_weight": 1.0}  # 1.15 x 480 / 160


def test_clean_pairs_are_for_dpo(write: Write) -> None:
    facts = choose(write(pairs(800)))
    assert (facts["choice"], codes(facts), settings(facts)) == (["dpo"], ["choose.pairs_clean"], {})
    assert codes(facts, "instead") == ["choose.instead_kto_of_pairs"]


def test_pairs_that_contradict_each_other_are_for_kto(write: Write) -> None:
    """A fifth of the pairs also stand the other way round; a few of them only make the loss a robust one."""
    turned = [{"prompt": r["prompt"], "chosen": r["rejected"], "rejected": r["chosen"]} for r in pairs(160)]
    facts = choose(write([*pairs(640), *turned]))
    assert (facts["choice"], codes(facts)) == (["kto"], ["choose.pairs_noisy"])
    few = choose(write([*pairs(640), *turned[:12]]))
    assert few["choice"] == ["dpo"]
    assert settings(few) == {"dpo.loss_type": "robust", "dpo.label_smoothing": 0.04}


def test_thumbs_with_partners_are_for_dpo_or_both(write: Write) -> None:
    all_paired = choose(write(thumbs(640, lambda i: i % 2 == 0, lambda i: f"p{i // 2}")))
    assert (all_paired["choice"], codes(all_paired)) == (["dpo"], ["choose.mostly_paired"])
    half = choose(write(thumbs(640, lambda i: i % 2 == 0, lambda i: f"p{i // 2 if i < 320 else i}")))
    assert (half["choice"], codes(half)) == (["kto", "dpo"], ["choose.partly_paired"])
    assert half["data"]["pairs"] == 160
    assert len(half["commands"]) == 2


def test_one_kind_alone(write: Write) -> None:
    good = choose(write(thumbs(640, lambda i: True)))
    assert (good["choice"], codes(good)) == (["sft"], ["choose.only_desirable"])
    bad = choose(write(thumbs(640, lambda i: False)))
    assert (bad["choice"], codes(bad), bad["commands"]) == ([], ["choose.only_undesirable"], [])
    plain = choose(write([{"instruction": f"q{i}", "output": "a"} for i in range(640)]))
    assert (plain["choice"], codes(plain)) == (["sft"], ["choose.demonstrations"])


def test_few_rows_get_steps_enough(write: Write) -> None:
    facts = choose(write(thumbs(100, lambda i: i % 2 == 0)))
    assert "choose.few_rows" in codes(facts)
    assert settings(facts)["kto.gradient_accumulation_steps"] == 1
    assert settings(facts)["kto.num_train_epochs"] == 3


def test_a_rare_class_gets_larger_batches(write: Write) -> None:
    facts = choose(write(thumbs(1200, lambda i: i % 20 == 0)))
    assert settings(facts)["kto.per_device_train_batch_size"] == 16
    assert settings(facts)["kto.gradient_accumulation_steps"] == 2


def test_columns_and_bad_files(write: Write, tmp_path: Path) -> None:
    rows = [{"ask": f"q{i}", "said": f"a{i}", "ok": i % 2} for i in range(640)]
    columns = {"prompt": "ask", "completion": "said", "label": "ok"}
    facts = choose(write(rows), columns)
    assert facts["choice"] == ["kto"]
    assert "--column prompt=ask --column completion=said --column label=ok" in facts["commands"][0]
    with pytest.raises(SwiftshellError) as refused:
        choose(write(rows))
    assert refused.value.problems[0].code == "data.no_answer_column"
    with pytest.raises(SwiftshellError) as refused:
        choose(tmp_path / "nothing.jsonl")
    assert refused.value.problems[0].code == "plan.path_missing"


SEEN = [
    Looked("demonstrations", 1000, 1000),
    Looked("pairs", 50, 50, pairs=50),
    Looked("pairs", 1000, 1000, pairs=1000, contradictions=80, longest_tokens=5000),
    Looked("pairs", 1000, 1000, pairs=1000, same=400),
    Looked("thumbs", 100, 100, desirable=100),
    Looked("thumbs", 100, 100, undesirable=100),
    Looked(
        "thumbs",
        9000,
        9000,
        desirable=300,
        undesirable=8700,
        soft=20,
        pairs=10,
        alone=8980,
        contradictions=7,
        class_weights=(15.0, 1.0),
        longest_tokens=1500,
    ),
    Looked("thumbs", 400, 400, desirable=200, undesirable=200, pairs=80, alone=240, class_weights=(1.0, 1.0)),
    Looked("thumbs", 400, 400, desirable=200, undesirable=200, pairs=190, alone=20, contradictions=20),
]


@pytest.mark.parametrize("seen", SEEN)
@pytest.mark.parametrize("lang", LANGUAGES)
def test_whatever_is_said_has_a_sentence_and_settings_that_validate(seen: Looked, lang: str) -> None:
    choice: Choice = decide(seen)
    assert choice.reasons
    for said in (*choice.reasons, *choice.settings, *choice.instead):
        text = catalogue(lang)[said.code].format(**said.values)
        assert "{" not in text
    for stage in choice.stages:
        params = {s.name: s.value for s in choice.settings if s.stage == stage}
        typed = registry.get(stage).params.model_validate(params)
        assert not list(typed.own_problems())
        per_step = typed.per_device_train_batch_size * typed.gradient_accumulation_steps
        assert per_step >= 8


def test_the_command_it_gives_can_be_planned(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = choose(write(thumbs(100, lambda i: i % 3 == 0)))
    argv = shlex.split(facts["commands"][0])[1:]
    assert main([*argv, "--policy", "starter", "--dry-run", "--json", "-w", str(tmp_path / "ws")]) == 0
    plan = json.loads(capsys.readouterr().out)["data"]
    assert plan["steps"][-1]["params"]["num_train_epochs"] == 3


def test_from_the_command_line(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(pairs(800)))
    assert main(["explain", "--data", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["choice"] == ["dpo"]
    assert main(["explain", "choose", "--data", path]) == 0
    out = capsys.readouterr().out
    assert "clean pairs are what DPO is best at" in " ".join(out.split())
    assert f"swiftshell run dpo --data {path}" in out
    assert main(["explain", "kto", "--data", path]) == 2
    assert "cli.explain_data_alone" in capsys.readouterr().err
    assert main(["explain", "choose"]) == 0
    assert "kto" in capsys.readouterr().out


@pytest.mark.parametrize("lang", LANGUAGES)
def test_the_stages_are_explained_in_both_languages(lang: str) -> None:
    set_language(lang)
    try:
        for stage, sections in SECTIONS.items():
            facts = explain(stage)
            assert [s["name"] for s in facts["sections"]] == list(sections)
            assert all(len(s["text"]) > 40 and "stage." not in s["title"] for s in facts["sections"])
        claims = explain("kto")["claims"]
        assert len(claims) == len(CLAIMS)
        assert all(c["claim"] != c["found"] and "choose." not in c["claim"] + c["found"] for c in claims)
        assert all("choose." not in s["when"] for s in choosing()["stages"])
    finally:
        set_language("en")


@pytest.mark.parametrize("stage", ["sft", "kto", "dpo"])
def test_every_setting_can_be_explained_the_nested_too(stage: str) -> None:
    for name in param_names(stage):
        facts = explain(f"{stage}.{name}")
        assert facts["text"], name
        assert ("settings" in facts) == (name in ("lora", "guard"))
    assert explain("kto.guard.max_kl")["default"] == 0.15
    assert explain(f"{stage}.lora.r")["default"] == 16
