"""Load models and tokenizers from folders: explicit dtype, safetensors only, never remote code."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from swiftshell.engines import quantization as quant
from swiftshell.engines import vision
from swiftshell.errors import fail
from swiftshell.stages.base import InputRef

# Everything that makes a tokenizer, whatever its family, and the processor around it. Copied as bytes: saving it again
# could change it.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "processor_config.json",
)
_FLOAT32_ON_CPU_BYTES = 4 << 30  # weights up to here train in float32 on a CPU


@dataclass(frozen=True)
class Stack:
    """A model as it must be assembled: a base and, perhaps, one adapter on it.

    `entries` is the artifact's stack with absolute paths, `record` the whole ARTIFACT.json (or what stands for it).
    """

    base: Path
    adapter: Path | None
    entries: tuple[dict[str, Any], ...]
    record: Mapping[str, Any]
    name: str = ""

    @property
    def path(self) -> Path:
        """Return the folder that names this model: the adapter's, else the base's."""
        return self.adapter or self.base

    @property
    def tokenizer_folder(self) -> Path:
        """Return the topmost folder that carries a tokenizer."""
        for folder in (self.adapter, self.base):
            if folder is not None and any(
                (folder / n).is_file() for n in ("tokenizer.json", "tokenizer_config.json")
            ):
                return folder
        return self.base

    def same_as(self, other: Stack) -> bool:
        """Tell whether both are made of the same folders."""
        return (_real(self.base), _real(self.adapter)) == (_real(other.base), _real(other.adapter))


@dataclass(frozen=True)
class Precision:
    """In what numbers a step loads, computes and saves.

    Attributes:
        device: "cpu" or "cuda".
        weights: dtype of the loaded weights ("float32", "bfloat16", "float16"); of the full-precision parts of a
            quantized model.
        autocast: dtype of mixed precision, or None for none.
        quantization: "none", "nf4" or "int8".
    """

    device: str
    weights: str
    autocast: str | None
    quantization: str = "none"

    def as_json(self) -> dict[str, Any]:
        return {
            "device": self.device,
            "dtype": self.weights,
            "autocast": self.autocast,
            "quantization": self.quantization,
        }

    def trainer_flags(self) -> dict[str, bool]:
        """Return the precision arguments of transformers' TrainingArguments."""
        return {
            "use_cpu": self.device == "cpu",
            "bf16": self.autocast == "bfloat16",
            "fp16": self.autocast == "float16",
            "dataloader_pin_memory": self.device == "cuda",
        }


def stack_of(ref: InputRef) -> Stack:
    """Return how an input model is assembled.

    Raises:
        SwiftshellError: the base is not known or not there, or more than one adapter lies on it.
    """
    return stack_from(ref.artifact or {"kind": ref.kind, "path": str(ref.path)}, ref.path, ref.name)


def stack_from(record: Mapping[str, Any], path: Path, name: str = "") -> Stack:
    """Return how a recorded model (an artifact, or the `reference` entry of one) is assembled."""
    entries = [
        dict(e) for e in record.get("stack") or [{"kind": record.get("kind", "model"), "path": str(path)}]
    ]
    if entries[0].get("kind") == "adapter":
        base = _base_of_adapter(Path(entries[0]["path"]))
        entries.insert(0, {"kind": "model", "path": str(base), "id": str(base), "name": base.name})
    adapters = [Path(e["path"]) for e in entries if e.get("kind") == "adapter"]
    if len(adapters) > 1:
        raise fail("train.stack_too_deep", file=str(path), count=len(adapters))
    base = Path(entries[0]["path"])
    for folder in (base, *adapters):
        if not folder.is_dir():
            raise fail("train.model_missing", file=str(folder), path=str(folder))
    return Stack(base, adapters[0] if adapters else None, tuple(entries), record, name or path.name)


def _base_of_adapter(folder: Path) -> Path:
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    base = str(config.get("base_model_name_or_path") or "")
    if not Path(base).is_dir():
        raise fail("train.base_unknown", file=str(folder / "adapter_config.json"), base=base or "null")
    return Path(base).absolute()


def _real(path: Path | None) -> str | None:
    return None if path is None else os.path.realpath(path)


def use_one_gpu() -> None:
    """Show this process one GPU at most: with several, transformers would wrap the model in DataParallel.

    Must run before CUDA is initialised. What the launcher chose is respected, its first device taken.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = "0" if visible is None else visible.split(",")[0]


def choose_precision(params: Any, base: Path) -> Precision:
    """Decide device and dtypes from what was asked and what the machine has.

    LoRA keeps frozen weights in the compute dtype and its own in float32; full fine-tuning keeps float32 master weights
    under mixed precision unless a dtype is named.

    Raises:
        SwiftshellError: float16 was asked for on a CPU.
    """
    import torch

    asked, quantized = params.dtype, params.quantization != "none"
    if not torch.cuda.is_available():
        if asked == "float16":
            raise fail("train.float16_on_cpu")
        small = weight_bytes(base) <= _FLOAT32_ON_CPU_BYTES
        dtype = asked if asked != "auto" else "float32" if small and not quantized else "bfloat16"
        device = "cpu"
    else:
        best = "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
        dtype, device = asked if asked != "auto" else best, "cuda"
    masters = params.tuning == "full" and (asked == "auto" or dtype == "float16")
    return Precision(
        device, "float32" if masters else dtype, None if dtype == "float32" else dtype, params.quantization
    )


def weight_bytes(folder: Path) -> int:
    """Return the size of a model's weight files in bytes."""
    return sum(p.stat().st_size for p in folder.glob("*.safetensors"))


def load_tokenizer(folder: Path) -> Any:
    """Load a tokenizer from a folder.

    Raises:
        SwiftshellError: the folder has none that can be read, or it has no end-of-text token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise fail("train.tokenizer_unreadable", file=str(folder), message=_first_line(error)) from error
    if tokenizer.eos_token is None:
        raise fail("train.no_eos_token", file=str(folder))
    return tokenizer


def load_base(folder: Path, precision: Precision) -> Any:
    """Load a language model's weights in the precision decided on; quantized if so decided.

    Raises:
        SwiftshellError: no safetensors weights, an unknown architecture, or a model that needs code of its own.
    """
    import torch

    dtype = getattr(torch, precision.weights)
    extra: dict[str, Any] = {}
    if precision.quantization != "none":
        extra = {
            "quantization_config": quant.config(precision.quantization, dtype),
            "device_map": {"": 0 if precision.device == "cuda" else "cpu"},
        }
    if not any(folder.glob("*.safetensors")):
        raise fail("train.no_safetensors", file=str(folder))
    try:
        model = auto_class(folder).from_pretrained(
            str(folder),
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **extra,
        )
    except (OSError, ValueError, KeyError) as error:
        raise fail("train.model_unreadable", file=str(folder), message=_first_line(error)) from error
    model.config.use_cache = False
    return (
        model.to(precision.device)
        if precision.quantization == "none" and precision.device == "cuda"
        else model
    )


def auto_class(folder: Path) -> Any:
    """Return transformers' class that loads a folder's model: with its eyes, if it has any."""
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    return AutoModelForImageTextToText if vision.sees(folder) else AutoModelForCausalLM


def load_stack(stack: Stack, precision: Precision, *, trainable: bool = False) -> Any:
    """Load a base with its adapter on it (named "default"), in the precision decided on."""
    model = load_base(stack.base, precision)
    return model if stack.adapter is None else put_adapter(model, stack.adapter, trainable=trainable)


def put_adapter(base: Any, folder: Path, *, trainable: bool) -> Any:
    """Put a saved adapter on a loaded base; its weights are float32 whatever the base is."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(base, str(folder), is_trainable=trainable, local_files_only=True)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise fail("train.adapter_unreadable", file=str(folder), message=_first_line(error)) from error


def lora_config(lora: Any, model: Any) -> Any:
    """Return PEFT's LoraConfig for new LoRA weights; on a model that takes images, in its language model only."""
    from peft import LoraConfig

    settings = lora.model_dump()
    if getattr(model.config, "vision_config", None) is not None:
        settings["target_modules"] = vision.language_targets(model, settings["target_modules"])
    return LoraConfig(task_type="CAUSAL_LM", bias="none", **settings)


def saved_adapter_config(folder: Path) -> Any:
    """Return the PEFT configuration of a saved adapter, ready to make a new adapter of the same shape."""
    from peft import PeftConfig

    config = PeftConfig.from_pretrained(str(folder))
    config.inference_mode = False
    return config


def adapter_shape(folder: Path) -> dict[str, Any]:
    """Return the saved configuration, runtime keys left out: what must agree for weights to fit another adapter."""
    config: dict[str, Any] = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    for key in (
        "base_model_name_or_path",
        "inference_mode",
        "revision",
        "auto_mapping",
        "peft_version",
        "lora_dropout",
    ):
        config.pop(key, None)
    config["target_modules"] = (
        sorted(config["target_modules"])
        if isinstance(config.get("target_modules"), list)
        else config.get("target_modules")
    )
    return config


def restore_adapter(model: Any, folder: Path) -> None:
    """Copy a saved adapter's weights into the adapter "default" of a PEFT model, exactly.

    Raises:
        SwiftshellError: the saved weights do not fit.
    """
    from peft import get_peft_model_state_dict, load_peft_weights, set_peft_model_state_dict

    saved = load_peft_weights(str(folder), device="cpu")
    try:
        set_peft_model_state_dict(model, saved, adapter_name="default")
    except (RuntimeError, KeyError) as error:
        raise fail("train.adapter_unreadable", file=str(folder), message=_first_line(error)) from error
    now = get_peft_model_state_dict(model, adapter_name="default")
    wrong = [k for k, v in saved.items() if k not in now or (now[k].cpu().to(v.dtype) != v).any()]
    if wrong or set(now) - set(saved):
        raise fail(
            "train.adapter_unreadable", file=str(folder), message=", ".join(wrong[:3] or sorted(set(now))[:3])
        )


def trainables_to_float32(model: Any) -> None:
    """Bring adapter weights back to float32 after a trainer was built on a quantized base.

    TRL casts them to bfloat16, where an update of the size of a small learning rate rounds to nothing.
    """
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()


def length_limit(max_length: int, base: Path) -> tuple[int, int | None]:
    """Return the longest sequence in tokens that is trained on, and the model's own limit if it is the smaller."""
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    context = text.get("max_position_embeddings") or text.get("n_positions")
    if context and context < max_length:
        return int(context), int(context)
    return max_length, None


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copy a tokenizer's files, chat templates included, byte for byte."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    if (source / "additional_chat_templates").is_dir():
        shutil.copytree(
            source / "additional_chat_templates",
            target / "additional_chat_templates",
            dirs_exist_ok=True,
            copy_function=shutil.copyfile,
        )


def tokenizer_hashes(folder: Path, tokenizer: Any) -> dict[str, str | None]:
    """Return the digests that tell whether two models speak the same tokens: the files', and the chat template's."""
    digest = sha256()
    for name in sorted(TOKENIZER_FILES[:1] + TOKENIZER_FILES[2:3] + TOKENIZER_FILES[4:7]):
        if (folder / name).is_file():
            digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    template = tokenizer.chat_template
    return {
        "tokenizer_sha256": digest.hexdigest(),
        "chat_template_sha256": sha256(str(template).encode()).hexdigest() if template else None,
    }


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."
