"""Put fetched or local files into an artifact's folder without doubling what a disk holds, and never silently.

Small files (configuration, tokenizer) are copied: they are what a person edits in place, and a recorded artifact must
not change with them. Big files (weights, data) become hard links: the artifact stays whole when the cache is cleaned or
the folder it came from is removed, and takes no room. Where a hard link cannot be made (another file system, or a
shared cache whose files belong to someone else) a symbolic link is made and said so, since a base model may be hundreds
of GiB: such an artifact lasts as long as what it points to, and its record (sizes and hashes) tells when that is gone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

SMALL_BYTES = 8 << 20


class Placed(NamedTuple):
    """How many files were placed in which way."""

    copied: int
    linked: int
    pointed: int


def place(files: Mapping[str, Path], folder: Path) -> Placed:
    """Place files (relative name -> source) in a folder.

    Raises:
        OSError: the folder cannot be written to.
    """
    counts = {"copied": 0, "linked": 0, "pointed": 0}
    for name, source in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        counts[_place_one(source.resolve(), target)] += 1
    return Placed(**counts)


def _place_one(source: Path, target: Path) -> str:
    if source.stat().st_size <= SMALL_BYTES:
        shutil.copyfile(source, target)
        return "copied"
    try:
        os.link(source, target)
    except OSError:
        target.symlink_to(source)
        return "pointed"
    return "linked"
