"""A local folder or file, and the starter: checked, linked or copied, never fetched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from swiftshell import starter
from swiftshell.errors import EXIT_USAGE, SwiftshellError
from swiftshell.stages.base import Facts, InputRef, Outcome
from swiftshell.stages.download import STAGE, DownloadParams
from tests.download.conftest import FakeContext, write_model, write_rows

Download = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here may ask a hub: its address leads nowhere."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def test_a_folder_is_checked_and_recorded(download: Download, ctx: FakeContext, model_folder: Path) -> None:
    (model_folder / "optimizer.pt").write_bytes(b"left behind")
    facts = download("model", {"path": str(model_folder)}).artifacts["model"]
    assert facts["source"] == {"kind": "folder", "path": str(model_folder)}
    assert (facts["name"], facts["stack"][0]["path"]) == ("tiny", ".")
    assert not (ctx.out / "model" / "optimizer.pt").exists()


def test_big_weights_take_no_second_place(download: Download, ctx: FakeContext, model_folder: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swiftshell.engines.hub_place.SMALL_BYTES", 100_000)
    download("model", {"path": str(model_folder)})
    assert os.path.samefile(ctx.out / "model" / "model.safetensors", model_folder / "model.safetensors")
    assert not os.path.samefile(ctx.out / "model" / "config.json", model_folder / "config.json")


def test_all_that_is_wrong_with_a_folder_is_said_at_once(download: Download, model_folder: Path) -> None:
    (model_folder / "tokenizer.json").unlink()
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(SwiftshellError) as error:
        download("model", {"path": str(model_folder)})
    assert [p.code for p in error.value.problems] == ["download.weights_cut", "download.no_tokenizer"]
    assert "its 5000 bytes are not what its header says" in str(error.value)


def test_a_missing_shard_is_named(download: Download, model_folder: Path) -> None:
    (model_folder / "model.safetensors").rename(model_folder / "model-00001-of-00002.safetensors")
    (model_folder / "model.safetensors.index.json").write_text(
        '{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}')
    with pytest.raises(SwiftshellError) as error:
        download("model", {"path": str(model_folder)})
    assert "lacks 1 of 2 weight files: model-00002-of-00002.safetensors" in str(error.value)


def test_a_configuration_that_is_not_json_is_named_with_its_line(download: Download, model_folder: Path) -> None:
    (model_folder / "config.json").write_text('{"model_type": "llama",\n "hidden_size": }')
    with pytest.raises(SwiftshellError) as error:
        download("model", {"path": str(model_folder)})
    assert f"{model_folder / 'config.json'}:2:17" in str(error.value)


def test_a_model_without_chat_template_is_warned_about(download: Download, ctx: FakeContext,
                                                       model_folder: Path) -> None:
    (model_folder / "tokenizer_config.json").write_text("{}")
    facts = download("model", {"path": str(model_folder)}).artifacts["model"]
    assert facts["chat_template_sha256"] is None
    assert "download.no_chat_template" in [code for code, _ in ctx.warnings]


def test_a_wrong_path_is_answered_with_its_neighbour(download: Download, model_folder: Path) -> None:
    with pytest.raises(SwiftshellError) as error:
        download("model", {"path": str(model_folder.with_name("tinny"))})
    assert error.value.exit_code == EXIT_USAGE
    assert f"hint: the nearest that exists is {model_folder}" in str(error.value)


def test_a_file_is_no_model(download: Download, model_folder: Path) -> None:
    with pytest.raises(SwiftshellError) as error:
        download("model", {"path": str(model_folder / "model.safetensors")})
    assert error.value.problems[0].code == "download.not_a_folder"


def test_a_data_file_and_a_data_folder(download: Download, ctx: FakeContext, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows" / "thumbs.jsonl")
    facts = download("dataset", {"path": str(rows)}).artifacts["dataset"]
    assert (facts["name"], facts["data_files"]) == ("thumbs", ["thumbs.jsonl"])
    assert download("dataset", {"path": str(rows.parent)}).artifacts["dataset"]["data_files"] == ["thumbs.jsonl"]


@pytest.mark.parametrize(("name", "content", "code"), [("rows.jsonl", b"", "download.data_empty"),
                                                       ("rows.pdf", b"%PDF", "download.no_data_files")])
def test_files_that_hold_no_rows(download: Download, tmp_path: Path, name: str, content: bytes, code: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SwiftshellError) as error:
        download("dataset", {"path": str(tmp_path / name)})
    assert error.value.problems[0].code == code


def test_the_starter(download: Download, ctx: FakeContext) -> None:
    facts = download("model", {"starter": True}).artifacts["model"]
    assert (facts["name"], facts["source"]["kind"]) == ("starter", "starter")
    assert facts["chat_template_sha256"]
    for purpose in ("sft", "kto", "dpo", "heldout"):
        data = download("dataset", {"starter": purpose}).artifacts["dataset"]
        assert data["data_files"] == [f"{purpose}.jsonl"]
        assert (ctx.out / "dataset" / f"{purpose}.jsonl").read_bytes() == (
            starter.DATA_DIR / f"{purpose}.jsonl").read_bytes()


@pytest.mark.engine
def test_its_hashes_are_those_the_training_engines_record() -> None:
    from transformers import AutoTokenizer

    from swiftshell.engines.hub_model import inspect
    from swiftshell.engines.loading import tokenizer_hashes

    folder = starter.MODEL_DIR
    facts = inspect(folder, "starter", lambda *_, **__: None)
    recorded = tokenizer_hashes(folder, AutoTokenizer.from_pretrained(folder))
    assert {name: facts[name] for name in recorded} == recorded


def test_a_part_the_starter_does_not_have(download: Download) -> None:
    with pytest.raises(SwiftshellError) as error:
        download("dataset", {"starter": "ppo"})
    assert "the starter has no 'ppo' (it has: dpo, heldout, kto, sft)" in str(error.value)


def test_the_stage_finds_a_wrong_path_before_the_start(tmp_path: Path) -> None:
    def facts(**options: object) -> Facts:
        return Facts({"model": InputRef("model", Path(), "model", options=options)}, 0, tmp_path)

    model = write_model(tmp_path / "tiny")
    assert not list(STAGE.check(DownloadParams(), facts(path=str(model))))
    [problem] = STAGE.check(DownloadParams(), facts(path=str(tmp_path / "gone")))
    assert (problem.code, problem.values["nearest"]) == ("download.path_missing", str(tmp_path))
    assert STAGE.needs(DownloadParams(), facts(repo="org/tiny")).network
    assert not STAGE.needs(DownloadParams(), facts(path=str(model))).network
