"""What `run score` chooses: the newest model for a likelihood, a trained policy and its own reference for a reward."""

from __future__ import annotations

from pathlib import Path

from tests.plan.support import identity, made
from tests.plan.test_quick import chosen, quick, refusal

REWARD = {"scorers": ["implicit_reward"]}


def test_a_likelihood_is_the_newest_models(workspace: Path) -> None:
    made(workspace, "download", kind="model")
    sft = made(workspace, "sft")
    found = quick(workspace, "score", data=str(_rows(workspace)))
    assert chosen(found, "policy") == str(sft)
    assert list(found.recipe["steps"][0]["inputs"]) == ["policy", "rows"]


def test_a_reward_is_that_of_the_newest_policy_against_what_it_was_trained_against(workspace: Path) -> None:
    sft = made(workspace, "sft")
    made(workspace, "dpo", reference=identity(sft), reference_path=sft)
    kto = made(workspace, "kto", reference=identity(sft), reference_path=sft)
    found = quick(workspace, "score", data=str(_rows(workspace)), params=REWARD)
    assert (chosen(found, "policy"), chosen(found, "reference")) == (str(kto), str(sft))


def test_a_reward_without_a_policy_that_has_moved_names_the_command(workspace: Path) -> None:
    made(workspace, "sft")
    assert "swiftshell run kto" in refusal(workspace, "score", data=str(_rows(workspace)), params=REWARD)
    assert "swiftshell run download" in refusal(workspace / "empty", "score", data=str(_rows(workspace)))


def _rows(workspace: Path) -> Path:
    path = workspace / "rows.jsonl"
    path.write_text('{"prompt": "a", "completion": "b"}\n', encoding="utf-8")
    return path
