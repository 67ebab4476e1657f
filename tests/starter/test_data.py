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
from swiftshell.starter.world import FAMILIES, LANGUAGES, is_held_out

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


def test_every_combination_is_on_one_side_of_the_split() -> None:
    for language in LANGUAGES:
        for family in FAMILIES[language]:
            kept, held = set(family.combinations(False)), set(family.combinations(True))
            assert not kept & held
            assert len(kept) + len(held) == len(family.subjects) * len(family.values)
            assert 0.15 < len(held) / (len(kept) + len(held)) < 0.25


def test_training_text_never_states_a_held_out_fact() -> None:
    """Read the sentences back: the rule must hold in the files, not only in the generator."""
    held, kept = set(), set()
    for language in LANGUAGES:
        for family in FAMILIES[language]:
            for s, subject in enumerate(family.subjects):
                for v, value in enumerate(family.values):
                    sentence = family.fact.format(s=subject.text, v=value.text)
                    (held if is_held_out(s, v) else kept).add(sentence)
    assert not held & kept
    documents = rows.documents(42, "<S>", "<E>")
    text = "\n".join((DATA_DIR / name).read_text(encoding="utf-8") for name in FILES[:3])
    text += "\n".join(next(documents) for _ in range(3000))
    assert [s for s in held if s in text] == []
    # Every held-out prompt, on the other hand, needs one, and its reference is that sentence.
    for row in read("heldout.jsonl"):
        assert any(row["reference"].startswith(s) and s in row["prompt"][0]["content"] for s in held)


def test_counts_and_balance() -> None:
    assert len(read("sft.jsonl")) == rows.SFT_ROWS
    assert len(read("dpo.jsonl")) == rows.DPO_ROWS
    thumbs = read("kto.jsonl")
    up = sum(row["label"] for row in thumbs) / len(thumbs)
    assert len(thumbs) == rows.KTO_ROWS
    assert all(type(row["label"]) is bool for row in thumbs)
    assert 0.5 < up < 0.75, "thumbs are moderately imbalanced"
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
