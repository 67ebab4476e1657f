"""Say how much room a disk has, also for a folder that does not exist yet."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

GIB = 1 << 30


def free_bytes(path: Path) -> int:
    """Return the bytes an ordinary user may still write where `path` is or will be.

    SWIFTSHELL_FREE_DISK_GIB lowers it to what a quota really leaves: the file system does not tell quotas.
    """
    free = shutil.disk_usage(existing(path)).free
    limit = os.environ.get("SWIFTSHELL_FREE_DISK_GIB")
    return min(free, int(float(limit) * GIB)) if limit else free


def free_gib(path: Path) -> float:
    """Return the same in GiB."""
    return free_bytes(path) / GIB


def same_disk(first: Path, second: Path) -> bool:
    """Tell whether two places share a file system, so that a hard link or a rename between them can work."""
    return existing(first).stat().st_dev == existing(second).stat().st_dev


def existing(path: Path) -> Path:
    """Return the path itself, or its nearest parent that exists."""
    found = path.absolute()
    while not found.exists() and found != found.parent:
        found = found.parent
    return found
