"""Read a step's request and what it needs from earlier steps of its run. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from swiftshell.run.files import read_record
from swiftshell.run.paths import StepPaths


def read_request(step: StepPaths) -> dict[str, Any]:
    """Return `request.json`.

    Raises:
        ValueError: it is missing, not JSON, or not an object; the message names the file.
    """
    data = read_record(step.request)
    if data is None:
        raise ValueError(f"{step.request}: missing")
    return data


def needs(request: dict[str, Any], earlier: Sequence[StepPaths]) -> list[str]:
    """Return the ids of the earlier steps whose output this request takes, in order."""
    paths = [os.path.abspath(p) for p in _input_paths(request)]
    return [step.id for step in earlier if any(_inside(p, step.root) for p in paths)]


def _input_paths(request: dict[str, Any]) -> Iterator[str]:
    inputs = request.get("inputs")
    for value in inputs.values() if isinstance(inputs, dict) else ():
        for entry in value if isinstance(value, list) else [value]:
            if isinstance(entry, dict) and isinstance(entry.get("path"), str):
                yield entry["path"]


def _inside(path: str, folder: Path) -> bool:
    return path.startswith(os.path.abspath(folder) + os.sep)
