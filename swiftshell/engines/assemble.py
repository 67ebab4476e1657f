"""Put a model together the way its record says: a base, then the adapters that sit on it in order."""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from swiftshell.engines import quantization as quant
from swiftshell.engines.loading import auto_class, weight_bytes
from swiftshell.errors import EXIT_STAGE, fail

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Above this a float32 copy on a CPU is more likely to swap than to help; the saved precision is used instead.
_FLOAT32_ON_CPU_BYTES = 6 << 30


def device() -> str:
    """Return where models run on this machine: the first CUDA device, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def use_available_cores() -> None:
    """Let torch use every core this process may run on, unless OMP_NUM_THREADS already decided."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0))))


def stack_of(record: Mapping[str, Any] | None, path: Path) -> list[dict[str, Any]]:
    """Return how a model is put together: its record's stack, with the base added where only the adapter names it.

    Raises:
        SwiftshellError: an adapter's base, or another part, is not there.
    """
    stack = [dict(entry) for entry in (record or {}).get("stack") or []]
    if not stack:
        kind = "adapter" if (path / "adapter_config.json").is_file() else "model"
        stack = [{"kind": kind, "path": str(path), "name": path.name}]
    if stack[0]["kind"] == "adapter":
        file = Path(stack[0]["path"]) / "adapter_config.json"
        base = str(json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path") or "")
        if not Path(base).is_dir():
            raise fail("infer.base_unknown", file=str(file), base=base or "null")
        stack.insert(0, {"kind": "model", "path": str(Path(base).absolute()), "name": Path(base).name})
    for entry in stack:
        if not Path(entry["path"]).is_dir():
            raise fail("infer.part_missing", file=entry["path"], path=entry["path"], name=path.name)
    return stack


def trained_on(record: Mapping[str, Any] | None) -> str:
    """Return the quantization an adapter was trained on: `none`, `nf4` or `int8`."""
    found = (record or {}).get("quantization") or "none"
    return str(found.get("method", "none") if isinstance(found, Mapping) else found)


def saved_dtype(folder: Path) -> str:
    """Return the precision a model folder's weights were saved in; float32 if its config does not say.

    Raises:
        SwiftshellError: the config is missing or unreadable.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise fail("infer.unreadable_model", file=str(file), reason=_one_line(error)) from error
    text = config.get("text_config") or {}
    found = [c.get(key) for c in (config, text) for key in ("dtype", "torch_dtype")]
    known = [str(x).removeprefix("torch.") for x in found if x]
    return known[0] if known and known[0] in DTYPES else "float32"


def run_dtype(wanted: str, base: Path) -> str:
    """Turn `auto` into a precision: bfloat16 (or float16 on older cards) on CUDA; float32 on a CPU where it fits."""
    if wanted != "auto":
        return wanted
    if device() == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    saved = saved_dtype(base)
    as_float32 = weight_bytes(base) * (1 if saved == "float32" else 2)
    return "float32" if as_float32 <= _FLOAT32_ON_CPU_BYTES else saved


def load_base(folder: Path, dtype: str, *, quantization: Any | None = None) -> Any:
    """Load full or quantized weights from a folder; a saved quantization config is honoured by itself.

    Raises:
        SwiftshellError: the folder has no safetensors weights, or they cannot be read.
    """
    if not any(folder.glob("*.safetensors")):
        raise fail("infer.no_weights", file=str(folder), folder=str(folder))
    extra = {} if quantization is None else {"quantization_config": quantization}
    if quantization is not None or is_quantized(folder):
        quant.guard_cpu_kernels()
    try:
        model = auto_class(folder).from_pretrained(
            folder, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=False, local_files_only=True,
            device_map=device() if extra or device() == "cuda" else None, **extra)
    except (OSError, ValueError) as error:
        raise fail("infer.unreadable_model", file=str(folder), reason=_one_line(error), exit_code=EXIT_STAGE) from error
    model.eval()
    return model


def load_config(folder: Path) -> Any:
    """Return a model folder's configuration.

    Raises:
        SwiftshellError: it cannot be read, or its architecture is unknown.
    """
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise fail("infer.unreadable_model", file=str(folder), reason=_one_line(error)) from error


def is_quantized(folder: Path) -> bool:
    """Tell whether a model folder holds quantized weights (its config says so)."""
    file = folder / "config.json"
    return file.is_file() and "quantization_config" in json.loads(file.read_text(encoding="utf-8"))


def load_tokenizer(stack: list[dict[str, Any]]) -> Any:
    """Load the tokenizer of the topmost entry that has one, padded on the left for generation."""
    folder = tokenizer_folder(stack)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise fail("infer.unreadable_tokenizer", file=str(folder), reason=_one_line(error)) from error
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def tokenizer_folder(stack: list[dict[str, Any]]) -> Path:
    """Return the folder whose tokenizer counts: the last adapter's, because it was trained with it, else the base's.

    Raises:
        SwiftshellError: no entry of the stack has a tokenizer.
    """
    for entry in reversed(stack):
        folder = Path(entry["path"])
        if (folder / "tokenizer_config.json").is_file() or (folder / "tokenizer.json").is_file():
            return folder
    raise fail("infer.no_tokenizer", file=stack[0]["path"], folder=stack[0]["path"])


def add_adapters(model: Any, stack: list[dict[str, Any]], *, quantized: bool = False) -> Any:
    """Put a stack's adapters on a base: all but the last are folded in, the last stays an adapter."""
    adapters = [Path(entry["path"]) for entry in stack if entry["kind"] == "adapter"]
    with quant.hidden_unless(quantized):
        from peft import PeftModel
    for number, folder in enumerate(adapters):
        try:
            model = PeftModel.from_pretrained(model, str(folder), is_trainable=False, local_files_only=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise fail("infer.unreadable_model", file=str(folder), reason=_one_line(error),
                       exit_code=EXIT_STAGE) from error
        if number < len(adapters) - 1:
            model = model.merge_and_unload(safe_merge=True)
    model.eval()
    return model


def assemble(record: Mapping[str, Any] | None, path: Path, *, dtype: str = "auto") -> tuple[Any, Any]:
    """Return the model and the tokenizer of an artifact, ready for inference.

    An adapter that was trained on a quantized base gets that base quantized again: this is the model that was trained.
    """
    stack = stack_of(record, path)
    base = Path(stack[0]["path"])
    precision = run_dtype(dtype, base)
    method = trained_on(record) if stack[-1]["kind"] == "adapter" and not is_quantized(base) else "none"
    model = load_base(base, precision, quantization=quant.config(method, DTYPES[precision]))
    if len(stack) > 1:
        model = add_adapters(model, stack, quantized=method != "none" or is_quantized(base))
    return model, load_tokenizer(stack)


def forget(*models: Any) -> None:
    """Give a model's memory back before the next one is loaded; callers drop their own names as well."""
    del models
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def context_length(model: Any) -> int:
    """Return the greatest number of tokens a model takes, prompt and answer together."""
    return context_of(model.config)


def context_of(config: Any) -> int:
    """Return the context of a configuration, in tokens; a very large number where it has no limit."""
    return int(getattr(config.get_text_config(), "max_position_embeddings", 0) or 1 << 20)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
