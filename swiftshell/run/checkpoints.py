"""Find the newest checkpoint that is whole.

transformers writes checkpoints in place and resumes from the biggest number without looking at it, so a kill -9 in the
middle of a save is taken for good. Here a checkpoint counts only if all of its files can be what they claim to be.
Standard library only: nothing is unpickled or loaded.

A training that its guard started again held tighter goes on in a new leg (`legs.json`, see engines.guard_legs): from then
on only that leg's checkpoints count.
"""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path
from typing import Any

LEGS_FILE = "legs.json"
_PREFIX = "checkpoint-"
_INCOMPLETE = "checkpoint-is-incomplete.txt"  # transformers' own mark while it saves on a signal
_INDEX = ".safetensors.index.json"
_TRAINERS = {"adapter_model.safetensors", "model.safetensors", "model.safetensors.index.json", "training_args.bin",
             "trainer_state.json", "optimizer.pt"}
# What transformers, PEFT and TRL write into the folder before the weights: alone, it is a save that broke off.
_BEFORE_WEIGHTS = {"README.md", "config.json", "generation_config.json", "adapter_config.json", "tokenizer.json",
                   "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
                   "scheduler.pt", "rng_state.pth"}
_NEEDED = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
_WEIGHTS = (".safetensors", ".bin")


def newest_valid(folder: Path) -> Path | None:
    """Return the newest `checkpoint-<step>` of the current leg that validates, or None."""
    for path in reversed(listed(folder)):
        if not wrong(path):
            return path
    return None


def listed(folder: Path) -> list[Path]:
    """Return every `checkpoint-<step>` folder of the current leg, by step."""
    found = [p for p in _current(folder).glob(_PREFIX + "*") if p.name[len(_PREFIX):].isdigit() and p.is_dir()]
    return sorted(found, key=step_of)


def leg_folder(folder: Path, number: int) -> Path:
    """Return where the checkpoints of a leg lie; the first leg's lie where they always do."""
    return folder / f"leg-{number}" if number else folder


def _current(folder: Path) -> Path:
    told = _json(folder / LEGS_FILE)
    legs = told.get("legs") if isinstance(told, dict) else None
    return leg_folder(folder, len(legs) - 1) if isinstance(legs, list) and legs else folder


def step_of(path: Path) -> int:
    """Return the optimizer step of a checkpoint folder."""
    return int(path.name[len(_PREFIX):])


def wrong(path: Path) -> list[str]:
    """Return what is wrong with a checkpoint, one sentence fragment a file; empty means whole."""
    if (path / _INCOMPLETE).exists():
        return [_INCOMPLETE]
    try:
        files = sorted(p for p in path.rglob("*") if p.is_file())
        problems = [f"{f.relative_to(path)}: {reason}" for f in files if (reason := _wrong_with(f))]
    except OSError as error:
        return [f"{error.filename or path}: {error.strerror}"]
    names = {str(f.relative_to(path)) for f in files}
    if names & (_TRAINERS | _BEFORE_WEIGHTS):
        problems += _wrong_with_trainers(path, names)
    return problems if files else ["empty"]


def _wrong_with(file: Path) -> str:
    """Return why a file cannot be what its name says, or an empty string."""
    if file.suffix == ".tmp":
        return "not finished"  # written beside its final name, and the rename never came
    if file.suffix == ".json":
        return "" if _json(file) is not None else "not JSON"
    if file.suffix == ".safetensors":
        return "" if safetensors_whole(file) else "cut off"
    if file.suffix in (".pt", ".pth", ".bin"):
        return "" if _torch_file_whole(file) else "cut off"
    return ""


def _wrong_with_trainers(path: Path, names: set[str]) -> list[str]:
    """Return what a checkpoint of transformers' Trainer lacks to be resumed from."""
    problems = [f"{name}: missing" for name in _NEEDED if name not in names]
    if not any(name.endswith(_WEIGHTS) and not name.endswith("training_args.bin") for name in names):
        problems.append("weights: missing")
    for index in (name for name in names if name.endswith(_INDEX)):
        content = _json(path / index)
        shards = content.get("weight_map", {}) if isinstance(content, dict) else {}
        folder = Path(index).parent
        problems += [f"{shard}: missing" for shard in sorted({str(folder / s) for s in shards.values()} - names)]
    state = _json(path / "trainer_state.json")
    if isinstance(state, dict) and state.get("global_step") not in (None, step_of(path)):
        problems.append(f"trainer_state.json: of step {state.get('global_step')}")
    return problems


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
            ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        except (ValueError, AttributeError, KeyError, IndexError, TypeError):
            return False
    return bool(size == 8 + header_bytes + max(ends, default=0))


def _json(path: Path) -> Any | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return None


def _torch_file_whole(path: Path) -> bool:
    """Tell whether a torch.save file is a whole zip archive: its directory stands at the end and names `data.pkl`.

    Its members are stored uncompressed one after another, so a whole directory whose members lie before it means that
    nothing was cut off.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            inside = all(m.header_offset + m.compress_size <= archive.start_dir for m in members)
            return inside and any(m.filename.endswith("data.pkl") for m in members)
    except (zipfile.BadZipFile, ValueError, OSError, struct.error):
        return False
