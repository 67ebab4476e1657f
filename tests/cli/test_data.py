"""`swiftshell data show` and `data convert`, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swiftshell.plan.quick import STARTER_FOLDER
from tests.cli.support import as_json, swiftshell

KTO = STARTER_FOLDER / "data" / "kto.jsonl"


def test_rows_are_shown_with_what_is_learned(workspace: Path) -> None:
    done = swiftshell("data", "show", str(KTO), "-n", "2", cwd=workspace)
    assert done.returncode == 0
    assert done.stdout.startswith("taken for kto, format prompt_completion: ")
    assert done.stdout.count("── row ") == 2
    facts = as_json(swiftshell("data", "show", str(KTO), "-n", "1", "--json", cwd=workspace))["data"]
    text = facts["rows"][0]["texts"][0]
    assert (facts["purpose"], facts["model"], facts["columns"]["label"]) == ("kto", "starter", "label")
    assert [piece["learned"] for piece in text["pieces"]] == [False, True]
    assert 0 < text["learned_tokens"] < text["tokens"]
    assert facts["rows"][0]["label"] in (True, False)


def test_text_of_rows_cannot_steer_the_terminal(workspace: Path) -> None:
    rows = workspace / "rows.jsonl"
    rows.write_text(
        json.dumps({"prompt": "\x1b[2J\x07hi [red]x[/red]", "completion": "a\x9bb", "label": True}) + "\n",
        encoding="utf-8",
    )
    done = swiftshell("data", "show", "rows.jsonl", cwd=workspace)
    assert "\\x1b[2J\\x07hi [red]x[/red]" in done.stdout
    assert "a\\x9bb" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["--model", "nobody/nothing"], "detect.model_not_here"),
        (["--model", "./nothing"], "detect.model_unknown"),
        (["--model", "empty"], "detect.no_tokenizer"),
        (["--model", "broken"], "detect.bad_model_file"),
    ],
)
def test_a_model_that_cannot_show_them(workspace: Path, argv: list[str], code: str) -> None:
    (workspace / "empty").mkdir()
    (workspace / "broken").mkdir()
    (workspace / "broken" / "tokenizer_config.json").write_text("{", encoding="utf-8")
    done = swiftshell("data", "show", str(KTO), *argv, "--json", cwd=workspace)
    assert (done.returncode, [p["code"] for p in as_json(done)["problems"]]) == (2, [code])


def test_a_template_that_refuses_is_quoted(workspace: Path) -> None:
    model = workspace / "strict"
    model.mkdir()
    refusal = "{% if m.role == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    template = "{% for m in messages %}" + refusal + "{{ m.content }}{% endfor %}"
    (model / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": template, "eos_token": "</s>"}), encoding="utf-8"
    )
    (workspace / "rows.jsonl").write_text(
        json.dumps({"instruction": "q", "output": "a", "system": "s"}) + "\n", encoding="utf-8"
    )
    done = swiftshell("data", "show", "rows.jsonl", "--model", "strict", cwd=workspace)
    assert done.returncode == 0
    assert "does not take this row: no system turns" in done.stdout
    assert "system: s" in done.stdout


def test_convert_writes_what_it_says_and_nothing_over(workspace: Path) -> None:
    rows = workspace / "rows.json"
    rows.write_text(
        json.dumps([{"instruction": "q", "input": "i", "output": "a", "system": "s", "source": "x"}]),
        encoding="utf-8",
    )
    done = swiftshell("data", "convert", "rows.json", "out/new.jsonl", "--to", "sharegpt", cwd=workspace)
    assert (done.returncode, done.stdout.strip().endswith("1 rows as sharegpt for sft")) == (0, True)
    assert json.loads((workspace / "out" / "new.jsonl").read_text(encoding="utf-8")) == {
        "conversations": [{"from": "human", "value": "q\ni"}, {"from": "gpt", "value": "a"}],
        "system": "s",
        "source": "x",
    }
    again = swiftshell("data", "convert", "rows.json", "out/new.jsonl", "--to", "messages", cwd=workspace)
    assert (again.returncode, "detect.out_exists" in again.stderr) == (2, True)
    for out, code in (("rows.json", "detect.out_is_source"), ("new.csv", "detect.out_ending")):
        refused = swiftshell(
            "data", "convert", "rows.json", out, "--to", "messages", "--overwrite", cwd=workspace
        )
        assert (refused.returncode, code in refused.stderr) == (2, True)


def test_convert_drops_nothing_without_being_told(workspace: Path) -> None:
    talk = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    named = {
        "messages": [{"role": "user", "content": "q", "name": "Ann"}, {"role": "assistant", "content": "a"}]
    }
    (workspace / "rows.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in (talk, named)), encoding="utf-8"
    )
    done = swiftshell("data", "convert", "rows.jsonl", "new.jsonl", "--to", "alpaca", cwd=workspace)
    assert (done.returncode, "rows.jsonl:2 (row 2)" in done.stderr) == (2, True)
    assert not (workspace / "new.jsonl").exists()
    done = swiftshell(
        "data", "convert", "rows.jsonl", "new.jsonl", "--to", "alpaca", "--drop-budget", "1", cwd=workspace
    )
    assert (done.returncode, "1 left out" in done.stdout) == (0, True)
    assert len((workspace / "new.jsonl").read_text(encoding="utf-8").splitlines()) == 1
