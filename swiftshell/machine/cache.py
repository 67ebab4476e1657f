"""Say where hub downloads are kept, which hub is asked and with whose token: each with the place that decided it.

The order is huggingface_hub's own (`huggingface_hub.constants`), so that other programs share what is fetched. It is
read from the environment at every call and without importing huggingface_hub, which reads it once, at import.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE = {"1", "ON", "YES", "TRUE"}
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Found:
    """A value and the place that decided it: the name of an environment variable, or `default`."""

    value: str
    source: str

    @property
    def path(self) -> Path:
        """Return the value as a path."""
        return Path(self.value)


def hub_home(environ: Mapping[str, str] | None = None) -> Found:
    """Return huggingface_hub's home: HF_HOME, else XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface."""
    env = _env(environ)
    if env.get("HF_HOME"):
        return Found(_expand(env["HF_HOME"], env), "HF_HOME")
    if env.get("XDG_CACHE_HOME"):
        return Found(os.path.join(_expand(env["XDG_CACHE_HOME"], env), "huggingface"), "XDG_CACHE_HOME")
    return Found(_expand("~/.cache/huggingface", env), "default")


def hub_cache(environ: Mapping[str, str] | None = None) -> Found:
    """Return the folder of repositories: HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else `hub` in the home."""
    env = _env(environ)
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if env.get(name):
            return Found(_expand(env[name], env), name)
    home = hub_home(env)
    return Found(os.path.join(home.value, "hub"), home.source)


def hub_endpoint(environ: Mapping[str, str] | None = None) -> Found:
    """Return the hub's address without a closing slash: HF_ENDPOINT, else the public hub."""
    value = _env(environ).get("HF_ENDPOINT", "").rstrip("/")
    return Found(value, "HF_ENDPOINT") if value else Found(DEFAULT_ENDPOINT, "default")


def hub_offline(environ: Mapping[str, str] | None = None) -> Found | None:
    """Return what forbids the network (HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE), or None if nothing does."""
    env = _env(environ)
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if env.get(name):  # the first one that is set decides, also when it says no
            return Found(env[name], name) if env[name].upper() in _TRUE else None
    return None


def hub_token_source(environ: Mapping[str, str] | None = None) -> str:
    """Return where a token would come from (a variable's name or a file), or an empty string. Never the token."""
    env = _env(environ)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if env.get(name, "").strip():
            return name
    file = Path(_expand(env["HF_TOKEN_PATH"], env)) if env.get("HF_TOKEN_PATH") else hub_home(env).path / "token"
    try:
        return str(file) if file.stat().st_size > 0 else ""
    except OSError:
        return ""


def repo_folder(cache: Path, kind: str, repo: str) -> Path:
    """Return a repository's folder in the cache (`models--org--name`); kind is `model` or `dataset`."""
    return cache / "--".join([f"{kind}s", *repo.split("/")])


def cached_commit(cache: Path, kind: str, repo: str, revision: str | None) -> str | None:
    """Return the commit a revision stood for when it was last fetched, or None if the cache does not know it."""
    folder = repo_folder(cache, kind, repo)
    if revision and _COMMIT.fullmatch(revision):
        return revision if (folder / "snapshots" / revision).is_dir() else None
    try:
        commit = (folder / "refs" / (revision or "main")).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return None
    return commit if (folder / "snapshots" / commit).is_dir() else None


def _env(environ: Mapping[str, str] | None) -> Mapping[str, str]:
    return os.environ if environ is None else environ


def _expand(value: str, env: Mapping[str, str]) -> str:
    """Expand `~` and `$NAME`, as huggingface_hub does."""
    if env is os.environ:
        return os.path.expandvars(os.path.expanduser(value))
    home = env.get("HOME", "")
    return home + value[1:] if value == "~" or value.startswith("~/") else value
