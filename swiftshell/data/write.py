"""Write rows made of other rows: JSON lines, whole or not at all, never over what is there."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from swiftshell.data.row import Row
from swiftshell.errors import fail


def target(out: Path, source: Path) -> Path:
    """Return the file to write, before any work is done for it.

    Raises:
        SwiftshellError: it exists, is the source itself, or its folder is not there.
    """
    if out.exists():
        same = source.exists() and os.path.samefile(out, source)
        raise fail("logs.out_is_source" if same else "logs.out_exists", path=str(out))
    if not out.absolute().parent.is_dir():
        raise fail("plan.path_missing", path=str(out.absolute().parent), name="-o")
    return out


def write_rows(out: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows and return how many.

    Raises:
        SwiftshellError: the file cannot be written.
        Exception: whatever `rows` raises; nothing is left behind then.
    """
    number = 0
    try:
        fd, temporary = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.absolute().parent)
    except OSError as error:
        raise fail("logs.not_written", path=str(out), why=error.strerror or str(error)) from error
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
                number += 1
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o640)
        os.replace(temporary, out)
    except OSError as error:
        os.unlink(temporary)
        raise fail("logs.not_written", path=str(out), why=error.strerror or str(error)) from error
    except BaseException:
        os.unlink(temporary)
        raise
    return number


def plain_row(row: Row) -> dict[str, Any]:
    """Return a converted row with the columns that play no part; one whose name is ours is kept as `source_<name>`."""
    return {**row.data, **{f"source_{k}" if k in row.data else k: v for k, v in row.extra.items()}}
