"""`hf://` and `ms://` where a data file may stand: fetched by a download run, checked like a file; refused plainly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from swiftshell.errors import EXIT_USAGE, SwiftshellError
from swiftshell.plan.quick import data_spec, model_spec
from swiftshell.stages.base import Facts, InputRef, Outcome
from swiftshell.stages.download import STAGE, DownloadParams
from tests.download.conftest import FakeContext, write_rows
from tests.support.loopback_hub import LoopbackHub

Download = Callable[..., Outcome]


def run(workspace: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SWIFTSHELL_NO_INPUT": "1", "HF_HUB_OFFLINE": "0", **environ}
    return subprocess.run([sys.executable, "-m", "swiftshell.cli.main", *argv, "--json"], cwd=workspace, env=env,
                          capture_output=True, text=True, timeout=120)


def thumbs(folder: Path) -> None:
    folder.mkdir(parents=True)
    rows = [{"prompt": f"q{n}", "completion": f"a{n}", "label": n % 2 == 0} for n in range(4)]
    for name in ("train", "other"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")


def test_an_address_is_fetched_once_and_then_read_like_a_file(tmp_path: Path) -> None:
    thumbs(tmp_path / "source")
    workspace = tmp_path / "ws"
    workspace.mkdir()
    with LoopbackHub(datasets={"org/rows": tmp_path / "source"}) as hub:
        environ = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home")}
        for _ in range(2):
            done = run(workspace, "data", "check", "hf://org/rows/train.jsonl", **environ)
            assert done.returncode == 0, done.stderr
            report = json.loads(done.stdout)["data"]
            assert (report["purpose"], report["rows"], report["usable"]) == ("kto", 4, 4)
    assert len(list((workspace / "runs").glob("*download*"))) == 1
    with LoopbackHub(datasets={}) as hub:
        done = run(workspace, "data", "check", "hf://org/nothing", HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "home"))
    assert done.returncode != 0
    assert json.loads(done.stdout)["problems"][0]["code"].startswith("download.")


def test_without_a_network_an_address_is_refused_in_one_sentence(tmp_path: Path) -> None:
    done = run(tmp_path, "data", "show", "hf://org/rows", HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "home"))
    assert done.returncode == EXIT_USAGE
    assert [p["code"] for p in json.loads(done.stdout)["problems"]] == ["download.offline_missing"]


@pytest.mark.parametrize(("text", "wanted"), [
    ("hf://org/rows", {"repo": "org/rows"}),
    ("hf://datasets/org/rows/data/a.jsonl", {"repo": "org/rows", "file": "data/a.jsonl"}),
    ("ms://org/rows", {"repo": "org/rows", "source": "ms"}),
    ("ms://org/rows/a.jsonl", {"repo": "org/rows", "source": "ms", "file": "a.jsonl"}),
])
def test_addresses(text: str, wanted: dict[str, Any]) -> None:
    assert data_spec(text) == wanted


def test_what_is_no_address() -> None:
    with pytest.raises(SwiftshellError, match="hf://org/name"):
        data_spec("hf://rows")
    assert model_spec("ms://org/m") == {"repo": "org/m", "source": "ms"}


# ------------------------------------------------------------------------------------------------- ModelScope


def asked(**options: Any) -> dict[str, Any]:
    return {"repo": "org/rows", "source": "ms", **options}


def stand_in(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]) -> None:
    """Put a package in ModelScope's place with the one function that is called, as version 1.40 declares it."""
    for name in ("modelscope", "modelscope.hub", "modelscope.hub.snapshot_download"):
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        monkeypatch.setitem(sys.modules, name, module)

    def snapshot_download(model_id: str | None = None, revision: str | None = None, cache_dir: Any = None,
                          local_files_only: bool = False, allow_patterns: list[str] | None = None,
                          repo_id: str | None = None, repo_type: str | None = None, **_: Any) -> str:
        return answer(repo_id=repo_id, repo_type=repo_type, revision=revision, local=local_files_only, patterns=allow_patterns)

    sys.modules["modelscope.hub.snapshot_download"].snapshot_download = snapshot_download  # type: ignore[attr-defined]


def test_modelscope_absent_is_one_sentence_before_anything_starts(tmp_path: Path) -> None:
    ref = InputRef("dataset", tmp_path, "dataset", None, asked(), "rows")
    problems = list(STAGE.check(DownloadParams(), Facts({"dataset": ref}, 0, tmp_path)))
    assert [p.code for p in problems] == ["detect.needs_modelscope"]


def test_modelscope_is_asked_for_the_data_set(download: Download, ctx: FakeContext, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    folder = write_rows(tmp_path / "cache" / "train.jsonl").parent
    calls: list[dict[str, Any]] = []
    stand_in(monkeypatch, lambda **said: calls.append(said) or str(folder))  # type: ignore[func-returns-value]
    outcome = download("dataset", asked(revision="v1", file="train.jsonl"))
    facts = outcome.artifacts["dataset"]
    wanted = {"repo_id": "org/rows", "repo_type": "dataset", "revision": "v1", "local": False, "patterns": ["train.jsonl"]}
    assert calls == [wanted]
    assert (facts["data_files"], facts["source"]["kind"]) == (["train.jsonl"], "modelscope")
    assert (ctx.out / "dataset" / "train.jsonl").read_bytes() == (folder / "train.jsonl").read_bytes()


@pytest.mark.parametrize(("offline", "code"), [("1", "detect.ms_offline"), ("", "detect.ms_failed")])
def test_modelscope_that_fails(download: Download, monkeypatch: pytest.MonkeyPatch, offline: str, code: str) -> None:
    def fails(**_: Any) -> str:
        raise ValueError("no such repository")

    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    monkeypatch.delenv("TRANSFORMERS_OFFLINE", raising=False)
    stand_in(monkeypatch, fails)
    with pytest.raises(SwiftshellError) as caught:
        download("dataset", asked())
    assert caught.value.problems[0].code == code
