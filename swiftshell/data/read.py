"""Read rows from files as people have them, one at a time, each with its number and line.

JSON (array, object around an array, single object), JSON lines, CSV and TSV, Parquet and Arrow, plain text;
`.gz` over any of the text forms; a folder of such files, or a data set artifact, whose ARTIFACT.json names
its `data_files`.

Nothing here raises for bad data: what cannot be read goes to `report` as a located problem, and reading goes
on after it where that makes sense (the next line of a JSON lines file).
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from swiftshell.data.jsonfile import JsonFault, json_rows
from swiftshell.data.jsonlines import BOM, UTF_16, JsonLines, not_utf8
from swiftshell.data.row import Row, shown, type_name
from swiftshell.data.sources import data_files, delimiter_of, head_of, kind_of, name_kind, open_bytes
from swiftshell.data.tables import read_arrow, read_parquet, unreadable
from swiftshell.errors import Problem

Report = Callable[[Problem], None]

_STORY_END = "<|endoftext|>"


def read_rows(path: Path, report: Report, *, split: str | None = None) -> Iterator[Row]:
    """Yield the rows of a file or folder; row numbers start again in every file.

    Args:
        path: file or folder.
        report: called with each problem, in the order of the file.
        split: of a folder, the files to take ("train", "test", "validation" or a part of the file name).
    """
    for file in data_files(path, report, split=split):
        yield from _read_file(file, report)


def _read_file(path: Path, report: Report) -> Iterator[Row]:
    try:
        if path.stat().st_size == 0:
            report(Problem("data.empty", {"path": str(path)}, file=str(path)))
            return
        kind = kind_of(path, report)
        if kind is not None:
            yield from _READERS[kind](path, report)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        report(Problem("data.truncated", {"path": str(path), "reason": str(error)}, file=str(path)))
    except OSError as error:
        report(unreadable(path, error))


def _decoded_lines(file: IO[bytes], path: Path, report: Report) -> Iterator[str]:
    """Yield lines (with their ends) as UTF-8 text; one that is not UTF-8 is reported and yielded as empty."""
    for number, raw in enumerate(file, 1):
        if number == 1:
            if raw.startswith(UTF_16):
                report(not_utf8(str(path), 1, raw, 0))
                return
            raw = raw.removeprefix(BOM)
        try:
            yield raw.decode("utf-8")
        except UnicodeDecodeError as error:
            report(not_utf8(str(path), number, raw, error.start))
            yield ""


def _read_jsonl(path: Path, report: Report) -> Iterator[Row]:
    with open_bytes(path) as file:
        head = file.read(4096).removeprefix(BOM).lstrip()
    if head.startswith(b"["):  # an array under the wrong name
        yield from _read_json_whole(path, report)
        return
    with open_bytes(path) as file:
        yield from JsonLines(str(path), report).rows(_until_utf16(file))


def is_json_lines(path: Path) -> bool:
    """Tell whether a file is read line by line as it lies on the disk: JSON lines, not compressed, not in UTF-16."""
    problems: list[Problem] = []
    try:
        with path.open("rb") as file:
            start = file.read(4096)
            file.seek(0)
            first, second = file.readline(1 << 20), file.readline(1 << 20)
        if not start.removeprefix(BOM).lstrip().startswith(b"{") or kind_of(path, problems.append) not in ("json", "jsonl"):
            return False
    except OSError:
        return False
    if name_kind(path) != "json":
        return True
    return _are_lines(first, second)


def _are_lines(first: bytes, second: bytes) -> bool:
    first = first.removeprefix(BOM).strip()
    return first.startswith(b"{") and first.endswith(b"}") and second.strip().startswith(b"{")


def _until_utf16(file: IO[bytes]) -> Iterator[bytes]:
    """Yield lines; of a file in UTF-16, which has no lines of ours, only the first."""
    for number, raw in enumerate(file):
        yield raw
        if number == 0 and raw.startswith(UTF_16):
            return


def _not_object(name: str, line: int | None, number: int, value: Any) -> Problem:
    values = {"value": shown(value), "type": type_name(value)}
    return Problem("data.row_not_object", values, file=name, line=line, row=number)


def _read_json(path: Path, report: Report) -> Iterator[Row]:
    """Read a .json file; JSON lines under that name are common and recognised by their first lines."""
    with open_bytes(path) as file:
        first, second = file.readline(1 << 20), file.readline(1 << 20)
    if _are_lines(first, second):
        yield from _read_jsonl(path, report)
    else:
        yield from _read_json_whole(path, report)


def _read_json_whole(path: Path, report: Report) -> Iterator[Row]:
    name, number = str(path), 0
    with open_bytes(path) as raw:
        text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        try:
            for line, value in json_rows(text):
                number += 1
                if type(value) is dict:
                    yield Row(number, line, value, name)
                elif type(value) is str:
                    yield Row(number, line, {"text": value}, name)
                else:
                    report(_not_object(name, line, number, value))
        except JsonFault as fault:
            values = {"message": fault.message, "text": fault.excerpt}
            report(Problem("data.bad_json", values, name, fault.line, fault.column, number + 1))
            return
        except UnicodeDecodeError:
            report(_first_undecodable(path))
            return
    if number == 0:
        report(Problem("data.empty", {"path": name}, file=name))


def _first_undecodable(path: Path) -> Problem:
    found: list[Problem] = []
    with open_bytes(path) as file:
        for _ in _decoded_lines(file, path, found.append):
            if found:
                break
    return found[0] if found else Problem("data.encoding", {"bytes": "", "guess": "GB18030"}, file=str(path))


def _read_csv(path: Path, report: Report, usual: str = ",") -> Iterator[Row]:
    csv.field_size_limit(1 << 27)
    name = str(path)
    delimiter = delimiter_of(head_of(path).decode("utf-8", "replace"), usual)
    with open_bytes(path) as file:
        table: Any = csv.reader(_decoded_lines(file, path, report), delimiter=delimiter, strict=True)
        try:
            header: list[str] = next(table, [])
            if bad := _bad_header(header):
                report(
                    Problem("data.csv_header", {"columns": ", ".join(header), "bad": bad}, file=name, line=1)
                )
                return
            number, line = 0, table.line_num + 1
            for cells in table:
                if cells:
                    number += 1
                    if len(cells) == len(header):
                        yield Row(number, line, dict(zip(header, cells, strict=True)), name)
                    else:
                        counts = {"found": len(cells), "wanted": len(header)}
                        report(Problem("data.csv_cells", counts, file=name, line=line, row=number))
                line = table.line_num + 1
        except csv.Error as error:
            values = {"message": str(error)}
            report(Problem("data.bad_csv", values, file=name, line=table.line_num))
            return
    if number == 0:
        report(Problem("data.empty", {"path": name}, file=name))


def _bad_header(header: list[str]) -> str:
    """Return what makes a header unusable: a column without a name, or a name that stands twice."""
    names = [column.strip() for column in header]
    if not all(names):
        return '""'
    return next((column for column in names if names.count(column) > 1), "")


def _read_text(path: Path, report: Report) -> Iterator[Row]:
    """Yield documents: separated by <|endoftext|> lines where there are any, else one a line."""
    name = str(path)
    with open_bytes(path) as file:
        by_mark = _STORY_END.encode() in file.read(1 << 20)
    number, start, held = 0, 1, list[str]()
    with open_bytes(path) as file:
        for line, text in enumerate(_decoded_lines(file, path, report), 1):
            if by_mark and text.strip() != _STORY_END:
                if not held:
                    start = line
                if held or text.strip():
                    held.append(text)
                continue
            document = "".join(held).strip() if by_mark else text.strip()
            if document:
                number += 1
                yield Row(number, start if by_mark else line, {"text": document}, name)
            held.clear()
    if document := "".join(held).strip():
        yield Row(number + 1, start, {"text": document}, name)


_READERS: dict[str, Callable[[Path, Report], Iterator[Row]]] = {
    "json": _read_json,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "tsv": lambda path, report: _read_csv(path, report, "\t"),
    "text": _read_text,
    "parquet": read_parquet,
    "arrow": read_arrow,
}
