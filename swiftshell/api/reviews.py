"""Review labelled answers, say what the reviews tell, and correct the data by them: the same for every front."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swiftshell.data.review.items import Audit, Item, audit_of, items, load_labelled, read_audit
from swiftshell.data.review.log import ReviewLog, log_path
from swiftshell.errors import SwiftshellError, fail

if TYPE_CHECKING:
    from swiftshell.data.review.apply import Applied, Ties
    from swiftshell.data.review.queue import Order
    from swiftshell.data.review.sitting import Sitting
    from swiftshell.run.workspace import Workspace

AUDIT_STAGE = "audit"


def own_name() -> str:
    """Return the name under which a person's verdicts are kept unless they give another: the account's."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # no name for this account, and none in the environment
        return "reviewer"


def open_review(
    workspace: Workspace,
    path: Path,
    *,
    by: str | None = None,
    order: Order = "informative",
    budget: int = 0,
    divide: bool = False,
    audit: Path | None = None,
    columns: Mapping[str, str] | None = None,
) -> Sitting:
    """Read a data set, what an audit says of it and what was said so far; return the reviewer's queue.

    `audit` is the output of one; without it the file's own audit columns count, or the workspace's newest audit of this
    file. The other options are those of `Sitting`.

    Raises:
        SwiftshellError: the data cannot be used, or the audit file cannot.
    """
    from swiftshell.data.review.sitting import Sitting

    name = " ".join((own_name() if by is None else by).split())
    if not name:
        raise fail("review.name_empty")
    if budget < 0:
        raise fail("review.budget_negative", value=budget)
    found = read_items(workspace, path, audit=audit, columns=columns)
    log = ReviewLog(log_path(path))
    return Sitting(found, log, name, order, budget, divide)


def read_items(
    workspace: Workspace, path: Path, *, audit: Path | None = None, columns: Mapping[str, str] | None = None
) -> list[Item]:
    """Return the answers of a data set with what speaks against their labels."""
    rows = load_labelled(path, columns)
    doubts: Audit = (
        read_audit(audit) if audit is not None else audit_of(rows) or _newest(workspace, path)
    )
    return items(rows, doubts)


def review_report(
    workspace: Workspace, path: Path, *, columns: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Return what all verdicts on a data set say.

    Raises:
        SwiftshellError: the data cannot be used, or nobody has reviewed it.
    """
    from swiftshell.data.review.numbers import report

    found = read_items(workspace, path, columns=columns)
    return {"path": str(path), "log": str(log_path(path)), **report(found, _log_of(path))}


def apply_review(
    path: Path, out: Path, *, ties: Ties = "keep", columns: Mapping[str, str] | None = None
) -> Applied:
    """Write the data as the reviewers left it.

    Raises:
        SwiftshellError: the data cannot be used, nobody has reviewed it, or `out` exists.
    """
    from swiftshell.data.review.apply import apply_reviews

    rows = load_labelled(path, columns)
    return apply_reviews(rows, _log_of(path), out, source=path, ties=ties)


def newest_audit(workspace: Workspace, path: Path) -> Path | None:
    """Return the output of the workspace's newest audit of a file, or None."""
    from swiftshell.plan import board

    wanted = path.resolve()
    for entry in board.read(workspace.runs).of(AUDIT_STAGE):
        read = [Path(p["path"]).resolve() for p in entry.record.get("parents") or [] if p.get("path")]
        if entry.slot == "audited" and wanted in read:
            return entry.path
    return None


@dataclass(frozen=True)
class AuditReport:
    """What an audit found (see `swiftshell.engines.noise_audit`), and the rows it leaves."""

    facts: dict[str, Any]
    cleaned: Path


def newest_audit_report(workspace: Workspace, path: Path) -> AuditReport | None:
    """Return what the workspace's newest audit of a file found, or None."""
    from swiftshell.run.files import read_json_or_none

    audited = newest_audit(workspace, path)
    facts = read_json_or_none(audited.parent / "report" / "audit.json") if audited is not None else None
    if audited is None or not isinstance(facts, dict):
        return None
    return AuditReport(facts, audited.parent / "cleaned" / "cleaned.jsonl")


def _newest(workspace: Workspace, path: Path) -> Audit:
    found = newest_audit(workspace, path)
    if found is None:
        return {}
    try:
        return read_audit(found)
    except SwiftshellError:  # its run was tampered with: the order is then that of a file never audited
        return {}


def _log_of(path: Path) -> ReviewLog:
    log = ReviewLog(log_path(path))
    if not any(log.said.values()):
        raise fail("review.nothing_said", path=str(log.path), data=str(path))
    return log
