"""Find out what a repository holds, its commit and its files: from the hub or, if that is forbidden, the cache."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.engines.hub_errors import Repo, offline_missing, translate
from swiftshell.engines.hub_fetch import RemoteFile, retrying
from swiftshell.errors import EXIT_STAGE, fail
from swiftshell.machine import cache

LOOKUP_WAITS_S: tuple[float, ...] = (0.5, 2.0)
LOOKUP_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Listing:
    """What a commit of a repository holds; with `offline`, what the cache has of it."""

    commit: str
    files: dict[str, RemoteFile]
    offline: bool

    def some(self, names: list[str]) -> list[RemoteFile]:
        """Return the files of these names."""
        return [self.files[n] for n in names]


def open_repo(kind: str, options: dict[str, Any]) -> Repo:
    """Return the repository that an input's options name."""
    return Repo(kind, str(options["repo"]), options.get("revision") or None, cache.hub_endpoint().value,
                cache.hub_cache().path.absolute())


def resolve(repo: Repo) -> Listing:
    """Turn the revision into a commit and list its files.

    Raises:
        SwiftshellError: the repository or revision does not exist, is closed to us, or the hub cannot be reached.
    """
    if cache.hub_offline():
        return _from_cache(repo)
    from huggingface_hub import HfApi

    api = HfApi(endpoint=repo.endpoint)
    try:
        info = retrying(lambda: api.repo_info(repo.name, repo_type=repo.kind, revision=repo.revision,
                                              files_metadata=True, timeout=LOOKUP_TIMEOUT_S), LOOKUP_WAITS_S)
    except Exception as error:
        if type(error) in (KeyError, TypeError):  # JSON, but not what a hub says about a repository
            raise fail("download.hub_answer", endpoint=repo.endpoint, repo=repo.name, reason=f"no {error} in it",
                       exit_code=EXIT_STAGE) from error
        clear = translate(error, repo)
        if clear is None:
            raise
        raise clear from error
    if not info.sha or info.siblings is None:
        raise fail("download.hub_answer", endpoint=repo.endpoint, repo=repo.name, reason="no commit",
                   exit_code=EXIT_STAGE)
    files = [RemoteFile(s.rfilename, s.size or 0, s.lfs.sha256 if s.lfs else s.blob_id or "") for s in info.siblings]
    return Listing(info.sha, {f.path: f for f in files}, offline=False)


def remember_revision(repo: Repo, commit: str) -> None:
    """Note in the cache which commit a branch or tag stands for, so that it opens without a network later."""
    revision = repo.revision or "main"
    if revision == commit:
        return
    path = repo.folder / "refs" / revision
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        temporary.write_text(commit, encoding="utf-8")
        temporary.replace(path)
    except OSError:  # a cache others own: the files are there, only the name is not noted
        return


def _from_cache(repo: Repo) -> Listing:
    commit = cache.cached_commit(repo.cache, repo.kind, repo.name, repo.revision)
    if commit is None:
        raise offline_missing(repo)
    snapshot = repo.folder / "snapshots" / commit
    found = {str(p.relative_to(snapshot)): p for p in sorted(snapshot.rglob("*")) if p.is_file()}
    files = {name: RemoteFile(name, p.stat().st_size, _oid(p)) for name, p in found.items()}
    return Listing(commit, {**_known_tree(repo, commit), **files}, offline=True)


def _known_tree(repo: Repo, commit: str) -> dict[str, RemoteFile]:
    """Return the commit's files as some earlier download listed them: names what the cache lacks."""
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, HFValidationError

    try:
        tree = get_cached_repo_tree(repo.name, repo_type=repo.kind, revision=commit, cache_dir=repo.cache)
    except (CachedRepoTreeNotFoundError, HFValidationError):
        return {}
    return {f.path: RemoteFile(f.path, f.size, "") for f in tree}


def _oid(path: Path) -> str:
    """Return the hash a cached file is kept under, or nothing in a cache without links."""
    name = path.resolve().name
    return name if path.is_symlink() and len(name) in (40, 64) else ""
