"""Write data as the reviewers left it: their verdicts laid over the rows by content, the original untouched.

- The majority of the reviewers decides. Where as many say this as that, the row stays as it was (`ties="keep"`), is left
  out (`drop`), or gets the share of those who like it as its probability (`soft`).
- A corrected answer becomes a desirable row of its own behind the original, which becomes undesirable. The last
  correction counts.
- Skipped answers stay as they were. Copies of an answer all follow its verdict.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from swiftshell.data.review.items import content_hash
from swiftshell.data.review.log import ReviewLog, Said
from swiftshell.data.row import Row
from swiftshell.errors import fail

Ties = Literal["keep", "drop", "soft"]
TIES: tuple[Ties, ...] = ("keep", "drop", "soft")
CHANGES = (
    "to_undesirable",
    "to_desirable",
    "corrected",
    "confirmed",
    "tie_kept",
    "tie_dropped",
    "tie_softened",
)


@dataclass
class Applied:
    """What was written.

    Attributes:
        rows: rows read; `written`: rows written.
        counts: kind of change (see `CHANGES`) → rows.
        changes: {"row", "change"} of every row that is not as it was.
    """

    rows: int = 0
    written: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    changes: list[dict[str, Any]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "v": 1,
            "rows": self.rows,
            "written": self.written,
            "counts": {name: self.counts[name] for name in CHANGES},
            "changes": self.changes,
        }


@dataclass(frozen=True)
class _Ruling:
    """What the reviewers say of one answer: those who like it, all who judged, and the last correction."""

    liked: int
    votes: int
    answer: str

    @property
    def label(self) -> bool | None:
        return None if 2 * self.liked == self.votes else 2 * self.liked > self.votes


def apply_reviews(
    rows: Sequence[Row], log: ReviewLog, out: Path, *, source: Path, ties: Ties = "keep"
) -> Applied:
    """Write the rows (JSON lines in TRL's conversational form, all other columns kept) with the verdicts laid over them.

    Raises:
        SwiftshellError: `out` exists, or is the original.
    """
    if out.exists():
        same = source.exists() and os.path.samefile(out, source)
        raise fail("review.out_is_original" if same else "review.out_exists", path=str(out))
    rulings = _rulings(log)
    applied = Applied(rows=len(rows))
    lines = [
        line for row in rows for line in _corrected(row, rulings.get(content_hash(row.data)), ties, applied)
    ]
    applied.written = len(lines)
    write_lines(out, lines)
    return applied


def plain_row(row: Row) -> dict[str, Any]:
    """Return a row with all its columns; one of the source's own whose name we need is kept as `source_<name>`."""
    other = {f"source_{k}" if k in row.data else k: v for k, v in row.extra.items()}
    return {**row.data, **other}


def _rulings(log: ReviewLog) -> dict[str, _Ruling]:
    votes: dict[str, list[Said]] = {}
    for said in log.said.values():
        for digest, verdict in said.items():
            if verdict.label is not None:
                votes.setdefault(digest, []).append(verdict)
    return {
        digest: _Ruling(sum(v.verdict == "desirable" for v in given), len(given), _last_answer(given))
        for digest, given in votes.items()
    }


def _last_answer(given: Sequence[Said]) -> str:
    edits = sorted((v for v in given if v.verdict == "edit" and v.answer.strip()), key=lambda v: v.at)
    return edits[-1].answer if edits else ""


def _corrected(row: Row, ruling: _Ruling | None, ties: Ties, applied: Applied) -> Iterator[dict[str, Any]]:
    data, was = plain_row(row), bool(row.data["label"])
    if ruling is None:
        yield data
        return
    if ruling.label is None:
        change = {"keep": "tie_kept", "drop": "tie_dropped", "soft": "tie_softened"}[ties]
        _count(applied, row, change, is_change=ties != "keep")
        if ties == "soft":
            data["probability"] = ruling.liked / ruling.votes
        if ties != "drop":
            yield data
        return
    label = ruling.label
    if label == was and not ruling.answer:
        _count(applied, row, "confirmed", is_change=False)
    elif label != was:
        _count(applied, row, "to_desirable" if label else "to_undesirable")
    data.pop("probability", None)  # people outrank it
    yield {**data, "label": label}
    if ruling.answer and not label:
        _count(applied, row, "corrected")
        yield {**data, "completion": _answer(row.data["completion"], ruling.answer), "label": True}


def _answer(completion: Sequence[Mapping[str, Any]], text: str) -> list[dict[str, Any]]:
    """Return the completion with the text of its last turn exchanged."""
    return [*map(dict, completion[:-1]), {**completion[-1], "content": text}]


def _count(applied: Applied, row: Row, change: str, *, is_change: bool = True) -> None:
    applied.counts[change] += 1
    if is_change:
        applied.changes.append({"row": row.number, "change": change})


def write_lines(out: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write the file whole or not at all."""
    out.parent.mkdir(parents=True, exist_ok=True)
    fd, temporary = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o640)
        os.replace(temporary, out)
    except BaseException:
        os.unlink(temporary)
        raise
