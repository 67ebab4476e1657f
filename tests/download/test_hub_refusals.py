"""What a hub may refuse or lack: one clear error each, with the value found and one thing to do."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from swiftshell import i18n
from swiftshell.errors import EXIT_AUTH, EXIT_STAGE, EXIT_USAGE, SwiftshellError
from swiftshell.stages.base import Outcome
from tests.download.conftest import FakeContext, write_model, write_rows, write_safetensors
from tests.support.loopback_hub import LoopbackHub

Download = Callable[..., Outcome]
TOKEN = "hf_a_secret_nobody_may_see"


@pytest.fixture
def hub(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    rows = write_rows(tmp_path / "rows" / "train.jsonl").parent
    models = {"org/tiny-chat": model_folder, "org/gated": model_folder}
    with LoopbackHub(models, {"org/rows": rows}, token=TOKEN) as server:
        server.gate("org/gated")
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        yield server


def refused(download: Download, options: dict[str, object], slot: str = "model") -> tuple[SwiftshellError, str]:
    with pytest.raises(SwiftshellError) as error:
        download(slot, options)
    assert len(error.value.problems) == 1
    return error.value, str(error.value)


def test_a_typo_is_answered_with_the_nearest_name(hub: LoopbackHub, download: Download) -> None:
    error, text = refused(download, {"repo": "org/tiny-chatt"})
    assert error.exit_code == EXIT_USAGE
    assert f"{hub.endpoint} has no model repository 'org/tiny-chatt'" in text
    assert "hint: did you mean 'org/tiny-chat'?" in text


def test_a_missing_repository(hub: LoopbackHub, download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(download, {"repo": "nobody/nothing"})[0].problems[0].code == "download.repo_unknown_no_token"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert refused(download, {"repo": "nobody/nothing"})[0].problems[0].code == "download.repo_unknown"


@pytest.mark.parametrize(("slot", "repo", "code"), [("model", "org/rows", "download.repo_is_dataset"),
                                                    ("dataset", "org/tiny-chat", "download.repo_is_model")])
def test_a_repository_of_the_other_kind(hub: LoopbackHub, download: Download, slot: str, repo: str, code: str) -> None:
    assert refused(download, {"repo": repo}, slot)[0].problems[0].code == code


def test_a_name_that_cannot_be_one(hub: LoopbackHub, download: Download) -> None:
    error, text = refused(download, {"repo": "a/b/c"})
    assert error.problems[0].code == "download.repo_invalid"
    assert "'a/b/c' cannot be the name of a repository" in text


def test_a_gated_model_says_where_to_accept_and_how_to_give_a_token(hub: LoopbackHub, download: Download) -> None:
    error, text = refused(download, {"repo": "org/gated"})
    assert error.exit_code == EXIT_AUTH
    assert "org/gated is gated" in text
    assert f"accept the terms at {hub.endpoint}/org/gated" in text
    assert "hf auth login" in text
    assert "HF_TOKEN" in text


def test_a_gated_model_opens_with_the_token_and_tells_it_nobody(
        hub: LoopbackHub, download: Download, ctx: FakeContext, monkeypatch: pytest.MonkeyPatch,
        capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    outcome = download("model", {"repo": "org/gated"})
    assert any(r.token == TOKEN for r in hub.requests)
    assert all(r.token is None for r in hub.requests if r.cdn)
    told = json.dumps([outcome.artifacts, outcome.summary, ctx.notes, ctx.warnings], default=str)
    assert TOKEN not in told + "".join(capfd.readouterr())


def test_a_refused_token(hub: LoopbackHub, download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_an_old_one")
    error, text = refused(download, {"repo": "org/gated"})
    assert (error.problems[0].code, error.exit_code) == ("download.token_refused", EXIT_AUTH)
    assert "the hub refused the token from HF_TOKEN" in text
    assert "hf_an_old_one" not in text


def test_an_account_without_access(hub: LoopbackHub, download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = None  # every token is known, none has access
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    error, _ = refused(download, {"repo": "org/gated"})
    assert (error.problems[0].code, error.exit_code) == ("download.gated_refused", EXIT_AUTH)


def test_a_private_repository_looks_missing_without_the_token(hub: LoopbackHub, download: Download,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    hub.hide("org/tiny-chat")
    code = refused(download, {"repo": "org/tiny-chat"})[0].problems[0].code
    assert code in ("download.repo_unknown_no_token", "download.repo_unknown_near")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert download("model", {"repo": "org/tiny-chat"}).artifacts


def test_no_network(download: Download, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    error, text = refused(download, {"repo": "org/tiny"})
    assert (error.problems[0].code, error.exit_code) == ("download.no_network", EXIT_STAGE)
    assert f"{endpoint} cannot be reached" in text
    assert "HF_ENDPOINT" in text
    assert "HF_HUB_OFFLINE=1" in text


def test_something_that_is_no_hub(hub: LoopbackHub, download: Download) -> None:
    hub.answer(200, "/api/models", times=None)
    error, text = refused(download, {"repo": "org/gated"})
    assert (error.problems[0].code, error.exit_code) == ("download.hub_answer", EXIT_STAGE)
    assert f"{hub.endpoint} did not answer as a hub does" in text


def test_offline_takes_the_cache_and_nothing_else(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    download("model", {"repo": "org/tiny-chat"})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.requests.clear()
    shutil.rmtree(ctx.out)
    outcome = download("model", {"repo": "org/tiny-chat"})
    assert outcome.artifacts["model"]["source"]["revision"] == hub.commit("org/tiny-chat")
    assert outcome.summary["offline"]
    error, text = refused(download, {"repo": "org/gated"})
    assert (error.problems[0].code, error.exit_code) == ("download.offline_missing", EXIT_USAGE)
    assert "HF_HUB_OFFLINE forbids the network" in text
    assert hub.requests == []


def test_offline_names_what_the_cache_lacks(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                            own_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import snapshot_download

    snapshot_download("org/tiny-chat", cache_dir=own_environment, endpoint=hub.endpoint)
    next(own_environment.rglob("model.safetensors")).unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    _, text = refused(download, {"repo": "org/tiny-chat"})
    assert "missing: model.safetensors" in text


def test_offline_a_damaged_file_is_named_and_kept(hub: LoopbackHub, download: Download, ctx: FakeContext,
                                                  own_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    download("model", {"repo": "org/tiny-chat"})
    shutil.rmtree(ctx.out)
    blob = next(own_environment.rglob("model.safetensors")).resolve()
    blob.write_bytes(blob.read_bytes()[::-1])
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    error, text = refused(download, {"repo": "org/tiny-chat"})
    assert error.problems[0].code == "download.cache_damaged_offline"
    assert str(blob) in text
    assert blob.exists()


@pytest.mark.parametrize(("change", "code"), [
    ("pickle", "download.pickle_only"), ("gguf", "download.gguf_only"), ("adapter", "download.is_adapter"),
    ("none", "download.no_weights"), ("no_config", "download.no_config"), ("remote_code", "download.remote_code"),
    ("no_tokenizer", "download.no_tokenizer"), ("garbage", "download.config_unreadable"),
    ("cut", "download.weights_cut"),
])
def test_repositories_that_hold_no_usable_model(download: Download, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                change: str, code: str) -> None:
    folder = broken_model(tmp_path / "broken", change)
    with LoopbackHub({"org/broken": folder}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        error, text = refused(download, {"repo": "org/broken"})
        early = change not in ("no_tokenizer", "cut")
        assert not (early and hub.gets("model.safetensors"))  # refused before the weights move
    assert error.problems[0].code == code
    assert "org/broken" in text
    assert "hint: " in text


def broken_model(folder: Path, change: str) -> Path:
    write_model(folder, kib=16)
    weights = folder / "model.safetensors"
    if change == "pickle":
        weights.rename(folder / "pytorch_model.bin")
    elif change == "gguf":
        (folder / "config.json").unlink()
        weights.rename(folder / "tiny.Q4_K_M.gguf")
    elif change == "adapter":
        (folder / "config.json").rename(folder / "adapter_config.json")
        weights.rename(folder / "adapter_model.safetensors")
    elif change == "none":
        weights.unlink()
    elif change == "no_config":
        (folder / "config.json").unlink()
    elif change == "remote_code":
        write_model(folder, kib=16, model_type="nobodys-own", auto_map={"AutoModelForCausalLM": "modeling.Own"})
    elif change == "no_tokenizer":
        (folder / "tokenizer.json").unlink()
    elif change == "garbage":
        (folder / "config.json").write_text('{"model_type": "llama",\n "hidden_size": }')
    elif change == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    return folder


def test_a_known_architecture_with_code_of_its_own_is_taken_without_the_code(
        download: Download, ctx: FakeContext, tmp_path: Path) -> None:
    if find_spec("transformers") is None:
        pytest.skip("transformers is not installed, so its architectures are not known")
    folder = write_model(tmp_path / "own", auto_map={"AutoModelForCausalLM": "modeling.Own"})
    (folder / "modeling.py").write_text("raise SystemExit('never run')")
    download("model", {"path": str(folder)})
    assert "download.remote_code_ignored" in [code for code, _ in ctx.warnings]
    assert not (ctx.out / "model" / "modeling.py").exists()


def test_a_quantized_model_is_recorded_as_one(download: Download, tmp_path: Path) -> None:
    folder = write_model(tmp_path / "q", quantization_config={"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"})
    write_safetensors(folder / "model.safetensors", {"w": ("U8", [64, 64])})
    facts = download("model", {"path": str(folder)}).artifacts["model"]
    assert (facts["kind"], facts["quantization"]) == ("quantized_model", "nf4")


def test_every_message_has_both_languages_and_fits_its_values() -> None:
    keys = [k for k in i18n.catalogue("en") if k.startswith("download.")]
    assert set(keys) == {k for k in i18n.catalogue("zh") if k.startswith("download.")}
    for key in keys:
        assert fields(i18n.catalogue("en")[key]) >= fields(i18n.catalogue("zh")[key]), key


def fields(template: str) -> set[str]:
    import string

    return {name for _, name, _, _ in string.Formatter().parse(template) if name}
