"""Remember reports of files that took long to check: an unchanged file answers at once.

The name of a remembered report is made of what it depends on: every file's path, size, times and inode, what was asked,
and the code of this package. Pictures are files of their own, so reports of rows with pictures are not remembered.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from swiftshell.data.report import DataReport
from swiftshell.data.sources import data_files

KEPT = 200  # reports in the folder; the oldest go first


def cache_folder(environ: Mapping[str, str] | None = None) -> Path:
    """Return the person's own folder for remembered reports (XDG_CACHE_HOME, else ~/.cache)."""
    env = os.environ if environ is None else environ
    home = env.get("XDG_CACHE_HOME", "")
    folder = Path(home) if home.startswith("/") else Path(env.get("HOME") or "~").expanduser() / ".cache"
    return folder / "swiftshell" / "checks"


def record_of(path: Path, purpose: str, options: Mapping[str, Any], folder: Path) -> Path | None:
    """Return the file that holds, or is to hold, the report of a check; None if there is nothing to check."""
    problems: list[Any] = []
    files = data_files(path, problems.append, split=options.get("split"))
    others = [Path(options[name]) for name in ("tokenizer", "against") if options.get(name)]
    try:
        facts = [_facts(file) for file in [*files, *others]]
    except OSError:
        return None
    if problems or not facts:
        return None
    asked = {"path": str(path), "purpose": purpose, "files": facts, "code": _code(), "options": dict(options)}
    text = json.dumps(asked, sort_keys=True, default=str)
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"


def recall(record: Path) -> DataReport | None:
    """Return a remembered report; None if there is none, or it is not whole."""
    try:
        found = DataReport.from_json(json.loads(record.read_text(encoding="utf-8")))
        os.utime(record)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found.remembered = True
    return found


def remember(record: Path, report: DataReport) -> None:
    """Write a report whole or not at all; where that cannot be, checking again is only slower."""
    if report.images or any(p.code in ("data.unreadable", "data.not_found") for p in report.problems):
        return
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=record.parent, prefix=".report-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(report.as_json(), file, ensure_ascii=False)
        os.replace(temporary, record)
        _forget_oldest(record.parent)
    except (OSError, TypeError, ValueError):
        return


def _forget_oldest(folder: Path) -> None:
    records = sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime_ns, reverse=True)
    for old in records[KEPT:]:
        old.unlink(missing_ok=True)


def _facts(file: Path) -> list[Any]:
    """Return what changes when a file does. The time of its last change of any kind cannot be set back by hand."""
    facts = file.stat()
    return [str(file.resolve()), facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


@cache
def _code() -> str:
    """Return a digest of this package, so that another version of it looks again."""
    total = hashlib.sha256()
    for source in sorted(Path(__file__).parent.rglob("*.py")):
        total.update(source.read_bytes())
    return total.hexdigest()
