"""SFT with care: packing keeps rows whole and apart, masks are what they say, nothing is cut unseen."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.stages import registry
from swiftshell.stages.shared import training_problems
from tests.engines.conftest import (
    FAST,
    TEMPLATE,
    Runner,
    build_model,
    colour_rows,
    data_ref,
    model_ref,
    write_jsonl,
)

pytestmark = pytest.mark.engine
# One step over all 8 rows, so that however they are batched the optimizer sees the same tokens.
WHOLE = {**FAST, "max_steps": 1, "save_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-2}


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("chat") / "chat.jsonl", colour_rows("sft", 8))


def weights_of(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(folder / "adapter_model.safetensors")


def far(one: dict[str, Any], other: dict[str, Any]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[k] - other[k]).abs().max()) for k in one)


def test_rows_without_padding_train_as_padded_ones_do(tiny: Path, chat: Path, run_step: Runner) -> None:
    """The same step on the same rows: padded, flattened, packed. Rows that saw each other would end elsewhere."""
    inputs = {"policy": model_ref("policy", tiny), "train_data": data_ref(chat)}
    padded = run_step("sft", WHOLE, inputs, name="padded")
    flat = run_step("sft", {**WHOLE, "padding_free": True}, inputs, name="flat")
    packed = run_step("sft", {**WHOLE, "packing": True, "max_length": 96}, inputs, name="packed")
    joined = run_step("sft", {**WHOLE, "packing": True, "packing_strategy": "wrapped"}, inputs, name="joined")
    losses = [done.ctx.series("loss")[0] for done in (padded, flat, packed)]
    assert max(losses) - min(losses) < 1e-4
    reference = weights_of(padded.artifacts["adapter"])
    assert far(reference, weights_of(flat.artifacts["adapter"])) < 1e-3
    assert far(reference, weights_of(packed.artifacts["adapter"])) < 1e-3
    assert far(reference, weights_of(joined.artifacts["adapter"])) > 1e-2, "wrapped lets rows see each other"
    assert "packing.wrapped_crosses" in joined.ctx.codes()
    assert packed.outcome.summary["packed_sequences"] < 8
    assert flat.outcome.summary["max_length"] == FAST["max_length"]


def test_a_model_whose_rows_see_each_other_is_refused(
    tiny: Path, chat: Path, run_step: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attention that ignores where rows begin, as some models' do."""
    from transformers import masking_utils

    monkeypatch.setattr(masking_utils, "find_packed_sequence_indices", lambda position_ids: None)
    with pytest.raises(SwiftshellError) as refused:
        run_step(
            "sft",
            {**WHOLE, "padding_free": True},
            {"policy": model_ref("policy", tiny), "train_data": data_ref(chat)},
        )
    (problem,) = refused.value.problems
    assert problem.code == "packing.rows_leak"
    assert problem.values["difference"] > 0.25 * problem.values["leak"]


def test_packing_cuts_no_row_unseen(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    """TRL's bfd would cut a row that is longer than a sequence; it is refused, or split by request."""
    rows = colour_rows("sft", 8)
    rows[3]["messages"][1]["content"] = "The stone is white. " * 30
    inputs = {
        "policy": model_ref("policy", tiny),
        "train_data": data_ref(write_jsonl(tmp_path / "x.jsonl", rows)),
    }
    with pytest.raises(SwiftshellError) as refused:
        run_step("sft", {**WHOLE, "packing": True}, inputs)
    total = refused.value.problems[-1]
    assert (total.code, total.values["count"], total.values["no_answer"]) == ("train.rows_too_long", 1, 0)
    done = run_step("sft", {**WHOLE, "packing": True, "packing_strategy": "bfd_split"}, inputs, name="split")
    assert done.outcome.summary["rows_split"] == 1
    assert ("packing.rows_split", {"count": 1, "total": 8, "limit": 96}) in done.ctx.notes


def test_answers_that_would_lose_everything_are_counted(tiny: Path, tmp_path: Path, run_step: Runner) -> None:
    rows = colour_rows("sft", 8)
    rows[0]["messages"][0]["content"] = "What colour is the apple? " * 20
    rows[1]["messages"][1]["content"] = "The river is green. " * 20
    inputs = {
        "policy": model_ref("policy", tiny),
        "train_data": data_ref(write_jsonl(tmp_path / "x.jsonl", rows)),
    }
    with pytest.raises(SwiftshellError) as refused:
        run_step("sft", WHOLE, inputs)
    total = refused.value.problems[-1]
    assert (total.values["count"], total.values["no_answer"]) == (2, 1)
    assert "2 of 8 rows" in str(refused.value)
    assert "of them the whole answer" in str(refused.value)


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"packing_strategy": "wrapped"}, "packing.strategy_unused"),
        (
            {"packing": True, "packing_strategy": "wrapped", "padding_free": True},
            "packing.wrapped_padding_free",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(params: dict[str, Any], code: str) -> None:
    typed = registry.get("sft").params.model_validate(params)
    assert [p.code for p in training_problems(typed)] == [code]


# --------------------------------------------------------------------------------- the mask of what is learned

# What ends an answer in each of the templates, and whether TRL knows a training template for it.
REAL = {
    "Qwen-Qwen2.5-7B-Instruct": ("<|im_end|>", True),
    "Qwen-Qwen3-0.6B": ("<|im_end|>", False),
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": ("<｜end▁of▁sentence｜>", False),
    "google-gemma-2-2b-it": ("<end_of_turn>", True),
    "meta-llama-Llama-3.1-8B-Instruct": ("<|eot_id|>", False),
    "microsoft-Phi-3.5-mini-instruct": ("<|end|>", True),
    "mistralai-Mistral-Nemo-Instruct-2407": ("</s>", False),
}
TALK = [
    {"role": "user", "content": "Which colour has the river?"},
    {"role": "assistant", "content": "It is green."},
    {"role": "user", "content": "And the old stone bridge?"},
    {"role": "assistant", "content": "Grey, like rain."},
]


@pytest.fixture(scope="module")
def real_tokenizer(shared_data: Path) -> Any:
    """Return a real tokenizer; reading it takes seconds, so all templates share it."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(shared_data / "real/tokenizers/qwen2")


@pytest.fixture(params=REAL)
def real(request: pytest.FixtureRequest, shared_data: Path, real_tokenizer: Any) -> tuple[str, Any]:
    """Return a template's name, and a tokenizer that carries it and its special tokens."""
    name: str = request.param
    template = (shared_data / f"real/chat-templates/{name}.jinja").read_text(encoding="utf-8")
    marks = sorted(
        set(re.findall(r"<[|｜][^<>|｜]+[|｜]>|</?think>|<(?:start|end)_of_turn>|\[/?INST\]", template))
    )
    special = {"eos_token": REAL[name][0], "bos_token": "<s>", "additional_special_tokens": marks}
    real_tokenizer.add_special_tokens(special)
    real_tokenizer.chat_template = template
    return name, real_tokenizer


def learned_of(tokenizer: Any, asked: bool | str, tmp_path: Path) -> tuple[list[str], list[str]]:
    """Return what TRL's own preparation would learn from, one text for each row, and what was noted."""
    from swiftshell.engines import rows, templates
    from tests.engines.conftest import FakeContext

    ctx = FakeContext(tmp_path / "ctx")
    path = write_jsonl(tmp_path / "talk.jsonl", [{"messages": TALK}])
    how = rows.Reading("sft", tokenizer, 512, None, 0, asked)
    done = rows.prepare(data_ref(path), how, ctx)
    (example,) = done.examples
    if not done.assistant_only_loss:
        return [tokenizer.decode(example.answers[0])], ctx.codes()
    encoded = tokenizer.apply_chat_template(
        TALK,
        tokenize=True,
        return_dict=True,
        return_assistant_tokens_mask=True,
        chat_template=templates.training_template(tokenizer),
    )
    pieces, last = [], 0
    for token, mask in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True):
        if mask:
            pieces = [*pieces, [token]] if not last else [*pieces[:-1], [*pieces[-1], token]]
        last = mask
    return [tokenizer.decode(piece) for piece in pieces], ctx.codes()


def test_real_templates_learn_the_answers_with_their_end(real: tuple[str, Any], tmp_path: Path) -> None:
    """`auto`: every answer where TRL can mark them, else the last one; always with the token that ends it."""
    name, tokenizer = real
    stop, marked = REAL[name]
    learned, noted = learned_of(tokenizer, "auto", tmp_path)
    said = ["It is green.", "Grey, like rain."] if marked else ["Grey, like rain."]
    assert len(learned) == len(said)
    for text, answer in zip(learned, said, strict=True):
        assert text.replace(stop, "").replace("<think>", "").replace("</think>", "").strip() == answer
        assert stop in text.partition(answer)[2]
    assert ("train.last_turn_only" in noted) is not marked


def test_real_templates_that_cannot_be_masked_are_refused_by_name(
    real: tuple[str, Any], tmp_path: Path
) -> None:
    name, tokenizer = real
    if REAL[name][1]:
        assert len(learned_of(tokenizer, True, tmp_path)[0]) == 2
        return
    with pytest.raises(SwiftshellError) as refused:
        learned_of(tokenizer, True, tmp_path)
    assert refused.value.problems[0].code == "train.no_generation_markers"


WRONG = {
    "templates.more": TEMPLATE.replace("{% generation %}", "")
    .replace("{% endgeneration %}", "")
    .replace("{% for m in messages %}", "{% for m in messages %}{% generation %}")
    .replace("{% endfor %}", "{% endgeneration %}{% endfor %}"),
    "templates.stop": TEMPLATE.replace("<|end|>{% endgeneration %}", "{% endgeneration %}<|end|>"),
    "templates.missing": TEMPLATE.replace(
        "{% generation %}{{ m['content'] }}", "{{ m['content'] }}{% generation %}"
    ),
}


@pytest.mark.parametrize("code", WRONG)
def test_a_template_whose_marks_are_wrong_is_not_trusted(code: str, tmp_path: Path, run_step: Runner) -> None:
    """TRL trains on all three without a word (a log line for the missing end)."""
    model = build_model(tmp_path / "model", template=WRONG[code])
    rows = [{"messages": [{**t} for t in TALK]} for _ in range(8)]
    inputs = {
        "policy": model_ref("policy", model),
        "train_data": data_ref(write_jsonl(tmp_path / "talk.jsonl", rows)),
    }
    with pytest.raises(SwiftshellError) as refused:
        run_step("sft", {**WHOLE, "max_length": 200, "assistant_only_loss": True}, inputs)
    assert [p.code for p in refused.value.problems] == [code]
    done = run_step("sft", {**WHOLE, "max_length": 200}, inputs, name="auto")
    assert done.outcome.summary["assistant_only_loss"] is False
    assert code in done.ctx.codes()
