"""Tell whether a step would do the same again: stage, parameters, inputs, engine versions and seed, hashed."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from swiftshell.data import sources
from swiftshell.run.artifact import sha256
from swiftshell.run.files import read_json_or_none, write_json

FORMAT = 1  # raise when an engine's meaning changes without a parameter saying so
_HASH_LIMIT_BYTES = 2 << 30


def of_step(stage: str, params: dict[str, Any], inputs: dict[str, list[str]], seed: int,
            distributions: tuple[str, ...]) -> str:
    """Return a step's fingerprint (64 hex digits)."""
    return _digest({"format": FORMAT, "stage": stage, "params": params, "inputs": inputs, "seed": seed,
                    "versions": {name: version(name) for name in distributions}})


def of_file(path: Path, options: dict[str, Any], cache_folder: Path | None = None) -> str:
    """Return a data file's or folder's fingerprint: its content and how it is read.

    The content hash is remembered in `cache_folder` by size and modification time, so an unchanged file is read once.
    """
    if path.is_dir():
        parts = {str(p.relative_to(path)): _content(p, cache_folder) for p in sorted(path.rglob("*")) if p.is_file()}
        return _digest({"folder": parts, "options": options})
    if not path.exists():  # a pattern
        found = [_content(p, cache_folder) for p in sources.data_files(path, lambda _: None)]
        return _digest({"files": found, "options": options})
    return _digest({"file": _content(path, cache_folder), "options": options})


def of_model_folder(path: Path) -> str:
    """Return an outside model folder's fingerprint from names, sizes and times of its files, and its config."""
    files = {str(p.relative_to(path)): [p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(path.rglob("*"))
             if p.is_file()}
    return _digest({"model": files})


def of_spec(spec: dict[str, Any]) -> str:
    """Return the fingerprint of something that is named but not here yet (a hub repository)."""
    return _digest({"spec": spec})


@cache
def version(distribution: str) -> str:
    """Return an installed distribution's version without importing it."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "absent"


def _content(path: Path, cache_folder: Path | None) -> str:
    stat = path.stat()
    key = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32]
    mark = [stat.st_size, stat.st_mtime_ns]
    remembered = read_json_or_none(cache_folder / f"{key}.json") if cache_folder else None
    if isinstance(remembered, dict) and remembered.get("mark") == mark:
        return str(remembered["sha256"])
    digest = sha256(path) if stat.st_size <= _HASH_LIMIT_BYTES else _digest({"large": mark})
    if cache_folder is not None:
        with suppress(OSError):  # a cache that cannot be written costs time, nothing else
            write_json(cache_folder / f"{key}.json", {"mark": mark, "sha256": digest})
    return digest


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
