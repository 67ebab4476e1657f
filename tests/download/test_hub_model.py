"""A model from a hub: what is fetched, what is recorded, and what happens on a bad line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from swiftshell.engines import hub_download
from swiftshell.errors import EXIT_NO_RESOURCES, EXIT_STAGE, SwiftshellError
from swiftshell.stages.base import Outcome, Stopped
from tests.download.conftest import TEMPLATE, FakeContext, write_model, write_safetensors
from tests.support.loopback_hub import LoopbackHub

Download = Callable[..., Outcome]
WEIGHTS = "model.safetensors"


@pytest.fixture
def hub(model_folder: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    for name in ("pytorch_model.bin", "model.onnx", "extra.gguf", "modeling_tiny.py"):
        (model_folder / name).write_bytes(b"not wanted")
    (model_folder / "onnx").mkdir()
    (model_folder / "onnx" / "config.json").write_text("{}")
    with LoopbackHub(models={"org/tiny": model_folder}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def test_a_model_is_fetched_verified_and_recorded(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                                  model_folder: Path) -> None:
    outcome = download("model", {"repo": "org/tiny", "revision": None, "source": "hf"})
    facts, folder = outcome.artifacts["model"], ctx.out / "model"
    assert {p.name for p in folder.iterdir()} == {"config.json", "tokenizer.json", "tokenizer_config.json", "README.md",
                                                  WEIGHTS}
    assert (folder / WEIGHTS).read_bytes() == (model_folder / WEIGHTS).read_bytes()
    assert facts["source"] == {"kind": "hub", "repo": "org/tiny", "revision": hub.commit("org/tiny"), "asked": None}
    assert (facts["kind"], facts["name"], facts["dtype"]) == ("model", "tiny", "bfloat16")
    assert (facts["parameters"], facts["context_length"]) == (256 * 512, 512)
    assert facts["chat_template_sha256"] == hashlib.sha256(TEMPLATE.encode()).hexdigest()
    named = b"tokenizer.json\0" + (model_folder / "tokenizer.json").read_bytes()
    assert facts["tokenizer_sha256"] == hashlib.sha256(named).hexdigest()
    assert facts["stack"] == [{"kind": "model", "path": ".", "name": "tiny", "source": facts["source"]}]
    assert hub.endpoint not in json.dumps(facts)
    assert ctx.progressed[-1][0] == ctx.progressed[-1][1] == outcome.summary["size_bytes"]


def test_an_asked_for_revision_is_the_one_that_comes(model_folder: Path, download: Download, ctx: FakeContext,
                                                     tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = write_model(tmp_path / "old", seed=7)
    with LoopbackHub(models={"org/tiny": model_folder}, revisions={"org/tiny": {"v1.0": old}}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        outcome = download("model", {"repo": "org/tiny", "revision": "v1.0"})
        assert outcome.artifacts["model"]["source"]["revision"] == hub.commit("org/tiny", revision="v1.0")
        assert (ctx.out / "model" / WEIGHTS).read_bytes() == (old / WEIGHTS).read_bytes()
        with pytest.raises(SwiftshellError) as error:
            download("model", {"repo": "org/tiny", "revision": "v1.1"})
    assert error.value.problems[0].values["nearest"] == "v1.0"
    assert "org/tiny has no revision 'v1.1' (it has: main, v1.0)" in str(error.value)


def test_a_second_download_sends_no_bytes(hub: LoopbackHub, download: Download, ctx: FakeContext) -> None:
    download("model", {"repo": "org/tiny"})
    hub.requests.clear()
    shutil.rmtree(ctx.out)
    outcome = download("model", {"repo": "org/tiny"})
    assert hub.gets() == []
    assert outcome.summary["received_bytes"] == 0


def test_the_cache_is_one_other_programs_read(hub: LoopbackHub, download: Download, own_environment: Path) -> None:
    from huggingface_hub import snapshot_download

    download("model", {"repo": "org/tiny"})
    folder = Path(snapshot_download("org/tiny", cache_dir=own_environment, local_files_only=True))
    assert folder.name == hub.commit("org/tiny")
    assert (folder / WEIGHTS).is_symlink()


def test_a_broken_connection_goes_on_where_it_stopped(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                                      model_folder: Path) -> None:
    hub.break_after(WEIGHTS, 100_000, times=2)
    outcome = download("model", {"repo": "org/tiny"})
    size = (model_folder / WEIGHTS).stat().st_size
    assert [r.range for r in hub.gets(WEIGHTS)] == [None, "bytes=100000-", "bytes=200000-"]
    assert hub.sent_bytes[WEIGHTS] == size
    assert outcome.summary["retries"] == 2
    assert (ctx.out / "model" / WEIGHTS).read_bytes() == (model_folder / WEIGHTS).read_bytes()


def test_a_line_that_brings_nothing_ends_in_a_clear_error_and_can_be_continued(
        hub: LoopbackHub, download: Download, model_folder: Path) -> None:
    hub.break_after(WEIGHTS, 150_000, times=1)
    hub.break_after(WEIGHTS, 0, times=3)
    with pytest.raises(SwiftshellError) as error:
        download("model", {"repo": "org/tiny"})
    problem = error.value.problems[0]
    assert (problem.code, error.value.exit_code) == ("download.broken_off", EXIT_STAGE)
    assert problem.values["tries"] == 3
    assert f"broke off at {150_000 / 2**20:.1f} of" in str(error.value)
    outcome = download("model", {"repo": "org/tiny"})
    assert outcome.summary["resumed_bytes"] == 150_000
    assert hub.sent_bytes[WEIGHTS] == (model_folder / WEIGHTS).stat().st_size


def test_a_server_without_ranges_starts_over(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                             model_folder: Path) -> None:
    hub.ranges = False
    hub.break_after(WEIGHTS, 100_000)
    download("model", {"repo": "org/tiny"})
    assert (ctx.out / "model" / WEIGHTS).read_bytes() == (model_folder / WEIGHTS).read_bytes()
    assert ctx.progressed[-1][0] == ctx.progressed[-1][1]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_hub_out_of_order_is_asked_again(hub: LoopbackHub, download: Download, status: int) -> None:
    hub.answer(status, "/api/models", times=2)
    hub.answer(status, WEIGHTS, times=2, Retry_After="0")
    assert download("model", {"repo": "org/tiny"}).summary["retries"] == 2


@pytest.mark.parametrize(("status", "code"), [(429, "download.rate_limited"), (500, "download.hub_status")])
def test_a_hub_that_stays_out_of_order_is_named(hub: LoopbackHub, download: Download, status: int, code: str) -> None:
    hub.answer(status, "/api/models", times=None)
    with pytest.raises(SwiftshellError) as error:
        download("model", {"repo": "org/tiny"})
    assert (error.value.problems[0].code, error.value.exit_code) == (code, EXIT_STAGE)
    assert hub.endpoint in str(error.value)


@pytest.mark.parametrize("name", [WEIGHTS, "tokenizer.json"])
def test_wrong_bytes_are_fetched_anew_once(hub: LoopbackHub, download: Download, ctx: FakeContext, model_folder: Path,
                                           name: str) -> None:
    hub.corrupt(name, times=1)
    download("model", {"repo": "org/tiny"})
    assert len(hub.gets(name)) == 2
    assert (ctx.out / "model" / name).read_bytes() == (model_folder / name).read_bytes()


def test_wrong_bytes_twice_are_refused_and_not_kept(hub: LoopbackHub, download: Download,
                                                    own_environment: Path) -> None:
    hub.corrupt(WEIGHTS, times=2)
    with pytest.raises(SwiftshellError) as error:
        download("model", {"repo": "org/tiny"})
    assert error.value.problems[0].code == "download.hash_mismatch"
    assert not [p for p in own_environment.rglob("*") if p.is_file() and p.stat().st_size > 200_000]


def test_a_damaged_file_in_the_cache_is_found_and_replaced(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                                           own_environment: Path, model_folder: Path) -> None:
    download("model", {"repo": "org/tiny"})
    shutil.rmtree(ctx.out)
    blob = next(own_environment.rglob(WEIGHTS)).resolve()
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    download("model", {"repo": "org/tiny"})
    assert (ctx.out / "model" / WEIGHTS).read_bytes() == (model_folder / WEIGHTS).read_bytes()


def test_a_stop_keeps_what_came_and_the_next_attempt_goes_on(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                                             own_environment: Path, model_folder: Path) -> None:
    hub.bytes_per_s = 400_000
    ctx.stop = lambda: any(p.stat().st_size > 50_000 for p in own_environment.rglob("*.incomplete"))
    with pytest.raises(Stopped):
        download("model", {"repo": "org/tiny"})
    kept = sum(p.stat().st_size for p in own_environment.rglob("*.incomplete"))
    assert 50_000 < kept < (model_folder / WEIGHTS).stat().st_size
    hub.bytes_per_s, ctx.stop = None, lambda: False
    assert download("model", {"repo": "org/tiny"}).summary["resumed_bytes"] == kept
    assert hub.gets(WEIGHTS)[-1].range == f"bytes={kept}-"


def test_shards_are_followed_by_their_index(download: Download, ctx: FakeContext, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model(tmp_path / "sharded")
    (folder / WEIGHTS).unlink()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for i, name in enumerate(names):
        write_safetensors(folder / name, {f"w{i}": ("F32", [64, 32])}, seed=i)
    write_safetensors(folder / "consolidated.safetensors", {"w": ("F32", [64, 64])})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w0": names[0], "w1": names[1]}}))
    with LoopbackHub(models={"org/tiny": folder}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        outcome = download("model", {"repo": "org/tiny"}, max_workers=2)
    assert sorted(p.name for p in (ctx.out / "model").glob("*.safetensors")) == names
    assert outcome.artifacts["model"]["parameters"] == 2 * 64 * 32


def test_a_full_disk_is_told_before_the_start(hub: LoopbackHub, download: Download,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_download, "free_bytes", lambda _: 300 << 10)
    with pytest.raises(SwiftshellError) as error:
        download("model", {"repo": "org/tiny"})
    assert (error.value.problems[0].code, error.value.exit_code) == ("download.disk_full", EXIT_NO_RESOURCES)
    assert hub.gets() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_up_keeps_what_came(hub: LoopbackHub, download: Download, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    disk = tmp_path / "small"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=160k tmpfs '{disk}' 2>/dev/null"):
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        monkeypatch.setenv("HF_HUB_CACHE", str(disk))
        monkeypatch.setattr(hub_download, "free_bytes", lambda _: 1 << 40)
        with pytest.raises(SwiftshellError) as error:
            download("model", {"repo": "org/tiny"})
        kept = sum(p.stat().st_size for p in disk.rglob("*.incomplete"))
    finally:
        os.system(f"umount '{disk}'")
    assert (error.value.problems[0].code, error.value.exit_code) == ("download.disk_filled", EXIT_NO_RESOURCES)
    assert kept > 0


def test_big_files_are_linked_and_small_ones_copied(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                                    own_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("swiftshell.engines.hub_place.SMALL_BYTES", 100_000)
    outcome = download("model", {"repo": "org/tiny"})
    blob = next((own_environment / "models--org--tiny").rglob(WEIGHTS)).resolve()
    assert (ctx.out / "model" / WEIGHTS).stat().st_ino == blob.stat().st_ino
    assert outcome.summary["linked"] == 1
    shutil.rmtree(own_environment)  # cleaning the cache does not hurt the artifact
    assert (ctx.out / "model" / WEIGHTS).stat().st_size > 200_000
    assert (ctx.out / "model" / "config.json").stat().st_nlink == 1


def test_where_no_hard_link_can_be_made_it_is_said(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("swiftshell.engines.hub_place.SMALL_BYTES", 100_000)
    monkeypatch.setattr("swiftshell.engines.hub_place.os.link", refuse)
    outcome = download("model", {"repo": "org/tiny"})
    assert (ctx.out / "model" / WEIGHTS).is_symlink()
    assert outcome.summary["pointed"] == 1
    assert "download.points_elsewhere" in [code for code, _ in ctx.notes]


@pytest.mark.parametrize("library_can", [True, False])
def test_a_file_too_big_for_plain_http_is_left_to_the_library_if_it_can(
        hub: LoopbackHub, download: Download, ctx: FakeContext, model_folder: Path, monkeypatch: pytest.MonkeyPatch,
        library_can: bool) -> None:
    import huggingface_hub
    from huggingface_hub import constants

    real, asked = huggingface_hub.hf_hub_download, []

    def fetch(repo: str, name: str, **options: object) -> str:
        asked.append(name)
        if library_can:  # as with its Xet client; without one the limit makes it raise ValueError
            monkeypatch.setattr(constants, "MAX_HTTP_DOWNLOAD_SIZE", 1 << 40)
        return str(real(repo, name, **options))  # type: ignore[call-overload]

    monkeypatch.setattr(constants, "MAX_HTTP_DOWNLOAD_SIZE", 200_000)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    download("model", {"repo": "org/tiny"})
    assert asked == [WEIGHTS]
    assert (ctx.out / "model" / WEIGHTS).read_bytes() == (model_folder / WEIGHTS).read_bytes()


def test_patterns_choose_and_thin_out(hub: LoopbackHub, download: Download, ctx: FakeContext) -> None:
    download("model", {"repo": "org/tiny"}, ignore_patterns=["*.md"])
    assert not (ctx.out / "model" / "README.md").exists()
    shutil.rmtree(ctx.out)
    download("model", {"repo": "org/tiny"}, allow_patterns=["*.json", "*.safetensors", "*.bin"])
    assert not list((ctx.out / "model").glob("*.bin"))
