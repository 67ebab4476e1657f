"""Download: bring a model or a data set into the workspace, with its revision resolved and recorded."""

from __future__ import annotations

from swiftshell.stages.base import Params, SimpleStage, Slot


class DownloadParams(Params):
    """What to fetch and how. What is fetched is the step's input (`model` or `dataset`), not a parameter."""

    allow_patterns: list[str] = []
    ignore_patterns: list[str] = []
    max_workers: int = 4
    verify: bool = True


class Download(SimpleStage):
    """Fetch from a hub, a local folder or the starter; exactly one of the two inputs is filled.

    The input's `options` say what: {"repo": "Qwen/Qwen2.5-7B-Instruct", "revision": null, "source": "hf"} or
    {"path": "/abs"} or {"starter": true}.
    """

    name = "download"
    params = DownloadParams
    inputs = (Slot("model", ("model",), required=False), Slot("dataset", ("dataset",), required=False))
    outputs = (Slot("model", ("model",), required=False), Slot("dataset", ("dataset",), required=False))
    engine = "swiftshell.engines.hub_download:run"
    distributions = ()
    extra = ""


STAGE = Download()
