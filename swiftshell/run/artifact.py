"""Read, write and check ARTIFACT.json: what a step's output is, what it sits on and where it came from.

```
{"v": 1, "id": "<run>/<step>/<slot>", "kind": "adapter", "stage": "kto", "name": "kto.adapter", "lineage": "starter",
 "created": "2026-11-25T…", "path": "<absolute, filled when read>",
 "stack": [{"kind": "model", "path": …, "id": …, "name": …}, {"kind": "adapter", "path": ".", …}],
 "reference": {"id", "path", "kind", "stack"}, "parents": [{"slot", "id", "path"}],
 "dataset": {"path", "sha256", "rows"}, "source": {"repo", "revision"},
 "tokenizer_sha256", "chat_template_sha256", "dtype", "quantization", "size_bytes",
 "files": {"adapter_model.safetensors": {"size": …, "sha256": …}}, "probe": {…}, "made_by": {"swiftshell": …}}
```
`stack` is the model as it must be assembled: a base first, then the adapters that sit on it in order. Paths are stored
relative to the artifact's folder, so a workspace can be moved; `read` makes them absolute.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftshell.run.files import read_json, write_json

NAME = "ARTIFACT.json"
VERSION = 1


def read(folder: Path) -> dict[str, Any] | None:
    """Return an artifact's record with absolute paths, or None if the folder has none.

    Raises:
        ValueError: the record is not JSON, or was written by a newer version.
    """
    data = read_json(folder / NAME)
    if data is None:
        return None
    if not isinstance(data, dict) or int(data.get("v", 0)) > VERSION:
        raise ValueError(f"{folder / NAME}: version {data.get('v') if isinstance(data, dict) else '?'}")
    data = _map_paths(data, lambda p: str((folder / p).resolve()) if not os.path.isabs(p) else p)
    return {**data, "path": str(folder.resolve())}


def write(folder: Path, data: Mapping[str, Any], final: Path | None = None) -> None:
    """Write an artifact's record; it is the last file of the folder.

    `final` is where the folder will lie after the rename (relative paths are counted from there).
    """
    home = (final or folder).absolute()
    relative = _map_paths(dict(data), lambda p: os.path.relpath(p, home) if os.path.isabs(p) else p)
    relative.pop("path", None)
    write_json(folder / NAME, {"v": VERSION, **relative})


def _map_paths(data: dict[str, Any], change: Any) -> dict[str, Any]:
    """Apply `change` to every path an artifact holds (stack, reference, parents, dataset)."""
    out = dict(data)
    for key in ("stack", "parents"):
        out[key] = [{**e, "path": change(e["path"])} if e.get("path") else e for e in data.get(key) or []]
    for key in ("reference", "dataset"):
        entry = data.get(key)
        if isinstance(entry, dict):
            out[key] = _map_paths(entry, change) if "stack" in entry else dict(entry)
            if entry.get("path"):
                out[key]["path"] = change(entry["path"])
    if not data.get("stack"):
        out.pop("stack", None)
    if not data.get("parents"):
        out.pop("parents", None)
    return out


def inventory(folder: Path) -> dict[str, dict[str, Any]]:
    """Return size and sha256 of every file in a folder (the record itself left out), by relative path."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != NAME):
        found[str(path.relative_to(folder))] = {"size": path.stat().st_size, "sha256": sha256(path)}
    return found


def sha256(path: Path) -> str:
    """Return the hex digest of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def damaged(folder: Path, *, hashes: bool = False) -> list[str]:
    """Return what is wrong with an artifact's files: missing, of another size, or (with `hashes`) changed.

    An empty list means whole. A folder without a record is reported as such: it was never finished.
    """
    try:
        data = read(folder)
    except ValueError as error:
        return [str(error)]
    if data is None:
        return [NAME]
    wrong = []
    for name, facts in (data.get("files") or {}).items():
        path = folder / name
        other_size = not path.is_file() or path.stat().st_size != facts.get("size")
        if other_size or (hashes and facts.get("sha256") and sha256(path) != facts["sha256"]):
            wrong.append(name)
    return wrong
