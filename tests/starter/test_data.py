"""Hold the starter's data to what it promises: reproducible, disjoint, counted, and judged as it says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.rules import check_rules, judge
from swiftshell.starter import DATA_DIR, rows
from swiftshell.starter.build import write_data
from swiftshell.starter.world import FAMILIES, HELD_OUT_FORM, LANGUAGES

FILES = ("sft.jsonl", "kto.jsonl", "dpo.jsonl", "heldout.jsonl")


def read(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA_DIR / name).read_text(encoding="utf-8").splitlines()]


def prompts(name: str) -> set[str]:
    return {(row.get("prompt") or row["messages"])[0]["content"] for row in read(name)}


def test_rebuilding_gives_the_shipped_bytes(tmp_path: Path) -> None:
    write_data(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (DATA_DIR / name).read_bytes(), name


def test_another_seed_gives_other_rows(tmp_path: Path) -> None:
    write_data(tmp_path, seed=43)
    for name in FILES:
        assert (tmp_path / name).read_bytes() != (DATA_DIR / name).read_bytes(), name


def test_data_are_made_without_engines(tmp_path: Path) -> None:
    code = (
        "import sys; from swiftshell.starter import build; build.main(['--out', sys.argv[1], '--data-only']);"
        "bad = {'torch', 'transformers', 'tokenizers'} & set(sys.modules);"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("name", ["sft.jsonl", "kto.jsonl", "dpo.jsonl"])
def test_no_held_out_prompt_is_trained_on(name: str) -> None:
    assert not prompts(name) & prompts("heldout.jsonl")


def test_every_fact_is_on_one_side_of_the_split() -> None:
    for language in LANGUAGES:
        for family in FAMILIES[language]:
            kept, held = set(family.facts(held_out=False)), set(family.facts(held_out=True))
            assert not kept & held
            assert kept | held == set(family.facts())
            assert len(kept | held) == len(family.subjects)
            assert 0.3 < len(held) / len(family.subjects) < 0.4


def test_no_training_text_asks_as_held_out_prompts_do() -> None:
    """Read the text back: the rule must hold in the files, not only in the generator."""
    held = [
        fact
        for language in LANGUAGES
        for family in FAMILIES[language]
        for fact in family.facts(held_out=True)
    ]
    questions = [fact.question(HELD_OUT_FORM) for fact in held]
    rows_text = "\n".join((DATA_DIR / name).read_text(encoding="utf-8") for name in FILES[:3])
    documents = rows.documents(42, "<S>", "<E>")
    pretraining_text = "\n".join(next(documents) for _ in range(5000))
    assert [q for q in questions if q in rows_text or q in pretraining_text] == []
    # Demonstrations, thumbs and pairs do not even state a held-out fact; pretraining states all of them.
    assert [f for f in held if f.sentence() in rows_text] == []
    assert [f for f in held if f.sentence() not in pretraining_text] == []
    # And every held-out prompt asks about one.
    for row in read("heldout.jsonl"):
        assert any(row["prompt"][0]["content"].endswith(q) for q in questions)


def test_counts_and_balance() -> None:
    assert len(read("sft.jsonl")) == rows.SFT_ROWS
    assert len(read("dpo.jsonl")) == rows.DPO_ROWS
    thumbs = read("kto.jsonl")
    up = sum(row["label"] for row in thumbs) / len(thumbs)
    assert len(thumbs) == rows.KTO_ROWS
    assert all(type(row["label"]) is bool for row in thumbs)
    assert 0.5 < up < 0.8, "thumbs are moderately imbalanced"
    held = read("heldout.jsonl")
    assert len(held) >= 300
    assert len(prompts("heldout.jsonl")) == len(held)
    assert Counter(row["lang"] for row in held) == {"en": len(held) // 2, "zh": len(held) // 2}


def test_held_out_rules_judge_the_rows_own_answers() -> None:
    for row in read("heldout.jsonl"):
        check_rules(row["rules"])
        assert judge(row["reference"], row["rules"]).ok, row
        assert judge(row["chosen"][0]["content"], row["rules"]).ok, row
        assert not judge(row["rejected"][0]["content"], row["rules"]).ok, row
        assert not judge(row["prompt"][0]["content"], row["rules"]).ok, "repeating the prompt is no answer"
        assert not judge("", row["rules"]).ok


def test_rows_have_trl_conversational_form() -> None:
    for row in read("sft.jsonl"):
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    for name, keys in (("kto.jsonl", ["completion"]), ("dpo.jsonl", ["chosen", "rejected"])):
        for row in read(name):
            assert [turn["role"] for turn in row["prompt"]] == ["user"]
            for key in keys:
                assert [turn["role"] for turn in row[key]] == ["assistant"]
                assert row[key][0]["content"]
