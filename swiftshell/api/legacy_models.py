"""Short model names that people use, and the hub repositories they stand for."""

from __future__ import annotations

import re

_SIZES = {
    "Qwen/Qwen2.5-{}{}": ("0.5B", "1.5B", "3B", "7B", "14B", "32B", "72B"),
    "Qwen/Qwen3-{}{}": ("0.6B", "1.7B", "4B", "8B", "14B", "32B"),
}
_OTHERS = {
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B-Instruct",
    "llama-3.1-8b-base": "meta-llama/Llama-3.1-8B",
    "llama-3.1-70b": "meta-llama/Llama-3.1-70B-Instruct",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B-Instruct",
    "llama-3.2-1b-base": "meta-llama/Llama-3.2-1B",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B-Instruct",
    "llama-3.2-3b-base": "meta-llama/Llama-3.2-3B",
    "mistral-7b": "mistralai/Mistral-7B-Instruct-v0.3",
    "mistral-7b-base": "mistralai/Mistral-7B-v0.3",
    "gemma-2-2b": "google/gemma-2-2b-it",
    "gemma-2-9b": "google/gemma-2-9b-it",
    "smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct",
    "smollm2-360m": "HuggingFaceTB/SmolLM2-360M-Instruct",
    "smollm2-1.7b": "HuggingFaceTB/SmolLM2-1.7B-Instruct",
}


def _table() -> dict[str, str]:
    table = dict(_OTHERS)
    for pattern, sizes in _SIZES.items():
        family = pattern.partition("/")[2].partition("-")[0].lower()
        # Qwen3 puts the word on the base model, Qwen2.5 on the instruct model.
        tuned, base = ("", "-Base") if family == "qwen3" else ("-Instruct", "")
        for size in sizes:
            table[f"{family}-{size.lower()}"] = pattern.format(size, tuned)
            table[f"{family}-{size.lower()}-instruct"] = pattern.format(size, tuned)
            table[f"{family}-{size.lower()}-base"] = pattern.format(size, base)
            if family == "qwen2.5":
                table[f"qwen-{size.lower()}"] = pattern.format(size, tuned)
    return table


MODEL_NAMES: dict[str, str] = _table()


def folded(name: str) -> str:
    """Return a short name as the table spells it: lower case, `qwen2_5` as `qwen2.5`, other underscores as hyphens."""
    return re.sub(r"(?<=\d)_(?=\d)", ".", name.strip().lower()).replace("_", "-")


def repository(name: str) -> str:
    """Return the repository a short name stands for, or an empty string."""
    return MODEL_NAMES.get(folded(name), "")
