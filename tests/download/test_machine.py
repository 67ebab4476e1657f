"""Where the cache is, which hub is asked, and how much room there is: with the place that decided it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from swiftshell.machine import cache, disk

HOME = {"HOME": "/home/ann"}


@pytest.mark.parametrize(("env", "value", "source"), [
    ({}, "/home/ann/.cache/huggingface/hub", "default"),
    ({"XDG_CACHE_HOME": "/x"}, "/x/huggingface/hub", "XDG_CACHE_HOME"),
    ({"XDG_CACHE_HOME": "/x", "HF_HOME": "~/hf"}, "/home/ann/hf/hub", "HF_HOME"),
    ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, "/old", "HUGGINGFACE_HUB_CACHE"),
    ({"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old", "HF_HUB_CACHE": "/new"}, "/new", "HF_HUB_CACHE"),
])
def test_the_cache_and_why(env: dict[str, str], value: str, source: str) -> None:
    assert cache.hub_cache({**HOME, **env}) == cache.Found(value, source)


def test_it_is_where_huggingface_hub_looks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "from huggingface_hub import constants; print(constants.HF_HUB_CACHE, constants.ENDPOINT)"
    for name, value in (("HF_HOME", "~/elsewhere"), ("HF_HUB_CACHE", str(tmp_path)), ("HF_ENDPOINT", "http://mirror/")):
        monkeypatch.setenv(name, value)
        told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        assert told == [cache.hub_cache().value, cache.hub_endpoint().value]


@pytest.mark.parametrize(("env", "source"), [
    ({}, None), ({"HF_HUB_OFFLINE": "0"}, None), ({"HF_HUB_OFFLINE": "true"}, "HF_HUB_OFFLINE"),
    ({"TRANSFORMERS_OFFLINE": "1"}, "TRANSFORMERS_OFFLINE"),
    ({"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, None),
])
def test_what_forbids_the_network(env: dict[str, str], source: str | None) -> None:
    found = cache.hub_offline(env)
    assert (found.source if found else None) == source


def test_where_a_token_comes_from_is_said_but_never_the_token(tmp_path: Path) -> None:
    assert cache.hub_token_source({"HF_HOME": str(tmp_path)}) == ""
    assert cache.hub_token_source({"HF_HOME": str(tmp_path), "HF_TOKEN": "secret"}) == "HF_TOKEN"
    (tmp_path / "token").write_text("secret")
    assert cache.hub_token_source({"HF_HOME": str(tmp_path)}) == str(tmp_path / "token")


def test_free_room_is_known_for_folders_that_do_not_exist_yet(tmp_path: Path) -> None:
    there = shutil.disk_usage(tmp_path)
    assert disk.free_gib(tmp_path / "a" / "b") * disk.GIB <= there.total
    assert disk.free_gib(tmp_path / "a" / "b") > 0
    assert disk.same_disk(tmp_path, tmp_path / "a")


def test_a_quota_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWIFTSHELL_FREE_DISK_GIB", "0.25")
    assert disk.free_gib(tmp_path) == 0.25


def test_these_facts_cost_no_import_of_huggingface_hub() -> None:
    code = ("import sys; from swiftshell.machine import cache, disk; import swiftshell.stages.download; "
            "cache.hub_cache(); cache.hub_token_source(); print('huggingface_hub' in sys.modules)")
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "False"
