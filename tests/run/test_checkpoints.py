"""A checkpoint that was cut anywhere is passed over for the one before it."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from pathlib import Path

import pytest

from swiftshell.run import checkpoints


def safetensors(path: Path, data_bytes: int = 400) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [data_bytes // 4], "data_offsets": [0, data_bytes]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(range(256)) * (data_bytes // 256 + 1))
    with path.open("r+b") as file:
        file.truncate(8 + len(header) + data_bytes)


def torch_file(path: Path) -> None:
    """The layout torch.save writes: a zip archive of stored members, `<name>/data.pkl` first."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(f"{path.stem}/data.pkl", b"pickle" * 20)
        archive.writestr(f"{path.stem}/data/0", bytes(600))


def trainer_checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    safetensors(path / "adapter_model.safetensors")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin"):
        torch_file(path / name)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for step in (5, 10, 20):
        trainer_checkpoint(tmp_path, step)
    return tmp_path


def test_the_newest_whole_one_counts_by_number(folder: Path) -> None:
    assert [p.name for p in checkpoints.listed(folder)] == ["checkpoint-5", "checkpoint-10", "checkpoint-20"]
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-20"
    (folder / "checkpoint-notanumber").mkdir()
    (folder / "checkpoint-99").write_text("a file")
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-20"
    assert checkpoints.newest_valid(folder / "nowhere") is None


NAMES = ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin",
         "trainer_state.json", "adapter_config.json"]


@pytest.mark.parametrize("name", NAMES)
def test_cut_at_any_length(folder: Path, name: str) -> None:
    """Every length for the small ones, and the classes that matter: nothing, inside the header, one byte short."""
    path = folder / "checkpoint-20" / name
    whole = path.read_bytes()
    step = 1 if len(whole) < 400 else 37
    for length in sorted({*range(0, len(whole) - 1, step), 7, 8, 9, len(whole) - 1}):
        if length >= len(whole):
            continue
        path.write_bytes(whole[:length])
        assert checkpoints.wrong(folder / "checkpoint-20") != [], f"{name} cut at {length} of {len(whole)}"
        assert checkpoints.newest_valid(folder) == folder / "checkpoint-10"
    path.write_bytes(whole)
    assert checkpoints.wrong(folder / "checkpoint-20") == []


@pytest.mark.parametrize("name", ["README.md", "config.json", "adapter_config.json", "tokenizer.json", "chat_template.jinja"])
def test_a_save_that_broke_off_at_its_first_file(folder: Path, name: str) -> None:
    """What is written before the weights passes for itself and is no checkpoint: the disk was full, or power went."""
    shutil.rmtree(folder / "checkpoint-20")
    (folder / "checkpoint-20").mkdir()
    (folder / "checkpoint-20" / name).write_text("{}")
    assert "weights: missing" in checkpoints.wrong(folder / "checkpoint-20")
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-10"


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json"])
def test_a_missing_part(folder: Path, name: str) -> None:
    (folder / "checkpoint-20" / name).unlink()
    assert len(checkpoints.wrong(folder / "checkpoint-20")) == 1
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-10"


def test_longer_than_it_says_is_not_whole_either(folder: Path) -> None:
    with (folder / "checkpoint-20" / "adapter_model.safetensors").open("ab") as file:
        file.write(b"\0")
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-10"


@pytest.mark.parametrize("header", [b"[]", b"{}x", b'{"w": 1}', b'{"w": {"data_offsets": []}}', b"\xff\xff"])
def test_headers_that_are_none(folder: Path, header: bytes) -> None:
    path = folder / "checkpoint-20" / "adapter_model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    assert not checkpoints.safetensors_whole(path)


def test_marks_of_an_unfinished_save(folder: Path) -> None:
    (folder / "checkpoint-20" / "checkpoint-is-incomplete.txt").write_text("")
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-10"
    (folder / "checkpoint-10" / "state.json.tmp").write_text("")
    assert checkpoints.newest_valid(folder) == folder / "checkpoint-5"
    shutil.rmtree(folder / "checkpoint-5")
    (folder / "checkpoint-5").mkdir()
    assert checkpoints.wrong(folder / "checkpoint-5") == ["empty"]
    assert checkpoints.newest_valid(folder) is None


def test_a_state_of_another_step(folder: Path) -> None:
    (folder / "checkpoint-20" / "trainer_state.json").write_text(json.dumps({"global_step": 10}))
    assert checkpoints.wrong(folder / "checkpoint-20") == ["trainer_state.json: of step 10"]


def test_a_sharded_model_needs_every_shard(folder: Path) -> None:
    path = folder / "checkpoint-20"
    (path / "adapter_model.safetensors").unlink()
    shards = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for shard in shards:
        safetensors(path / shard)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shards[0], "b": shards[1]}}))
    assert checkpoints.wrong(path) == []
    (path / shards[1]).unlink()
    assert checkpoints.wrong(path) == [f"{shards[1]}: missing"]


def test_an_engine_with_files_of_its_own(tmp_path: Path) -> None:
    """Not every engine trains: a checkpoint without a trainer's files needs none of them."""
    path = tmp_path / "checkpoint-3"
    path.mkdir()
    (path / "state.json").write_text('{"tick": 3}')
    assert checkpoints.newest_valid(tmp_path) == path
    (path / "state.json").write_text('{"tick":')
    assert checkpoints.newest_valid(tmp_path) is None


@pytest.mark.engine
def test_what_torch_and_safetensors_really_write(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    path = trainer_checkpoint(tmp_path, 7)
    save_file({"w": torch.arange(1000.0)}, path / "adapter_model.safetensors")
    torch.save({"state": {0: torch.zeros(500)}}, path / "optimizer.pt")
    assert checkpoints.wrong(path) == []
    whole = (path / "optimizer.pt").read_bytes()
    for length in range(0, len(whole), 101):
        (path / "optimizer.pt").write_bytes(whole[:length])
        assert checkpoints.wrong(path) == ["optimizer.pt: cut off"]
