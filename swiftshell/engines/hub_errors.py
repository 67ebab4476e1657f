"""Turn what huggingface_hub and its HTTP client raise into what a person can act on."""

from __future__ import annotations

import difflib
import errno
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.errors import EXIT_AUTH, EXIT_NO_RESOURCES, EXIT_STAGE, EXIT_USAGE, SwiftshellError, fail
from swiftshell.machine import cache
from swiftshell.machine.disk import GIB, free_bytes

_LOOKUP_TIMEOUT_S = 5.0
RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Repo:
    """A repository as it was asked for.

    Attributes:
        kind: `model` or `dataset`.
        name: `org/name` (or a bare name, for the hub's oldest repositories).
        revision: branch, tag or commit; None is the default branch.
        endpoint: the hub's address.
        cache: folder of the hub cache.
    """

    kind: str
    name: str
    revision: str | None
    endpoint: str
    cache: Path

    @property
    def folder(self) -> Path:
        """Return the repository's folder in the cache."""
        return cache.repo_folder(self.cache, self.kind, self.name)

    @property
    def page(self) -> str:
        """Return the address of the repository's page."""
        return f"{self.endpoint}/{'datasets/' if self.kind == 'dataset' else ''}{self.name}"


def translate(error: BaseException, repo: Repo) -> SwiftshellError | None:
    """Return the clear form of a failure, or None for a defect of ours."""
    import httpx2
    from huggingface_hub import errors as hub

    if isinstance(error, SwiftshellError):
        return error
    if isinstance(error, hub.HFValidationError):
        return fail("download.repo_invalid", repo=repo.name)
    if isinstance(error, hub.OfflineModeIsEnabled):
        return offline_missing(repo)
    if isinstance(error, hub.HfHubHTTPError):
        return _from_status(error, repo)
    if isinstance(error, hub.FileMetadataError | hub.LocalEntryNotFoundError | json.JSONDecodeError):
        return fail("download.hub_answer", endpoint=repo.endpoint, repo=repo.name, reason=_short(error),
                    exit_code=EXIT_STAGE)
    if isinstance(error, httpx2.HTTPError):
        return fail("download.no_network", endpoint=repo.endpoint, reason=_short(error), exit_code=EXIT_STAGE)
    if isinstance(error, OSError):
        return from_disk(error, repo.cache)
    return None


def from_disk(error: OSError, folder: Path) -> SwiftshellError:
    """Return the clear form of a failed write: the disk is full, or the folder is not ours to write to."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return fail("download.disk_filled", folder=str(folder), free_gib=f"{free_bytes(folder) / GIB:.2f}",
                    exit_code=EXIT_NO_RESOURCES)
    return fail("download.cache_unwritable", path=str(error.filename or folder), folder=str(folder),
                reason=error.strerror or _short(error), exit_code=EXIT_STAGE)


def offline_missing(repo: Repo, files: list[str] | None = None) -> SwiftshellError:
    """Say that the network is forbidden and the cache does not hold what was asked for."""
    forbids = cache.hub_offline()
    return fail("download.offline_missing", repo=repo.name, revision=repo.revision or "main", cache=str(repo.cache),
                setting=forbids.source if forbids else "HF_HUB_OFFLINE", files=_some(files or []) or "-",
                exit_code=EXIT_USAGE)


def _from_status(error: Any, repo: Repo) -> SwiftshellError:
    """Sort the answers of a hub: what is missing, what is closed, what is only out of order."""
    from huggingface_hub import errors as hub

    status = int(error.response.status_code)
    token = cache.hub_token_source()
    if isinstance(error, hub.GatedRepoError):
        code = "download.gated" if not token else "download.gated_refused"
        return fail(code, repo=repo.name, page=repo.page, token=token, exit_code=EXIT_AUTH)
    if isinstance(error, hub.RevisionNotFoundError):
        known = revisions(repo)
        return fail("download.revision_unknown", repo=repo.name, revision=repo.revision or "main",
                    nearest=nearest(repo.revision or "", known) or (known[0] if known else "main"),
                    known=_some(known) or "-")
    if isinstance(error, hub.RepositoryNotFoundError):
        return _not_found(repo, token)
    if status in (401, 403):
        return fail("download.token_refused", repo=repo.name, status=status, token=token or "-", page=repo.page,
                    exit_code=EXIT_AUTH)
    if status == 429:
        return fail("download.rate_limited", endpoint=repo.endpoint, exit_code=EXIT_STAGE)
    return fail("download.hub_status", endpoint=repo.endpoint, repo=repo.name, status=status, exit_code=EXIT_STAGE)


def _not_found(repo: Repo, token: str) -> SwiftshellError:
    """Say that a repository does not exist (or is hidden from us), with the nearest thing that does."""
    kind, other = (repo.kind, "model" if repo.kind == "dataset" else "dataset")
    if _exists(repo, other):
        return fail(f"download.repo_is_{other}", repo=repo.name)
    if near := _nearest_repo(repo):
        return fail("download.repo_unknown_near", repo=repo.name, kind=kind, endpoint=repo.endpoint, nearest=near)
    code = "download.repo_unknown" if token else "download.repo_unknown_no_token"
    return fail(code, repo=repo.name, kind=kind, endpoint=repo.endpoint)


def revisions(repo: Repo) -> list[str]:
    """Return the branches and tags of a repository, or nothing if the hub does not say."""
    from huggingface_hub import HfApi

    try:
        refs = HfApi(endpoint=repo.endpoint).list_repo_refs(repo.name, repo_type=repo.kind)
    except Exception:  # noqa: BLE001 - a hint is not worth a second failure
        return []
    return [r.name for r in (*refs.branches, *refs.tags)]


def _exists(repo: Repo, kind: str) -> bool:
    from huggingface_hub import HfApi

    try:
        HfApi(endpoint=repo.endpoint).repo_info(repo.name, repo_type=kind, timeout=_LOOKUP_TIMEOUT_S)
    except Exception:  # noqa: BLE001 - a hint is not worth a second failure
        return False
    return True


def _nearest_repo(repo: Repo) -> str:
    """Return the repository a typo was meant to be: of the same owner, else one found by a word of the name."""
    owner, _, tail = repo.name.rpartition("/")
    word = max(tail.replace("_", "-").split("-"), key=len)
    for question in ({"author": owner}, {"search": word}, {"search": word[:len(word) // 2 + 1]}):
        if near := nearest(repo.name, _search(repo, question) if all(question.values()) else []):
            return near
    return ""


def _search(repo: Repo, question: dict[str, str]) -> list[str]:
    """Return the names of the repositories a search finds, or nothing if the hub does not say."""
    from huggingface_hub.utils import build_hf_headers, get_session

    try:
        answer = get_session().get(f"{repo.endpoint}/api/{repo.kind}s", params={**question, "limit": "100"},
                                   headers=build_hf_headers(), timeout=_LOOKUP_TIMEOUT_S)
        return [str(entry["id"]) for entry in answer.json()] if answer.status_code == 200 else []
    except Exception:  # noqa: BLE001 - a hint is not worth a second failure
        return []


def nearest(name: str, known: list[str]) -> str:
    """Return the known name most like the one given, or an empty string."""
    lowered = {k.lower(): k for k in known}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else ""


def _some(names: list[str], limit: int = 10) -> str:
    more = f" … (+{len(names) - limit})" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else text[:197] + "..."
