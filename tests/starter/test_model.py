"""Hold the shipped model and tokenizer to what the engines rely on."""

from __future__ import annotations

import json

import pytest

from swiftshell.starter import DATA_DIR, MODEL_DIR, ROOT, SETTINGS_FILE

TEXTS = [
    "Hello! Mia has a kite. What does Mia have?",
    "你好！李明有一只风筝。李明有什么？",
    " leading  double space\n\nnew line\t tab 123, it's 50% off…",
    "🎉 emoji, ñ, 繁體字, mixed中文English混排, ひらがな",
    "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n",
]


def test_the_folder_stays_small() -> None:
    total = sum(
        file.stat().st_size for file in ROOT.rglob("*") if file.is_file() and "__pycache__" not in file.parts
    )
    assert total <= 8_000_000


def test_files_are_readable_by_everyone() -> None:
    files = [*MODEL_DIR.iterdir(), *DATA_DIR.iterdir(), SETTINGS_FILE]
    assert [file.name for file in files if not file.stat().st_mode & 0o044] == []


def test_the_configuration_fits_serving_engines() -> None:
    config = json.loads((MODEL_DIR / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["head_dim"] >= 32
    assert config["max_position_embeddings"] == 512
    generation = json.loads((MODEL_DIR / "generation_config.json").read_text(encoding="utf-8"))
    tokenizer = json.loads((MODEL_DIR / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    assert generation["eos_token_id"] == config["eos_token_id"] == ids["<|im_end|>"]
    assert generation["pad_token_id"] == config["pad_token_id"] == ids["<|pad|>"]


def test_settings_name_every_stage() -> None:
    settings = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))
    assert list(settings) == ["sft", "kto", "dpo", "generation"]


@pytest.mark.engine
@pytest.mark.parametrize("text", TEXTS)
def test_auto_tokenizer_agrees_with_the_file_and_round_trips(text: str) -> None:
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    auto = AutoTokenizer.from_pretrained(MODEL_DIR)
    raw = Tokenizer.from_file(str(MODEL_DIR / "tokenizer.json"))
    ids = auto(text)["input_ids"]
    assert ids == raw.encode(text).ids
    assert auto.decode(ids) == text
    assert auto.pad_token_id != auto.eos_token_id
    assert auto.bos_token is None


@pytest.mark.engine
def test_the_chat_template_marks_the_answer_and_its_end() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    chat = [{"role": "user", "content": "Mia has a kite."}, {"role": "assistant", "content": "I see."}]
    prompt = tokenizer.apply_chat_template(chat[:1], add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    whole = tokenizer.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    assert whole["input_ids"][: len(prompt)] == prompt
    marked = [i for i, mark in zip(whole["input_ids"], whole["assistant_masks"], strict=True) if mark]
    assert tokenizer.decode(marked) == "I see.<|im_end|>"


@pytest.mark.engine
def test_the_model_loads_and_answers_in_chat_form() -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR)
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer)
    assert 900_000 <= model.num_parameters() <= 2_000_000
    chat = [{"role": "user", "content": "Hello! There are five beads."}]
    inputs = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
    assert output[-1] == tokenizer.eos_token_id, "the base model knows how a turn ends"
    assert len(output) > 1
