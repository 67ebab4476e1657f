"""Keep what reviewers say: one line a verdict, appended and flushed to disk before the next answer is shown.

The file lies beside the data (`thumbs.jsonl.review.jsonl`) and is only ever appended to, so a `kill -9` costs at most the
key that was being pressed. Lines name an answer by the digest of its content, never by its place: rows may be sorted,
added or removed between two sittings.

```
{"v": 1, "kind": "verdict", "hash": "…", "verdict": "undesirable", "was": true, "by": "anna", "at": "2026-11-25T08:00:00+00:00",
 "row": 7, "sample": false, "took_s": 4.2, "answer": "…the corrected answer, with verdict edit…"}
{"v": 1, "kind": "undo", "hash": "…", "by": "anna", "at": "…"}
{"v": 1, "kind": "note", "hash": "…", "by": "anna", "at": "…", "note": "…"}
```
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from swiftshell.errors import fail

Verdict = Literal["desirable", "undesirable", "edit", "skip"]
VERDICTS: tuple[Verdict, ...] = ("desirable", "undesirable", "edit", "skip")
SUFFIX = ".review.jsonl"


@dataclass(frozen=True)
class Said:
    """One verdict that stands.

    Attributes:
        hash: digest of the answer's content; `row` is where it stood then.
        was: the label it had when it was shown; None without one.
        sample: it was shown as one of the uniformly random answers, not because it looked doubtful.
        answer: with verdict `edit`, what the answer should have been.
        took_s: seconds between showing it and the key.
    """

    hash: str
    verdict: Verdict
    by: str
    at: str
    row: int = 0
    was: bool | None = None
    sample: bool = False
    answer: str = ""
    took_s: float = 0.0

    @property
    def label(self) -> bool | None:
        """Return what the reviewer says of the answer as it stands; None for skipped ones.

        An answer that had to be rewritten is not one to be imitated.
        """
        return None if self.verdict == "skip" else self.verdict == "desirable"

    @property
    def is_error(self) -> bool:
        """Tell whether the label was wrong when it was shown."""
        return self.label is not None and self.was is not None and self.label != self.was


def log_path(data: Path) -> Path:
    """Return the audit file of a data file or folder."""
    return data.with_name(data.name + SUFFIX)


class ReviewLog:
    """The audit file: what stands now, in the order in which it was said, and a way to add to it.

    Attributes:
        said: reviewer → answer's digest → the verdict that stands; the newest last.
        notes: (reviewer, digest) → note.
        unreadable: numbers of lines that are no entries (a torn last line, a merge conflict); they are left alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.said: dict[str, dict[str, Said]] = {}
        self.notes: dict[tuple[str, str], str] = {}
        self.unreadable: list[int] = []
        for number, line in enumerate(self._lines(), 1):
            entry = _parsed(line)
            if entry is None:
                self.unreadable.append(number)
            else:
                self._take(entry)

    def of(self, by: str) -> dict[str, Said]:
        """Return what one reviewer says of each answer."""
        return self.said.get(by, {})

    def judge(self, said: Said) -> None:
        """Append a verdict; when this returns it is on the disk."""
        entry = {
            "v": 1,
            "kind": "verdict",
            "hash": said.hash,
            "verdict": said.verdict,
            "was": said.was,
            "by": said.by,
            "at": said.at,
            "row": said.row,
            "sample": said.sample,
            "took_s": round(said.took_s, 2),
        }
        self._append(entry | ({"answer": said.answer} if said.verdict == "edit" else {}))

    def undo(self, by: str) -> Said | None:
        """Take back the reviewer's last verdict that stands and return it; None if there is none."""
        mine = self.of(by)
        if not mine:
            return None
        last = next(reversed(mine.values()))
        self._append({"v": 1, "kind": "undo", "hash": last.hash, "by": by, "at": now()})
        return last

    def note(self, by: str, digest: str, text: str) -> None:
        """Append a note on an answer; it replaces the reviewer's earlier one."""
        self._append({"v": 1, "kind": "note", "hash": digest, "by": by, "at": now(), "note": text})

    def _lines(self) -> list[bytes]:
        try:
            return [line for line in self.path.read_bytes().split(b"\n") if line.strip()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise fail(
                "review.log_unusable", path=str(self.path), why=error.strerror or str(error)
            ) from error

    def _append(self, entry: dict[str, Any]) -> None:
        """Write one whole line, after the end of a line that a crash may have torn; several reviewers may write at once."""
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode()
        try:
            fd = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX)
                size = os.fstat(fd).st_size
                torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"
                data = b"\n" + line if torn else line
                while data:
                    data = data[os.write(fd, data) :]
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise fail(
                "review.log_unusable", path=str(self.path), why=error.strerror or str(error)
            ) from error
        self._take(entry)

    def _take(self, entry: Mapping[str, Any]) -> None:
        by, digest = str(entry["by"]), str(entry["hash"])
        if entry["kind"] == "note":
            self.notes[by, digest] = str(entry.get("note", ""))
            return
        mine = self.said.setdefault(by, {})
        mine.pop(digest, None)  # said again: it goes to the end
        if entry["kind"] == "verdict":
            was = entry.get("was")
            mine[digest] = Said(
                digest,
                entry["verdict"],
                by,
                str(entry.get("at", "")),
                int(entry.get("row") or 0),
                was if isinstance(was, bool) else None,
                bool(entry.get("sample")),
                str(entry.get("answer", "")),
                float(entry.get("took_s") or 0.0),
            )


def now() -> str:
    """Return the time as it stands in the file."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not all(isinstance(entry.get(k), str) for k in ("kind", "hash", "by")):
        return None
    known = entry["kind"] in ("undo", "note") or (
        entry["kind"] == "verdict" and entry.get("verdict") in VERDICTS
    )
    return entry if known else None
