"""Find the newest checkpoint that is whole.

transformers writes checkpoints in place and resumes from the biggest number without looking at it, so a kill -9 in the
middle of a save is taken for good. Here a checkpoint counts only if all of its files can be what they claim to be.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

_PREFIX = "checkpoint-"


def newest_valid(folder: Path) -> Path | None:
    """Return the newest `checkpoint-<step>` that validates, or None."""
    for path in reversed(listed(folder)):
        if not wrong(path):
            return path
    return None


def listed(folder: Path) -> list[Path]:
    """Return every `checkpoint-<step>` folder, by step."""
    found = [p for p in folder.glob(_PREFIX + "*") if p.is_dir() and p.name[len(_PREFIX):].isdigit()]
    return sorted(found, key=step_of)


def step_of(path: Path) -> int:
    """Return the optimizer step of a checkpoint folder."""
    return int(path.name[len(_PREFIX):])


def wrong(path: Path) -> list[str]:
    """Return what is wrong with a checkpoint, one sentence fragment a file; empty means whole."""
    if (path / "checkpoint-is-incomplete.txt").exists():
        return ["checkpoint-is-incomplete.txt"]
    problems = []
    files = [p for p in path.rglob("*") if p.is_file()]
    for file in files:
        if file.suffix == ".json" and not _is_json(file):
            problems.append(f"{file.relative_to(path)}: not JSON")
        elif file.suffix == ".safetensors" and not safetensors_whole(file):
            problems.append(f"{file.relative_to(path)}: cut off")
        elif file.suffix in (".pt", ".pth", ".bin") and not _is_torch_file(file):
            problems.append(f"{file.relative_to(path)}: cut off")
    names = {f.name for f in files}
    if names & {"adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json", "training_args.bin"}:
        needed = {"trainer_state.json", "optimizer.pt", "scheduler.pt"}
        problems += [f"{name}: missing" for name in sorted(needed - names)]
    return problems if files else ["empty"]


def safetensors_whole(path: Path) -> bool:
    """Tell whether a safetensors file is as long as its header says (8-byte length, JSON, data)."""
    size = path.stat().st_size
    if size < 8:
        return False
    with path.open("rb") as file:
        (header_bytes,) = struct.unpack("<Q", file.read(8))
        if 8 + header_bytes > size:
            return False
        try:
            header = json.loads(file.read(header_bytes))
        except ValueError:
            return False
    ends = [v["data_offsets"][1] for k, v in header.items() if k != "__metadata__"]
    return bool(size == 8 + header_bytes + max(ends, default=0))


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True


def _is_torch_file(path: Path) -> bool:
    """Tell whether a torch.save file is a whole zip archive (its directory stands at the end)."""
    return zipfile.is_zipfile(path)
