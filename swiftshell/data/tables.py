"""Read Parquet and Arrow files. pyarrow costs more than the whole shell: it is imported when such a file is read."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from swiftshell.data.row import Row
from swiftshell.errors import Problem

Report = Callable[[Problem], None]

_BATCH_ROWS = 1024


def unreadable(path: Path, error: BaseException) -> Problem:
    """Return the problem of a file that the system, or its own format, does not let us read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return Problem("data.unreadable", {"path": str(path), "reason": reason}, file=str(path))


def read_parquet(path: Path, report: Report) -> Iterator[Row]:
    """Yield the rows of a Parquet file."""
    arrow = _pyarrow(path, report)
    if arrow is None:
        return
    parquet = importlib.import_module("pyarrow.parquet")

    try:
        batches = parquet.ParquetFile(path).iter_batches(batch_size=_BATCH_ROWS)
        yield from _table_rows(path, batches)
    except arrow.ArrowInvalid as error:
        report(unreadable(path, error))


def read_arrow(path: Path, report: Report) -> Iterator[Row]:
    """Yield the rows of an Arrow file, random-access or stream format."""
    arrow = _pyarrow(path, report)
    if arrow is None:
        return
    try:
        with arrow.memory_map(str(path)) as source:
            try:
                reader = arrow.ipc.open_file(source)
                batches = (reader.get_batch(i) for i in range(reader.num_record_batches))
            except arrow.ArrowInvalid:
                source.seek(0)
                batches = iter(arrow.ipc.open_stream(source))
            yield from _table_rows(path, batches)
    except arrow.ArrowInvalid as error:
        report(unreadable(path, error))


def _table_rows(path: Path, batches: Any) -> Iterator[Row]:
    number, name = 0, str(path)
    for batch in batches:
        for at in range(0, batch.num_rows, _BATCH_ROWS):
            for data in batch.slice(at, _BATCH_ROWS).to_pylist():
                number += 1
                yield Row(number, None, data, name)


def _pyarrow(path: Path, report: Report) -> Any:
    """Import pyarrow now and only now: it costs more than the whole shell."""
    try:
        return importlib.import_module("pyarrow")
    except ImportError:
        report(Problem("data.needs_pyarrow", {"path": str(path)}, file=str(path)))
        return None
