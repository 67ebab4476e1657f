"""A data set from a hub or a folder: which files are read, and what is asked for when that cannot be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from swiftshell.engines.hub_dataset import choose, split_of
from swiftshell.errors import SwiftshellError
from swiftshell.stages.base import Outcome
from tests.download.conftest import FakeContext, write_rows
from tests.support.loopback_hub import LoopbackHub

Download = Callable[..., Outcome]

CARD = """---
license: apache-2.0
configs:
- config_name: zh
  data_files:
  - split: train
    path: "zh/train-*"
  - split: test
    path: zh/test.jsonl
- config_name: en
  default: true
  data_files:
  - split: train
    path: ["en/a.jsonl", "en/b.jsonl"]
---
# rows
"""


@pytest.mark.parametrize(("names", "options", "expected", "split"), [
    (["train.jsonl", "test.jsonl", "README.md"], {}, ["train.jsonl"], "train"),
    (["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet"], {},
     ["data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet"], "train"),
    (["prefs.jsonl"], {}, ["prefs.jsonl"], "train"),
    (["prefs.csv", "dataset_infos.json", ".gitattributes"], {}, ["prefs.csv"], "train"),
    (["train.jsonl", "validation.jsonl"], {"split": "validation"}, ["validation.jsonl"], "validation"),
    (["train/rows.json", "dev/rows.json"], {"split": "validation"}, ["dev/rows.json"], "validation"),
    (["a.jsonl", "b.jsonl"], {"file": "b.jsonl"}, ["b.jsonl"], "train"),
    (["x/a-1.jsonl", "x/a-2.jsonl", "y/b.jsonl"], {"file": "x/*.jsonl"}, ["x/a-1.jsonl", "x/a-2.jsonl"], "train"),
    (["kto_train.jsonl.gz", "kto_eval.jsonl.gz"], {}, ["kto_train.jsonl.gz"], "train"),
    (["en/train.jsonl", "zh/train.jsonl"], {"config": "zh"}, ["zh/train.jsonl"], "train"),
    (["training_log.txt", "rows.tsv"], {}, ["rows.tsv"], "train"),
    (["data/.hidden.json", "_meta/x.json", "rows.ndjson"], {}, ["rows.ndjson"], "train"),
    (["a/x.jsonl", "a/b/y.jsonl", "c/z.jsonl"], {"file": "a/**"}, ["a/b/y.jsonl", "a/x.jsonl"], "train"),
    (["a/x.jsonl", "a/b/y.jsonl", "c/z.jsonl"], {"file": "a"}, ["a/b/y.jsonl", "a/x.jsonl"], "train"),
    (["a/x.jsonl", "a/b/y.jsonl", "c/z.jsonl"], {"file": "**/y.jsonl"}, ["a/b/y.jsonl"], "train"),
])
def test_files_are_chosen_by_their_names(names: list[str], options: Mapping[str, Any], expected: list[str],
                                         split: str) -> None:
    choice = choose(names, "", options, "org/rows")
    assert list(choice.files) == expected
    assert choice.split == split


@pytest.mark.parametrize(("options", "expected", "config"), [
    ({}, ["en/a.jsonl", "en/b.jsonl"], "en"),
    ({"config": "zh"}, ["zh/train-1.jsonl"], "zh"),
    ({"config": "zh", "split": "test"}, ["zh/test.jsonl"], "zh"),
])
def test_the_card_decides_before_names(options: Mapping[str, Any], expected: list[str], config: str) -> None:
    names = ["en/a.jsonl", "en/b.jsonl", "en/c.jsonl", "zh/train-1.jsonl", "zh/test.jsonl", "train.jsonl"]
    choice = choose(names, CARD, options, "org/rows")
    assert (list(choice.files), choice.config, choice.decided_by) == (expected, config, "card")


@pytest.mark.parametrize("card", [
    "", "---\nlicense: mit\n---\n", "---\n: [broken\n---\n", "---\nconfigs: 3\n---\n", "no header",
])
def test_a_card_without_data_files_leaves_it_to_the_names(card: str) -> None:
    assert choose(["train.jsonl"], card, {}, "org/rows").decided_by == "names"


@pytest.mark.parametrize(("data_files", "expected"), [
    ('data_files: "*.jsonl"', ["a.jsonl", "b.jsonl"]), ("data_files: [a.jsonl]", ["a.jsonl"]),
    ("data_files: {train: b.jsonl}", ["b.jsonl"]),
])
def test_the_short_forms_of_a_card(data_files: str, expected: list[str]) -> None:
    card = f"---\nconfigs:\n- config_name: default\n  {data_files}\n---\n"
    assert list(choose(["a.jsonl", "b.jsonl", "deep/c.jsonl"], card, {}, "org/rows").files) == expected


@pytest.mark.parametrize(("names", "options", "text"), [
    (["a.jsonl", "b.jsonl"], {}, "org/rows holds several data sets, and nothing says which: a.jsonl, b.jsonl"),
    (["train.jsonl", "train.parquet"], {}, "choose with `file:` (for example `file: train.jsonl`) or `split:`"),
    (["validation.jsonl", "test.jsonl"], {}, "org/rows has no split 'train' (it has: test, validation)"),
    (["train.jsonl", "test.jsonl"], {"split": "tets"}, "hint: use `split: test`"),
    (["a.jsonl"], {"file": "b.jsonl"}, "org/rows has no data file 'b.jsonl' (it has: a.jsonl)"),
    (["README.md", "model.safetensors"], {}, "org/rows holds no file of rows that can be read"),
])
def test_what_cannot_be_told_is_asked_for(names: list[str], options: Mapping[str, Any], text: str) -> None:
    with pytest.raises(SwiftshellError) as error:
        choose(names, "", options, "org/rows")
    assert text in str(error.value)


@pytest.mark.parametrize(("card", "options", "text"), [
    (CARD, {"config": "fr"}, "org/rows has no configuration 'fr' (it has: zh, en)"),
    (CARD, {"split": "test"}, "org/rows has no split 'test' (it has: train)"),
    (CARD.replace("  default: true\n", ""), {}, "for example `file: zh/train-*`"),
    (CARD.replace("en/", "gone/"), {}, "the card of org/rows names gone/a.jsonl, gone/b.jsonl as its train split"),
])
def test_a_card_that_does_not_fit(card: str, options: Mapping[str, Any], text: str) -> None:
    with pytest.raises(SwiftshellError) as error:
        choose(["en/a.jsonl", "zh/train-1.jsonl"], card, options, "org/rows")
    assert text in str(error.value)


def test_a_file_says_its_split_before_its_folder() -> None:
    assert split_of("train/test.jsonl") == "test"
    assert split_of("train/rows.jsonl") == "train"
    assert split_of("constraints.jsonl") is None


def test_only_the_chosen_files_come_from_a_hub(download: Download, ctx: FakeContext, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "source"
    for name in ("data/train.jsonl", "data/test.jsonl", "big/other.parquet"):
        write_rows(folder / name)
    (folder / "README.md").write_text("# rows\n")
    with LoopbackHub(datasets={"org/rows": folder}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        facts = download("dataset", {"repo": "org/rows", "split": "train"}).artifacts["dataset"]
        assert {r.path.rsplit("/", 1)[1] for r in hub.gets()} == {"train.jsonl", "README.md"}
        assert facts["source"]["revision"] == hub.commit("org/rows", "datasets")
    assert (facts["kind"], facts["data_files"], facts["split"]) == ("dataset", ["data/train.jsonl"], "train")
    assert (ctx.out / "dataset" / "data" / "train.jsonl").read_bytes() == (folder / "data" / "train.jsonl").read_bytes()
    assert "stack" not in facts


def test_a_big_data_file_goes_on_after_a_break(download: Download, ctx: FakeContext, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_rows(tmp_path / "source" / "train.parquet", 5000).parent
    with LoopbackHub(datasets={"org/rows": folder}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.break_after("train.parquet", 50_000)
        outcome = download("dataset", {"repo": "org/rows"})
        assert [r.range for r in hub.gets("train.parquet")] == [None, "bytes=50000-"]
    assert outcome.summary["retries"] == 1
    assert (ctx.out / "dataset" / "train.parquet").read_bytes() == (folder / "train.parquet").read_bytes()


def test_offline_reads_the_data_set_from_the_cache(download: Download, ctx: FakeContext, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_rows(tmp_path / "source" / "train.jsonl").parent
    with LoopbackHub(datasets={"org/rows": folder}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        download("dataset", {"repo": "org/rows"})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert download("dataset", {"repo": "org/rows"}).artifacts["dataset"]["data_files"] == ["train.jsonl"]
