"""Fetch a model or a data set from ModelScope with its own package, an extra that is imported only here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from swiftshell.errors import EXIT_STAGE, fail
from swiftshell.machine import cache
from swiftshell.stages.base import Context, InputRef


def fetch(slot: str, ref: InputRef, ctx: Context) -> Path:
    """Return the folder, in ModelScope's cache, that holds a repository's files.

    Raises:
        SwiftshellError: the package is not installed, the network is forbidden and the cache has nothing, or fetching
            failed.
    """
    repo = str(ref.options["repo"])
    if importlib.util.find_spec("modelscope") is None:
        raise fail("detect.needs_modelscope", repo=repo)
    from modelscope.hub.snapshot_download import snapshot_download

    offline = cache.hub_offline()
    wanted = [str(ref.options["file"])] if ref.options.get("file") else None
    ctx.phase("downloading")
    try:
        folder = snapshot_download(repo_id=repo, repo_type=slot, revision=ref.options.get("revision") or None,
                                   allow_patterns=wanted, local_files_only=offline is not None)
    except Exception as error:
        if offline is not None:
            raise fail("detect.ms_offline", repo=repo, setting=offline.source) from error
        raise fail("detect.ms_failed", repo=repo, reason=str(error) or type(error).__name__, exit_code=EXIT_STAGE) from error
    return Path(folder)
