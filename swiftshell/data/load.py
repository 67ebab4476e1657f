"""Load rows for training, inference and evaluation: everything checked, every problem at once, or the rows.

This is the door that engines use; nothing here imports an engine library.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from swiftshell.data.check import Check
from swiftshell.data.leaks import LeakIndex
from swiftshell.data.lengths import open_tokenizer
from swiftshell.data.remember import cache_folder, recall, record_of, remember
from swiftshell.data.report import MORE, DataReport
from swiftshell.data.row import PURPOSES, Purpose, Row
from swiftshell.data.sources import data_files, root_of
from swiftshell.data.tally import overlap
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.stages.base import InputRef

__all__ = [
    "DataReport",
    "Row",
    "check_rows",
    "fingerprint",
    "load_input",
    "load_rows",
    "load_with_report",
    "overlap",
    "refuses",
]

_SHOWN = 20
# Below this a file is read again in less time than a person takes to notice.
_WORTH_REMEMBERING_BYTES = 4 << 20
_WORTH_REMEMBERING_SLOW_BYTES = 1 << 18  # with tokens or a deep look
_OPTIONS = ("columns", "format", "label_rule", "limit", "split")


def load_rows(
    path: Path,
    purpose: str,
    *,
    columns: Mapping[str, str] | None = None,
    format: str | None = None,  # noqa: A002
    label_rule: Mapping[str, Any] | None = None,
    limit: int = 0,
    split: str | None = None,
    drop_budget: int = 0,
) -> list[Row]:
    """Return the rows of a file or folder in TRL's conversational form for a purpose.

    Args:
        path: file, folder of files, or data set artifact.
        purpose: sft, kto, dpo, prompts or heldout.
        columns: part → column, for example {"completion": "response", "label": "is_preferred"}.
        format: a name of `detect.FORMATS` where detection must be helped.
        label_rule: {"threshold": 3.5} or {"desirable": [...], "undesirable": [...]}.
        limit: read only this many source rows; 0 means all.
        split: of a folder with several splits, the one to read; the training split without it.
        drop_budget: leave out up to this many bad rows instead of refusing.

    Raises:
        SwiftshellError: the data cannot be used; every kind of problem, the first of each with their rows.
    """
    return load_with_report(
        path,
        purpose,
        columns=columns,
        format=format,
        label_rule=label_rule,
        limit=limit,
        split=split,
        drop_budget=drop_budget,
    )[0]


def load_with_report(
    path: Path, purpose: str, *, drop_budget: int = 0, **options: Any
) -> tuple[list[Row], DataReport]:
    """Return rows and what the check found; arguments and errors as `load_rows`."""
    check = _check(path, purpose, options)
    rows = check.finish(list(check.rows()))
    report = check.report
    if refuses(report, drop_budget) or (report.errors and not rows):
        raise SwiftshellError(_first(report))
    return rows, report


def check_rows(
    path: Path,
    purpose: str,
    *,
    processes: int = 0,
    progress: Callable[[int, int], None] | None = None,
    on_problem: Callable[[Problem], None] | None = None,
    memory: Path | None = None,
    fresh: bool = False,
    **options: Any,
) -> DataReport:
    """Check a data set without keeping its rows; never raises for bad data.

    A large file that was checked before and is as it was answers from memory.

    Args:
        path: file, folder of files, or data set artifact.
        purpose: sft, kto, dpo, prompts or heldout.
        processes: how many processes read; 0: as many as it pays.
        progress: called with bytes done and bytes in all.
        on_problem: called with every listed problem when it is found, unless the report is remembered.
        memory: folder of remembered reports; the person's own without it.
        fresh: look again, whatever is remembered.
        options: as `load_rows`; and `tokenizer` (folder or tokenizer.json) with `max_length` for lengths in tokens,
            `deep` for near-duplicates, languages, personal data and boilerplate, and `against`, a file whose prompts
            are not to be here.

    Raises:
        SwiftshellError: the tokenizer, the file compared with, or a library that was asked for cannot be used.
    """
    path, chosen = Path(path), {name: value for name, value in options.items() if value}
    record = None
    if _is_worth_remembering(path, chosen):
        record = record_of(path, purpose, chosen, cache_folder() if memory is None else memory)
    if record is not None and not fresh and (remembered := recall(record)) is not None:
        return remembered
    if (other := chosen.get("against")) is not None:
        chosen["against"] = _prompts_of(Path(other), nearly=bool(chosen.get("deep")))
    if (model := chosen.get("tokenizer")) is not None:
        open_tokenizer(Path(model))  # said before any row is read
    check = _check(path, purpose, {**chosen, "on_problem": on_problem})
    check.look(processes, progress)
    check.finish()
    if record is not None:
        remember(record, check.report)
    return check.report


def refuses(report: DataReport, drop_budget: int = 0) -> bool:
    """Tell whether what was found stops a run that may leave out so many bad rows."""
    beyond_rows = any(p.row is None and p.code != MORE for p in report.errors)
    return bool(report.errors) and (beyond_rows or report.bad_rows > drop_budget or not report.usable)


def _is_worth_remembering(path: Path, options: Mapping[str, Any]) -> bool:
    slow = bool({"tokenizer", "deep"} & options.keys())
    try:
        size = sum(file.stat().st_size for file in data_files(path, lambda problem: None, split=options.get("split")))
    except OSError:
        return False
    return size >= (_WORTH_REMEMBERING_SLOW_BYTES if slow else _WORTH_REMEMBERING_BYTES)


def _prompts_of(path: Path, *, nearly: bool) -> LeakIndex:
    """Return the prompts of another data set.

    Raises:
        SwiftshellError: it cannot be read.
    """
    check = _check(path, "heldout", {})
    index = LeakIndex(str(path), nearly=nearly)
    index.fill(check.rows())
    check.finish()
    if not index.rows:
        raise SwiftshellError(_first(check.report) or [Problem("data.empty", {"path": str(path)}, file=str(path))])
    return index


def load_input(
    ref: InputRef, purpose: str, *, drop_budget: int = 0, limit: int = 0
) -> tuple[list[Row], DataReport]:
    """Load a step's data input as the recipe describes it; `limit` narrows the input's own."""
    options = {key: ref.options[key] for key in _OPTIONS if ref.options.get(key)}
    limits = [n for n in (int(options.get("limit", 0)), limit) if n]
    options["limit"] = min(limits, default=0)
    return load_with_report(ref.path, purpose, drop_budget=drop_budget, **options)


def fingerprint(path: Path, cache: Path | None = None, *, split: str | None = None) -> str:
    """Return the sha256 over the content of a data file, or over the files of a folder and their names.

    With a `cache` folder an unchanged file (same size and modification time) is not read again.

    Raises:
        SwiftshellError: there is nothing to read.
    """
    problems: list[Problem] = []
    files = data_files(path, problems.append, split=split)
    if problems:
        raise SwiftshellError(problems)
    try:
        if len(files) == 1 and not path.is_dir():
            return _file_digest(files[0], cache)
        total = hashlib.sha256()
        for file in files:
            total.update(f"{file.relative_to(root_of(path))}\0{_file_digest(file, cache)}\n".encode())
        return total.hexdigest()
    except OSError as error:
        values = {"path": str(path), "reason": error.strerror or str(error)}
        raise SwiftshellError(Problem("data.unreadable", values, file=str(path))) from None


def _file_digest(path: Path, cache: Path | None) -> str:
    facts = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\0{facts.st_size}\0{facts.st_mtime_ns}".encode()).hexdigest()[:32]
    record = cache / f"fingerprint-{key}.json" if cache is not None else None
    if record is not None:
        try:
            return str(json.loads(record.read_text(encoding="utf-8"))["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            pass  # not cached, or not whole: read the file
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if record is not None:
        _remember(record, digest, path)
    return digest


def _remember(record: Path, digest: str, path: Path) -> None:
    """Write a cache entry whole or not at all; a cache that cannot be written is only slower."""
    try:
        record.parent.mkdir(parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(dir=record.parent, prefix=".fingerprint-")
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump({"sha256": digest, "path": str(path)}, file)
        os.replace(temporary, record)
    except OSError:
        return


def _check(path: Path, purpose: str, options: Mapping[str, Any]) -> Check:
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, found {purpose!r}")
    chosen: Purpose = purpose
    return Check(Path(path), chosen, **options)


def _first(report: DataReport) -> list[Problem]:
    """Return the first problems of every kind, and for what is left out the number of each kind."""
    errors = [p for p in report.errors if p.code != MORE]
    per_code = max(2, _SHOWN // max(1, len({p.code for p in errors})))
    shown: dict[str, int] = {}
    listed = []
    for problem in errors:
        shown[problem.code] = shown.get(problem.code, 0) + 1
        if shown[problem.code] <= per_code:
            listed.append(problem)
    for code, number in shown.items():
        if (more := report.counts[code] - min(number, per_code)) > 0:
            values = {"more": more, "code": code, "total": report.counts[code]}
            listed.append(Problem(MORE, values, file=report.path))
    return listed
