"""Name a reference by what decides its answers: weights, configuration, precision and library versions, not its folder."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from swiftshell.engines import loading
from swiftshell.engines.loading import Precision, Stack
from swiftshell.run import artifact
from swiftshell.run.files import read_json_or_none, write_json

FORMAT = 1  # raise when a number is computed or stored in another way
_DISTRIBUTIONS = ("torch", "transformers", "trl", "peft", "bitsandbytes")


def key(reference: Stack, precision: Precision, cache: Path) -> str:
    """Return 32 hex digits that two references share only if they give the same answers up to arithmetic."""
    adapter = reference.adapter
    told: dict[str, Any] = {
        "format": FORMAT,
        "base": _weights(reference.base, cache),
        "config": json.loads((reference.base / "config.json").read_text(encoding="utf-8")),
        "adapter": _weights(adapter, cache) if adapter else None,
        "adapter_config": loading.adapter_shape(adapter) if adapter else None,
        "precision": precision.as_json(),
        "versions": {name: _version(name) for name in _DISTRIBUTIONS},
    }
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:32]


def _weights(folder: Path, cache: Path) -> dict[str, str]:
    """Return the sha256 of each weight file."""
    record = _record(folder)
    return {path.name: _sha256(path, record, cache) for path in sorted(folder.glob("*.safetensors"))}


def _record(folder: Path) -> dict[str, Any]:
    with suppress(ValueError, OSError):
        return dict((artifact.read(folder) or {}).get("files") or {})
    return {}


def _sha256(path: Path, record: dict[str, Any], cache: Path) -> str:
    """Return a file's digest: recorded with the artifact, remembered by path, size and time, or computed now."""
    stat = path.stat()
    told = record.get(path.name) or {}
    if told.get("sha256") and told.get("size") == stat.st_size and _older_than_its_record(path):
        return str(told["sha256"])
    name = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    memory, mark = cache / "reference" / "weights" / f"{name}.json", [stat.st_size, stat.st_mtime_ns]
    remembered = read_json_or_none(memory)
    if isinstance(remembered, dict) and remembered.get("mark") == mark:
        return str(remembered["sha256"])
    found = artifact.sha256(path)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_json(memory, {"mark": mark, "sha256": found})
    return found


def _older_than_its_record(path: Path) -> bool:
    """Tell whether a file was last written before its folder's record, which is written last."""
    return path.stat().st_mtime_ns <= (path.parent / artifact.NAME).stat().st_mtime_ns


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"
