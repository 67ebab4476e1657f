"""Small recipes to bend in tests."""

from __future__ import annotations

import textwrap

import pytest

from swiftshell.errors import Problem, SwiftshellError
from swiftshell.recipe.load import parse_recipe
from swiftshell.recipe.model import Recipe

GOOD = textwrap.dedent("""\
    schema: 1
    name: demo
    seed: 7
    models:
      base: {repo: Qwen/Qwen2.5-0.5B-Instruct}
    data:
      chat: {path: data/chat.jsonl}
      thumbs: {path: data/thumbs.jsonl, columns: {completion: response, label: is_preferred}}
      pairs: {starter: dpo}
    defaults:
      max_length: 512
      lora: {r: 8}
    steps:
      - {id: base, stage: download, inputs: {model: models.base}}
      - {id: sft, stage: sft, inputs: {policy: base.model, train_data: data.chat}, params: {lora: {lora_alpha: 64}}}
      - id: kto
        stage: kto
        inputs: {policy: sft.adapter, reference: sft.adapter, train_data: data.thumbs}
        params: {beta: 0.2, learning_rate: 5e-7, max_length: 256}
      - {id: dpo, stage: dpo, inputs: {policy: kto, reference: sft, train_data: data.pairs}}
      - {id: merged, stage: merge, inputs: {adapter: dpo.adapter}, output_dir: out/merged}
      - {id: small, stage: quantize, inputs: {model: merged.model}}
      - {id: score, stage: evaluate, inputs: {models: [base.model, sft.adapter, small.model], eval_data: data.chat}}
    """)


def recipe(text: str = GOOD, *overrides: str) -> Recipe:
    return parse_recipe(text, "/work-space/mine.yaml", overrides=overrides)


def problems(text: str, *overrides: str) -> list[Problem]:
    """Return what is wrong with a recipe (at least one thing is)."""
    with pytest.raises(SwiftshellError) as caught:
        recipe(text, *overrides)
    assert caught.value.exit_code == 2
    return list(caught.value.problems)


def bent(old: str, new: str) -> str:
    """Return the good recipe with one place changed."""
    assert GOOD.count(old) == 1, f"{GOOD.count(old)} times: {old}"
    return GOOD.replace(old, new)


def only(text: str, *overrides: str) -> Problem:
    found = problems(text, *overrides)
    assert len(found) == 1, [(p.code, p.field_name, dict(p.values)) for p in found]
    return found[0]


def line_of(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1
