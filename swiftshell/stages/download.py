"""Download: bring a model or a data set into the workspace, with its revision resolved and recorded."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from swiftshell.errors import Problem
from swiftshell.stages.base import Facts, InputRef, Needs, Params, SimpleStage, Slot


class DownloadParams(Params):
    """What to fetch and how. What is fetched is the step's input (`model` or `dataset`), not a parameter.

    `allow_patterns` replaces the choice of a model's files, `ignore_patterns` thins it out; pickles are never taken.
    `verify: false` trusts what the cache already holds; what comes over the network is always checked.
    """

    allow_patterns: list[str] = []
    ignore_patterns: list[str] = []
    max_workers: Annotated[int, Field(ge=1, le=32)] = 4
    verify: bool = True


class Download(SimpleStage):
    """Fetch from a hub, a local folder or the starter; exactly one of the two inputs is filled.

    The input's `options` say what: {"repo": "Qwen/Qwen2.5-7B-Instruct", "revision": null, "source": "hf" | "ms"},
    {"path": "/abs"} or {"starter": true} (data: "sft", "kto", "dpo" or "heldout"); for data also `split` and `file`.
    """

    name = "download"
    params = DownloadParams
    inputs = (Slot("model", ("model",), required=False), Slot("dataset", ("dataset",), required=False))
    outputs = (Slot("model", ("model", "quantized_model"), required=False),
               Slot("dataset", ("dataset",), required=False))
    engine = "swiftshell.engines.hub_download:run"
    distributions = ()
    extra = ""
    gpus = 0

    def check(self, params: Any, facts: Facts) -> Iterable[Problem]:
        """Find local paths that do not exist; whether a repository does is asked when the step runs."""
        for ref in _refs(facts):
            if ref.options.get("source") == "ms" and find_spec("modelscope") is None:
                yield Problem("detect.needs_modelscope", {"repo": ref.options.get("repo")})
            path = ref.options.get("path")
            if path and not Path(str(path)).expanduser().exists():
                yield Problem("download.path_missing", {"path": str(path), "nearest": str(_parent(Path(str(path))))},
                              file=str(path))

    def needs(self, params: Any, facts: Facts) -> Needs:
        """Ask for the network only if a hub is the source; how much disk is known only once the hub has said."""
        hub = any(ref.options.get("repo") for ref in _refs(facts))
        return Needs(network=hub, disk_gib=None if hub else 0.0)


def _refs(facts: Facts) -> list[InputRef]:
    found = []
    for value in facts.inputs.values():
        found += list(value) if isinstance(value, tuple) else [value]
    return found


def _parent(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


STAGE = Download()
