"""Doctor: look at everything a stage may need here, and say one thing to do about each gap. Changes nothing.

A finding is `{"check", "verdict": "ok" | "warn" | "bad", "found", "todo"}`; `found` and `todo` are sentences in the
language in force, since they are the answer itself.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from swiftshell import __version__
from swiftshell.i18n import t

# What the training environment is locked to (constraints/*.txt hold the whole closure; a test compares).
LOCKED = {"torch": "2.13.0", "transformers": "5.19.0", "trl": "1.16.0", "peft": "0.21.2", "bitsandbytes": "0.50.2",
          "accelerate": "1.15.0", "datasets": "5.2.0", "huggingface_hub": "2.4.0"}
_LOW_DISK_GIB = 5.0


def examine(workspace: str | None = None) -> list[dict[str, str]]:
    """Return every finding, in the order a person would mend them."""
    return [*_python(), *_packages(), *_gpu(), *_serve(), *_workspace(workspace), *_cache(), *_terminal()]


def _finding(check: str, verdict: str, key: str, todo: str = "", **values: Any) -> dict[str, str]:
    return {"check": t(f"doctor.{check}"), "verdict": verdict, "found": t(f"doctor.{key}", **values),
            "todo": t(f"doctor.{todo}", **values) if todo else ""}


def _python() -> Iterator[dict[str, str]]:
    good = sys.version_info >= (3, 11)
    yield _finding("python", "ok" if good else "bad", "python_found", "" if good else "python_todo",
                   version=platform.python_version(), swiftshell=__version__)


def _packages() -> Iterator[dict[str, str]]:
    """Compare what is installed with the lock; missing engines are what setup is for."""
    found = {name: _version(name) for name in LOCKED}
    missing = [name for name, version in found.items() if version is None]
    other = [f"{name} {version} ({LOCKED[name]})" for name, version in found.items()
             if version is not None and version.partition("+")[0] != LOCKED[name]]
    if missing:
        yield _finding("packages", "bad", "packages_missing", "packages_todo", names=", ".join(missing))
    elif other:
        yield _finding("packages", "warn", "packages_other", "packages_todo", names=", ".join(other))
    else:
        yield _finding("packages", "ok", "packages_ok", names=", ".join(f"{n} {v}" for n, v in found.items()))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _gpu() -> Iterator[dict[str, str]]:
    from swiftshell.machine.gpu import gpus

    found = gpus()
    if found is None:
        yield _finding("gpu", "warn", "gpu_unknown", "gpu_unknown_todo")
    elif not found:
        yield _finding("gpu", "ok", "gpu_none", cores=os.cpu_count())
    for gpu in found or []:
        yield _finding("gpu", "ok", "gpu_found", index=gpu.index, name=gpu.name, gib=f"{gpu.memory_gib:.0f}",
                       used=f"{gpu.used_gib:.1f}", driver=gpu.driver)
    cpu_build = "+cpu" in (_version("torch") or "")
    if found and cpu_build:
        yield _finding("gpu", "bad", "gpu_cpu_torch", "gpu_cpu_torch_todo")
    if found != []:
        yield _claims()


def _claims() -> dict[str, str]:
    """Say between whom reservations of GPUs hold."""
    from swiftshell.claims.area import find
    from swiftshell.errors import SwiftshellError
    from swiftshell.i18n import hint_of, what

    try:
        area = find(create=False)
    except SwiftshellError as error:
        problem = error.problems[0]
        return {"check": t("doctor.claims"), "verdict": "bad", "found": what(problem), "todo": hint_of(problem)}
    if area.shared:
        return _finding("claims", "ok", "claims_shared", path=area.root)
    return _finding("claims", "warn", "claims_own", "claims_own_todo", path=area.root)


def _serve() -> Iterator[dict[str, str]]:
    from swiftshell.machine.serve_env import serve_python

    python = serve_python()
    if python is None:
        yield _finding("serve", "warn", "serve_none", "serve_todo")
    else:
        yield _finding("serve", "ok", "serve_found", path=python)


def _workspace(chosen: str | None) -> Iterator[dict[str, str]]:
    from swiftshell.errors import SwiftshellError
    from swiftshell.i18n import hint_of, what
    from swiftshell.machine.disk import existing, free_gib
    from swiftshell.run.workspace import open_workspace

    try:
        root = open_workspace(chosen, create=False).root
    except SwiftshellError as error:
        problem = error.problems[0]
        yield {"check": t("doctor.workspace"), "verdict": "bad", "found": what(problem), "todo": hint_of(problem)}
        return
    if not os.access(existing(root), os.W_OK):
        yield _finding("workspace", "bad", "workspace_readonly", "workspace_readonly_todo", path=root)
    else:
        yield _finding("workspace", "ok", "workspace_found", path=root)
    free = free_gib(root)
    verdict = "ok" if free >= _LOW_DISK_GIB else "warn"
    yield _finding("disk", verdict, "disk_found", "" if verdict == "ok" else "disk_todo", path=existing(root),
                   free=f"{free:.1f}")


def _where(source: str) -> str:
    """Return what decided a value: the variable's name, or the word for a default."""
    return t("doctor.default") if source == "default" else source


def _cache() -> Iterator[dict[str, str]]:
    from swiftshell.machine.cache import hub_cache, hub_endpoint, hub_offline, hub_token_source

    cache, endpoint, offline = hub_cache(), hub_endpoint(), hub_offline()
    yield _finding("cache", "ok", "cache_found", path=cache.value, source=_where(cache.source))
    yield _finding("hub", "ok", "hub_offline" if offline else "hub_found", endpoint=endpoint.value,
                   source=_where(offline.source if offline else endpoint.source))
    source = hub_token_source()
    if source and source.startswith("/") and stat.S_IMODE(Path(source).stat().st_mode) & 0o077:
        yield _finding("token", "warn", "token_open", "token_open_todo", path=source)
    else:
        yield _finding("token", "ok", "token_found" if source else "token_none", source=source)


def _terminal() -> Iterator[dict[str, str]]:
    encoding = (sys.stdout.encoding or "").lower()
    size = shutil.get_terminal_size()
    if "utf" not in encoding:
        yield _finding("terminal", "warn", "terminal_ascii", "terminal_ascii_todo", encoding=encoding or "-")
    else:
        yield _finding("terminal", "ok", "terminal_found", columns=size.columns, lines=size.lines,
                       term=os.environ.get("TERM", "-"))
