"""Make KTO rows of feedback logs and of pairs, and pairs of KTO rows: the same for every front."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from swiftshell.data.detect import present_columns
from swiftshell.data.load import load_with_report
from swiftshell.data.logs import FeedbackLog, LogOptions
from swiftshell.data.parts import NAMES
from swiftshell.data.read import read_rows
from swiftshell.data.row import Row
from swiftshell.data.signals import Signal, rules_file, signal_of
from swiftshell.data.write import plain_row, target, write_rows
from swiftshell.errors import fail

_LOOKED_AT = 200


def signals(
    rules: Sequence[str] = (), against: Sequence[str] = (), explicit: Collection[str] = ()
) -> tuple[Signal, ...]:
    """Return the rules as written on a command line: `TEST` or `TEST : WEIGHT`, for and against.

    Raises:
        SwiftshellError: one cannot be read.
    """
    good = (signal_of(text, desirable=True, flag="--rule", explicit=explicit) for text in rules)
    bad = (signal_of(text, desirable=False, flag="--not", explicit=explicit) for text in against)
    return (*good, *bad)


def suggestions(path: Path) -> list[tuple[str, bool]] | None:
    """Return the rules that a log's columns suggest, as they would be written, with what they say (desirable or not).

    None where the file holds pairs, which need no rules.

    Raises:
        SwiftshellError: there are no prompts and answers in it.
    """
    if _has_pairs(path, {}):
        return None
    log = FeedbackLog(path, LogOptions(), lenient=True)
    return [(f"{s.test.text} : {s.weight:g}", s.desirable) for s in log.signals]


def make_kto(
    path: Path,
    out: Path,
    options: LogOptions | None = None,
    *,
    rules: Path | None = None,
    explicit: Collection[str] = (),
) -> dict[str, Any]:
    """Write KTO rows made of a feedback log or of pairs, and return what became of them.

    Args:
        path: the log, or a file of chosen and rejected answers (which needs no rules).
        out: the file to write.
        options: how a log is read.
        rules: a mapping file whose rules and columns come before those of `options`.
        explicit: columns that hold judgements, beside those known as such.

    Raises:
        SwiftshellError: the log, a rule or `out` cannot be used.
    """
    options = options or LogOptions()
    out = target(out, path)
    if rules is not None:
        held = rules_file(rules, explicit)
        options = replace(
            options, signals=(*held.signals, *options.signals), columns={**held.columns, **options.columns}
        )
    if not options.signals and _has_pairs(path, options.columns):
        return _kto_of_pairs(path, out, options.columns)
    log = FeedbackLog(path, options)
    written = write_rows(out, _said(log.rows(), log))
    return {"kind": "log", "out": str(out), "written": written, **log.report.as_json()}


def make_dpo(path: Path, out: Path, *, columns: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Write pairs made of KTO rows, where a prompt has both a desirable and an undesirable answer.

    Raises:
        SwiftshellError: the rows cannot be used, or no prompt has both.
    """
    out = target(out, path)
    rows, report = load_with_report(path, "dpo", columns=columns)
    if not report.pairing:
        raise fail("logs.pairs_already", path=str(path))
    written = write_rows(out, (_with_source(row) for row in rows))
    return {"kind": "pairs", "path": str(path), "out": str(out), "written": written, **report.pairing}


def _kto_of_pairs(path: Path, out: Path, columns: Mapping[str, str]) -> dict[str, Any]:
    rows, report = load_with_report(path, "kto", columns=dict(columns) or None)
    written = write_rows(out, (_with_source(row) for row in rows))
    same = report.counts.get("data.same_pair", 0)
    return {"kind": "pairs_to_kto", "path": str(path), "out": str(out), "written": written, "rows": report.rows,
            "same": same, **report.classes}  # fmt: skip


def _with_source(row: Row) -> dict[str, Any]:
    return {**plain_row(row), "source_row": row.number, "source_file": Path(row.file).name}


def _said(rows: Iterator[dict[str, Any]], log: FeedbackLog) -> Iterator[dict[str, Any]]:
    """Pass rows on; refuse a log that says nothing of any answer."""
    empty = True
    for row in rows:
        empty = False
        yield row
    if empty:
        report = log.report
        raise fail("logs.nothing_said", path=report.path, rows=report.rows, ties=report.ties, outside=report.outside,
                   rules=len(log.signals))  # fmt: skip


def _has_pairs(path: Path, columns: Mapping[str, str]) -> bool:
    """Tell whether the first rows have a column of rejected answers."""
    if "rejected" in columns:
        return True
    head: list[Row] = []
    for row in read_rows(path, lambda _: None):
        head.append(row)
        if len(head) == _LOOKED_AT:
            break
    return bool(set(NAMES["rejected"]) & set(present_columns(row.data for row in head)))
