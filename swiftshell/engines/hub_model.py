"""Choose a model's files and check a model's folder, from names, JSON and safetensors headers alone.

No weights are read and no code of the repository is run: a model that needs its own code is refused.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from swiftshell.errors import EXIT_USAGE, Problem, SwiftshellError, fail
from swiftshell.machine import architecture
from swiftshell.run.checkpoints import safetensors_whole

Warn = Callable[..., None]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
_TEXTS = (".json", ".txt", ".model", ".jinja", ".md", ".tiktoken", ".spm", ".vocab", ".bpe")
_LEGAL = ("license", "licence", "notice", "use_policy", "copying")
_TOKENIZERS = (("tokenizer.json",), ("tokenizer.model",), ("spiece.model",), ("vocab.json", "merges.txt"),
               ("vocab.txt",))
_HASHED = ("added_tokens.json", "merges.txt", "tokenizer.json", "tokenizer.model", "vocab.json")  # in this order
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "max_sequence_length")
_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn"}


def choose(names: Iterable[str], allow: list[str], ignore: list[str], where: str) -> tuple[list[str], list[str]]:
    """Return which files of a model repository to fetch: the small ones, then the weights.

    Weights are safetensors in the root, in one file or in shards; variants, other formats, sub-folders and code are
    left where they are. Patterns of the user replace (`allow`) or thin out (`ignore`) this choice; pickles are never
    taken.

    Raises:
        SwiftshellError: there is nothing that can be loaded safely.
    """
    everything = sorted(names)
    root = [n for n in everything if "/" not in n]
    if allow:
        picked = [n for n in everything if _any(n, allow) and not n.endswith((*_PICKLES, ".py"))]
        weights = [n for n in picked if n.endswith(".safetensors")]
    else:
        single = [n for n in root if n == SINGLE]
        weights = single or [n for n in root if _SHARD.fullmatch(n)]
        picked = [n for n in root if n.endswith(_TEXTS) or n.lower().startswith(_LEGAL)] + weights
        picked += [n for n in everything if n.startswith("additional_chat_templates/") and n.endswith(".jinja")]
    chosen = [n for n in picked if not _any(n, ignore)]
    weights = [n for n in weights if n in chosen]
    if "config.json" not in everything or not weights:
        raise _nothing_to_load(everything, where)
    return [n for n in chosen if n not in weights], weights


def _any(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, p + "*" if p.endswith("/") else p) for p in patterns)


def _nothing_to_load(names: list[str], where: str) -> SwiftshellError:
    """Say why a folder or repository holds no model that can be loaded."""
    root = [n for n in names if "/" not in n]
    found = ", ".join(root[:12]) or "-"
    if "adapter_config.json" in root:
        return fail("download.is_adapter", where=where)
    if "config.json" not in root:
        if any(n.endswith(".gguf") for n in root):
            return fail("download.gguf_only", where=where, found=found)
        return fail("download.no_config", where=where, found=found)
    pickles = [n for n in root if n.endswith(_PICKLES)]
    if pickles:
        return fail("download.pickle_only", where=where, found=", ".join(pickles[:5]))
    return fail("download.no_weights", where=where, found=found)


def check_config(folder: Path, where: str, warn: Warn) -> dict[str, Any]:
    """Read config.json and tokenizer_config.json; refuse what only the repository's own code could load.

    Raises:
        SwiftshellError: a file is not JSON, or the model needs remote code.
    """
    config = _json(folder / "config.json", where)
    tokenizer = _json(folder / "tokenizer_config.json", where) if (folder / "tokenizer_config.json").is_file() else {}
    model_type = str(config.get("model_type", ""))
    if "auto_map" in config:
        found = architecture.of_config(config)
        if found.remote_code and found.is_cogvlm:
            raise fail("images.cogvlm", where=where)
        if found.remote_code:
            raise fail("download.remote_code", where=where, model_type=model_type or "-",
                       found=", ".join(sorted(map(str, config["auto_map"]))))
        warn("download.remote_code_ignored", where=where, model_type=model_type)
    if "auto_map" in tokenizer and not any(_all_there(folder, t) for t in _TOKENIZERS):
        raise fail("download.remote_code", where=where, model_type=str(tokenizer.get("tokenizer_class", "-")),
                   found="AutoTokenizer")
    return config


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise fail("download.config_unreadable", where=where, name=path.name, reason=error.msg, file=str(path),
                   line=error.lineno, column=error.colno) from error
    except (OSError, UnicodeDecodeError) as error:
        raise fail("download.config_unreadable", where=where, name=path.name, reason=str(error)[:120],
                   file=str(path)) from error
    if not isinstance(data, dict):
        raise fail("download.config_unreadable", where=where, name=path.name, reason="not an object", file=str(path))
    return data


def inspect(folder: Path, where: str, warn: Warn) -> dict[str, Any]:
    """Check a model's folder and return its facts for ARTIFACT.json.

    Raises:
        SwiftshellError: every problem found: weights missing or cut off, no tokenizer, unreadable JSON.
    """
    config = check_config(folder, where, warn)
    weights, problems = _weights(folder, where)
    if not any(_all_there(folder, t) for t in _TOKENIZERS) and not list(folder.glob("*.tiktoken")):
        problems.append(Problem("download.no_tokenizer", {"where": where}, file=str(folder)))
    if problems:
        raise SwiftshellError(problems, EXIT_USAGE)
    parameters, dtype = tensor_facts(weights)
    template = chat_template(folder)
    if template is None:
        warn("download.no_chat_template", where=where)
    quantization = _quantization(config)
    return {
        "kind": "quantized_model" if quantization else "model",
        "dtype": _dtype(config) or dtype, "quantization": quantization, "parameters": parameters,
        "context_length": _context_length(config), "model_type": config.get("model_type"),
        "architecture": (config.get("architectures") or [None])[0], "tokenizer_sha256": tokenizer_sha256(folder),
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest() if template is not None else None,
    }


def _weights(folder: Path, where: str) -> tuple[list[Path], list[Problem]]:
    """Return the weight files of a folder and what is wrong with them."""
    if (folder / SINGLE).is_file():
        names = [SINGLE]
    elif (folder / INDEX).is_file():
        listed = _json(folder / INDEX, where).get("weight_map")
        names = sorted(set(listed.values())) if isinstance(listed, dict) else []
    else:
        names = sorted(p.name for p in folder.glob("*.safetensors"))
    if not names:
        raise _nothing_to_load([p.name for p in folder.iterdir()], where)
    missing = [n for n in names if not (folder / n).is_file()]
    problems = [Problem("download.weights_missing", {"where": where, "missing": ", ".join(missing[:5]),
                                                     "count": len(missing), "total": len(names)}, file=str(folder))]
    cut = [n for n in names if n not in missing and not safetensors_whole(folder / n)]
    cut_off = [Problem("download.weights_cut", {"where": where, "name": n, "size": (folder / n).stat().st_size},
                       file=str(folder / n)) for n in cut]
    return [folder / n for n in names], (problems if missing else []) + cut_off


def tensor_facts(files: Iterable[Path]) -> tuple[int, str]:
    """Return the number of stored values and the dtype most of them have, from safetensors headers alone."""
    counts: Counter[str] = Counter()
    for path in files:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header: Mapping[str, Any] = json.loads(file.read(length))
        for name, tensor in header.items():
            if name != "__metadata__":
                counts[tensor["dtype"]] += prod(tensor["shape"])
    most = counts.most_common(1)[0][0] if counts else ""
    return sum(counts.values()), _DTYPES.get(most, most.lower())


def chat_template(folder: Path) -> str | None:
    """Return the model's (default) chat template, or None: chat_template.jinja, else the tokenizer's configuration."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    for name in ("chat_template.json", "tokenizer_config.json"):
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8")).get("chat_template")
        except (OSError, ValueError, AttributeError):
            continue
        if isinstance(found, list):  # several, by name
            named = {str(e.get("name")): e.get("template") for e in found if isinstance(e, dict)}
            found = named.get("default") or next(iter(named.values()), None)
        if isinstance(found, str) and found.strip():
            return found
    return None


def tokenizer_sha256(folder: Path) -> str | None:
    """Return the digest of the files that turn text into tokens, or None if there are none of them.

    The same digest as the training engines record, so that a model and what was trained from it can be compared.
    """
    found = [n for n in _HASHED if (folder / n).is_file()]
    digest = hashlib.sha256()
    for name in found:
        digest.update(name.encode() + b"\0" + (folder / name).read_bytes())
    return digest.hexdigest() if found else None


def _all_there(folder: Path, names: tuple[str, ...]) -> bool:
    return all((folder / n).is_file() for n in names)


def _text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the language model's part of a configuration."""
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _context_length(config: Mapping[str, Any]) -> int | None:
    text = _text_config(config)
    return next((int(text[k]) for k in _CONTEXT_KEYS if isinstance(text.get(k), int)), None)


def _dtype(config: Mapping[str, Any]) -> str | None:
    found = next((c[k] for c in (config, _text_config(config)) for k in ("dtype", "torch_dtype") if c.get(k)), None)
    return str(found).removeprefix("torch.") if found else None


def _quantization(config: Mapping[str, Any]) -> str | None:
    """Return the method a model was quantized with (`nf4`, `int8`, `awq`, `gptq`, `fp8` …), or None."""
    found = config.get("quantization_config")
    if not isinstance(found, dict):
        return None
    if found.get("load_in_4bit"):
        return str(found.get("bnb_4bit_quant_type", "nf4"))
    if found.get("load_in_8bit"):
        return "int8"
    return str(found.get("quant_method", "")) or None
