"""A random Qwen2-VL (or a sibling) of 0.2 million parameters, and pictures to show it: everything made here, in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLOURS = {"red": (220, 30, 30), "green": (30, 170, 60), "blue": (40, 70, 220), "white": (245, 245, 245)}
# Qwen2-VL's way to write turns: a picture stands between two marks, as one placeholder that the processor expands.
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
_TEXTS = (
    "What colour is this? It is red. It is green. It is blue. It is white. user assistant system",
    "Describe this picture in one sentence. A large white airplane and a person on a lot.",
)
# A picture becomes at most 16 tokens: patches of 14 pixels, four to a token.
_PIXELS = {"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 16}


def build_vlm(folder: Path, *, context: int = 256, family: str = "qwen2_vl") -> Path:
    """Write the model with its tokenizer and the configuration of its image processor.

    `family` is qwen2_vl, qwen2_5_vl or llava.
    """
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(
        _TEXTS,
        trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=list(_SPECIAL),
            show_progress=False,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        ),
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    mark = {name: tokenizer.convert_tokens_to_ids(name) for name in _SPECIAL}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": context,
        "initializer_range": 0.1,
        "bos_token_id": None,
        "eos_token_id": mark["<|im_end|>"],
        "pad_token_id": mark["<|endoftext|>"],
    }
    torch.manual_seed(0)
    model, files = _llava(text, mark) if family == "llava" else _qwen(family, text, mark)
    model.save_pretrained(folder)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, indent=2), encoding="utf-8")
    return folder


Files = dict[str, dict[str, Any]]


def _qwen(family: str, text: dict[str, Any], mark: dict[str, int]) -> tuple[Any, Files]:
    import transformers

    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]}
    eyes: dict[str, Any] = {
        "depth": 2,
        "num_heads": 2,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    if family == "qwen2_vl":
        name, eyes = "Qwen2VL", {**eyes, "embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    else:
        name = "Qwen2_5_VL"
        eyes |= {
            "hidden_size": 32,
            "intermediate_size": 64,
            "out_hidden_size": 64,
            "window_size": 56,
            "fullatt_block_indexes": [1],
        }
    config = getattr(transformers, f"{name}Config")(
        text_config={**text, "rope_parameters": rope},
        vision_config=eyes,
        image_token_id=mark["<|image_pad|>"],
        video_token_id=mark["<|video_pad|>"],
        vision_start_token_id=mark["<|vision_start|>"],
        vision_end_token_id=mark["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    preprocessor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": f"{name}Processor",
        "size": _PIXELS,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    made = getattr(transformers, f"{name}ForConditionalGeneration")(config)
    return made, {"preprocessor_config.json": preprocessor}


def _llava(text: dict[str, Any], mark: dict[str, int]) -> tuple[Any, Files]:
    """A model whose pictures all have one size, so one number of tokens, and whose processor has settings of its own."""
    import transformers

    eyes = transformers.CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=32,
    )
    config = transformers.LlavaConfig(
        text_config=transformers.LlamaConfig(**text),
        vision_config=eyes,
        image_token_index=mark["<|image_pad|>"],
        vision_feature_layer=-2,
        tie_word_embeddings=True,
    )
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "size": {"shortest_edge": 28},
        "crop_size": {"height": 28, "width": 28},
    }
    processor = {
        "processor_class": "LlavaProcessor",
        "image_token": "<|image_pad|>",
        "patch_size": 14,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }
    made = transformers.LlavaForConditionalGeneration(config)
    return made, {"preprocessor_config.json": preprocessor, "processor_config.json": processor}


def draw(folder: Path, count: int = 8) -> list[tuple[Path, str]]:
    """Draw pictures of one colour in different sizes; return their files and what the colour is called."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for i in range(count):
        name, rgb = list(COLOURS.items())[i % len(COLOURS)]
        path = folder / f"{i}.png"
        Image.new("RGB", (40 + 17 * (i % 3), 30 + 11 * (i % 4)), rgb).save(path)
        made.append((path, name))
    return made


def picture_rows(
    purpose: str, pictures: list[tuple[Path, str]], root: Path, count: int = 16
) -> list[dict[str, Any]]:
    """Return rows about pictures, their files named from `root`: the right colour is the good answer."""
    rows = []
    names = list(COLOURS)
    for i in range(count):
        path, colour = pictures[i % len(pictures)]
        wrong = names[(names.index(colour) + 1) % len(names)]
        ask = {"role": "user", "content": "<image>What colour is this?"}
        good, bad = ({"role": "assistant", "content": f"It is {name}."} for name in (colour, wrong))
        images = [str(path.relative_to(root))]
        rows.append(
            {
                "sft": {"messages": [ask, good], "images": images},
                "kto": {"messages": [ask, good if i % 2 else bad], "images": images, "label": bool(i % 2)},
                "dpo": {"messages": [ask], "chosen": good, "rejected": bad, "images": images},
            }[purpose]
        )
    return rows
