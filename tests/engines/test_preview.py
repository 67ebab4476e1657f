"""The rows shown are the rows trained on: text, masks and counts of the preview against transformers' and TRL's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import transformers
import trl
from transformers.utils.chat_template_utils import render_jinja_template

from swiftshell.data.preview import preview
from swiftshell.data.row import Row
from swiftshell.data.template import Speaker, TemplateRefuses, open_speaker
from swiftshell.engines.templates import has_markers
from swiftshell.plan.quick import STARTER_FOLDER

pytestmark = pytest.mark.engine

TEMPLATES = sorted((Path(trl.__file__).parent / "chat_templates").glob("*.jinja"))
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "id": "call12345", "function": {"name": "add", "arguments": {"a": 1, "b": "二 <&>"}}}]}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {
    "type": "object", "properties": {"a": {"type": "integer", "description": "One."}}, "required": ["a"]}}}]
USER, ANSWER = {"role": "user", "content": "Hi <b> 你好"}, {"role": "assistant", "content": "Hello\n  there "}
TALKS: list[tuple[list[dict[str, Any]], Any]] = [
    ([USER, ANSWER], None),
    ([{"role": "system", "content": "Be brief."}, USER, ANSWER, USER, ANSWER], None),
    ([USER, CALL, {"role": "tool", "name": "add", "content": "3", "tool_call_id": "call12345"}, ANSWER], TOOLS),
    ([USER], None),
]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda p: p.stem)
def test_text_and_masks_are_those_of_transformers(path: Path) -> None:
    template = path.read_text(encoding="utf-8")
    speaker, compared = Speaker("m", template, SPECIAL), 0
    for turns, tools in TALKS:
        for ask in (False, True):
            masked = has_markers(template)
            try:
                wanted, spans = render_jinja_template([turns], tools=tools, chat_template=template,
                                                      return_assistant_tokens_mask=masked, add_generation_prompt=ask, **SPECIAL)
            except Exception:  # noqa: BLE001  (templates raise what they like: ours must refuse as well)
                with pytest.raises(TemplateRefuses):
                    speaker.render(turns, tools=tools, ask=ask)
                continue
            text, found = speaker.render_marked(turns, tools=tools, ask=ask)
            assert text == wanted[0]
            assert found == [(a, b) for a, b in (spans[0] if masked else []) if b > a]
            compared += 1
    assert compared >= 2


def test_trl_trains_with_the_template_that_is_found(tmp_path: Path) -> None:
    from trl.chat_template_utils import get_training_chat_template

    tokenizer = transformers.AutoTokenizer.from_pretrained(STARTER_FOLDER / "model")
    found = 0
    for path in TEMPLATES:
        plain = path.read_text(encoding="utf-8")
        if path.stem.endswith("_training"):
            continue
        tokenizer.chat_template = plain
        try:
            wanted = get_training_chat_template(tokenizer)
        except ValueError:
            continue
        if wanted is not None:
            assert Speaker("m", plain).training_template() == wanted, path.stem
            found += 1
    assert found > 5


@pytest.mark.parametrize("name", ["sft", "kto", "dpo"])
def test_counts_are_those_that_training_takes(name: str) -> None:
    """The starter's own rows: tokens read and learned as the engines count them."""
    from swiftshell.data.load import load_rows
    from swiftshell.engines.rows import Example, _with_tokens

    speaker = open_speaker(STARTER_FOLDER / "model")
    tokenizer = transformers.AutoTokenizer.from_pretrained(STARTER_FOLDER / "model")
    rows = load_rows(STARTER_FOLDER / "data" / f"{name}.jsonl", name)[::7][:40]
    for row in rows:
        data = {k: row.data[k] for k in ("prompt", "completion", "chosen", "rejected", "messages") if k in row.data}
        counted = _with_tokens(Example(row.number, row.line, row.file, data), tokenizer, "messages" in data, None)
        texts = preview(row, speaker).texts
        learned = [len(a) for a in counted.answers]
        if "messages" in data:  # what stands between the answers is not learned from
            learned = [sum(tokenizer.apply_chat_template(
                data["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True)["assistant_masks"])]
        assert [t.learned_tokens for t in texts] == learned
        assert [t.tokens for t in texts] == [len(counted.prompt_ids) + len(a) for a in counted.answers]


def test_a_conversation_with_two_answers_learns_from_both() -> None:
    speaker = open_speaker(STARTER_FOLDER / "model")
    row = Row(1, 1, {"messages": [USER, ANSWER, USER, {"role": "assistant", "content": "Again"}]}, "f.jsonl")
    learned = [p.text for p in preview(row, speaker).texts[0].pieces if p.learned]
    assert learned == [ANSWER["content"] + "<|im_end|>", "Again<|im_end|>"]
    assert json.dumps(preview(row, speaker).as_json())
