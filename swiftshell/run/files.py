"""Write and read small JSON files so that a crash leaves the old one or the new one, never a torn one."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_json(path: Path, data: Any, *, mode: int = 0o640) -> None:
    """Replace `path` atomically and durably: temporary file in the same folder, fsync, rename, fsync of the folder.

    Raises:
        OSError: the disk is full, read-only or gone; `path` is then unchanged and no temporary file is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(data, file, ensure_ascii=False, indent=1, default=str)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(path.parent)


def read_json(path: Path) -> Any | None:
    """Return the parsed file, or None if it does not exist.

    Raises:
        ValueError: the file exists and is not JSON (callers decide: unknown is a state, never "fine").
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return json.loads(text)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return a record, or None if it does not exist.

    Raises:
        ValueError: it cannot be read or is no JSON object; the message names the file.
    """
    try:
        data = read_json(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path}: {error}") from error
    if data is not None and not isinstance(data, dict):
        raise ValueError(f"{path}: not a JSON object")
    return data


def read_json_or_none(path: Path) -> Any | None:
    """Return the parsed file, or None if it is absent or unreadable."""
    try:
        return read_json(path)
    except (ValueError, OSError):
        return None


def sync_folder(folder: Path) -> None:
    """Make renames inside a folder durable."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
