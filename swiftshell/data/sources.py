"""Find the files behind a path, and tell by their first bytes how each is read.

A path is a file, a folder, a data set artifact (whose ARTIFACT.json names its `data_files`), or a pattern such as
`data/*.jsonl`. The name of a file is a hint; what stands in it decides: a compressed file, a table, or JSON lines are
known by their content under any name.
"""

from __future__ import annotations

import csv
import gzip
import importlib
import io
import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, cast

from swiftshell.data.row import shown
from swiftshell.data.tables import unreadable
from swiftshell.errors import Problem

Report = Callable[[Problem], None]

_TEXT_KINDS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".txt": "text",
}
_TABLE_KINDS = {".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow"}
_COMPRESSED = (".gz", ".zst")
SUFFIXES = (*_TEXT_KINDS, *_TABLE_KINDS)
_NOT_DATA = {
    "ARTIFACT.json",
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
}
_SPLIT_WORDS = {
    "train": ("train",),
    "test": ("test",),
    "validation": ("validation", "valid", "val", "dev", "eval"),
}
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
# What people point at by mistake: first bytes → what it is.
_FOREIGN = (
    (b"PK\x03\x04", "zip"),
    (b"SQLite format 3\0", "SQLite"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"%PDF", "PDF"),
    (b"\x80\x02}", "pickle"),
    (b"\x80\x04\x95", "pickle"),
    (b"\x89HDF", "HDF5"),
    (b"\xd0\xcf\x11\xe0", "Excel"),
    (b"<!DOCTYPE", "HTML"),
    (b"<!doctype", "HTML"),
    (b"<html", "HTML"),
    (b"<?xml", "XML"),
)
_LFS = b"version https://git-lfs.github.com/spec/"
# Sixteen bits a character, as Windows writes text: every other byte of plain text is zero.
_WIDE = ((b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16"))
_HEAD_BYTES = 1 << 16
_DELIMITERS = (",", "\t", ";", "|")
_HEADER_CELL_CHARS = 80  # a longer first cell is a sentence, not the name of a column


def data_files(path: Path, report: Report, *, split: str | None = None) -> list[Path]:
    """Return the files that hold the rows of `path`, sorted; empty after a reported problem."""
    try:
        if not path.exists():
            if is_pattern(path):
                return _of_pattern(path, report, split)
            near = _nearest(path)
            code = "data.not_found_near" if near else "data.not_found"
            report(Problem(code, {"path": str(path), "near": near}, file=str(path)))
            return []
        if not path.is_dir():
            return [path]
        found = _in_folder(path)
    except OSError as error:
        report(unreadable(path, error))
        return []
    chosen = _of_split(found, split)
    if not chosen:
        code = "data.no_split" if found else "data.no_files"
        names = ", ".join(str(p.relative_to(path)) for p in found[:10])
        report(Problem(code, {"path": str(path), "split": split, "files": names}, file=str(path)))
    return chosen


def is_pattern(path: Path) -> bool:
    """Tell whether a path is meant as a pattern (`*`, `?`, `[…]`) and not as a name."""
    return any(mark in str(path) for mark in "*?[")


def exists(path: Path) -> bool:
    """Tell whether a path is there, or a pattern fits something."""
    if path.exists():
        return True
    return is_pattern(path) and next(_matches(path), None) is not None


def root_of(path: Path) -> Path:
    """Return the folder that the files of a path lie in: the folder itself, or what stands before a pattern."""
    if path.is_dir():
        return path
    root = path.parent
    while is_pattern(root):
        root = root.parent
    return root


def _matches(path: Path) -> Any:
    root = root_of(path)
    return root.glob(str(path.relative_to(root)))


def _of_pattern(path: Path, report: Report, split: str | None) -> list[Path]:
    """Return the files that a pattern names; folders among them are looked into."""
    try:
        named = sorted(_matches(path))
    except (ValueError, IndexError):  # "**" inside of a name
        named = []
    files = [p for p in named if not p.is_dir()]
    chosen = _of_split(files, split) if split else files
    chosen += [file for p in named if p.is_dir() for file in _of_split(_in_folder(p), split)]
    if not chosen:
        names = ", ".join(sorted({p.name for p in root_of(path).iterdir()})[:10]) if root_of(path).is_dir() else ""
        report(Problem("detect.pattern_empty", {"path": str(path), "folder": str(root_of(path)), "files": names or "-"},
                       file=str(path)))
    return chosen


def _in_folder(folder: Path) -> list[Path]:
    return _artifact_files(folder) or sorted(p for p in folder.rglob("*") if p.is_file() and _is_data(p, folder))


def _is_data(path: Path, folder: Path) -> bool:
    parts = path.relative_to(folder).parts
    made_by_map = path.name.startswith("cache-") and path.suffix == ".arrow"  # of `datasets`, beside the rows themselves
    return (
        name_kind(path) not in (None, "text")
        and path.name not in _NOT_DATA
        and not made_by_map
        and not any(p[0] in "._" for p in parts)
    )


def _artifact_files(folder: Path) -> list[Path]:
    try:
        record = json.loads((folder / "ARTIFACT.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    names = record.get("data_files") if isinstance(record, dict) else None
    return [folder / str(name) for name in names] if isinstance(names, list) else []


def _of_split(files: list[Path], split: str | None) -> list[Path]:
    """Keep the files of a split; without one, the training files where the folder tells splits apart."""
    if split is not None:
        words = _SPLIT_WORDS.get(split, (split,))
        return [f for f in files if _names_split(f, words)]
    train = [f for f in files if _names_split(f, _SPLIT_WORDS["train"])]
    others = [w for name, words in _SPLIT_WORDS.items() if name != "train" for w in words]
    return train if train and any(_names_split(f, tuple(others)) for f in files) else files


def _names_split(path: Path, words: tuple[str, ...]) -> bool:
    """Tell whether a file's name (train-00000-of-00002.parquet) or its folder (train/1.jsonl) names a split."""
    name = path.name.lower()
    parts = name.replace(".", "-").replace("_", "-").split("-")
    return any(word in parts or word == path.parent.name.lower() or name.startswith(word) for word in words)


def _nearest(path: Path) -> str:
    """Return the name in the same folder that is most like a missing one, or an empty string."""
    import difflib

    try:
        names = [p.name for p in path.parent.iterdir()]
    except OSError:
        return ""
    return next(iter(difflib.get_close_matches(path.name, names, n=1, cutoff=0.6)), "")


# ------------------------------------------------------------------------------------------------- opening


def open_bytes(path: Path) -> IO[bytes]:
    """Open a file for reading; a compressed one, known by its first bytes, is unpacked on the way.

    Raises:
        OSError: it cannot be read.
        ModuleNotFoundError: it is a .zst, and zstandard is not installed.
    """
    with path.open("rb") as file:
        magic = file.read(4)
    if magic.startswith(_GZIP):
        return cast(IO[bytes], gzip.open(path, "rb"))
    if magic == _ZSTD:
        return io.BufferedReader(_Zstandard(path), 1 << 20)
    return path.open("rb", buffering=1 << 20)


class _Zstandard(io.RawIOBase):
    """Unpack a .zst as a stream, frame after frame; one that ends too early is an EOFError, as with gzip."""

    def __init__(self, path: Path) -> None:
        self._library = importlib.import_module("zstandard")
        self._file = path.open("rb")
        self._frame: Any = self._library.ZstdDecompressor().decompressobj()
        self._held = b""
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._held:
            if self._frame.eof:
                rest = self._frame.unused_data
                self._frame, self._begun = self._library.ZstdDecompressor().decompressobj(), False
            else:
                rest = b""
            packed = rest or self._file.read(1 << 18)
            if not packed:
                if self._begun:
                    raise EOFError("the last frame is not whole")
                return 0
            self._begun = True
            try:
                self._held = self._frame.decompress(packed)
            except self._library.ZstdError as error:
                raise EOFError(str(error)) from None
        part = self._held[: len(buffer)]
        buffer[: len(part)] = part
        self._held = self._held[len(part) :]
        return len(part)

    def close(self) -> None:
        self._file.close()
        super().close()


# ------------------------------------------------------------------------------------------------- what it is


def name_kind(path: Path) -> str | None:
    """Return how a file is read, by its name alone: json, jsonl, csv, tsv, text, parquet, arrow or None."""
    name = path.name.lower()
    packed = name.endswith(_COMPRESSED)
    suffix = Path(name.rpartition(".")[0] if packed else name).suffix
    return _TEXT_KINDS.get(suffix) or (None if packed else _TABLE_KINDS.get(suffix))


def kind_of(path: Path, report: Report) -> str | None:
    """Return how a file is read, by its first bytes and then by its name; None after a reported problem."""
    try:
        with path.open("rb") as file:
            raw = file.read(64)
        if raw.startswith(b"PAR1"):
            return "parquet"
        if raw.startswith(b"ARROW1"):
            return "arrow"
        named = name_kind(path)
        if named in ("parquet", "arrow"):
            return named
        if raw.startswith(_LFS):
            report(Problem("detect.lfs_pointer", {"path": str(path)}, file=str(path), line=1))
            return None
        if (wide := _wide_text(raw)) is not None:
            values = {"bytes": " ".join(f"{byte:02x}" for byte in raw[:4]), "guess": wide}
            report(Problem("data.encoding", values, file=str(path), line=1, column=1))
            return None
        if (what := next((what for mark, what in _FOREIGN if raw.startswith(mark)), None)) is not None:
            report(Problem("detect.foreign", {"path": str(path), "what": what}, file=str(path)))
            return None
        head = head_of(path)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        report(Problem("data.truncated", {"path": str(path), "reason": str(error)}, file=str(path)))
        return None
    except ModuleNotFoundError:
        report(Problem("detect.needs_zstandard", {"path": str(path)}, file=str(path)))
        return None
    if (at := _binary_at(head)) is not None:
        values = {"path": str(path), "bytes": " ".join(f"{byte:02x}" for byte in head[at : at + 4])}
        report(Problem("data.binary", values, file=str(path), line=head.count(b"\n", 0, at) + 1))
        return None
    found = _text_kind(head, named)
    if found is None:
        values = {"path": str(path), "suffix": path.suffix or path.name, "known": " ".join(SUFFIXES),
                  "text": shown(head[:60].decode("utf-8", "replace"))}
        report(Problem("data.unknown_type", values, file=str(path)))
    return found


def _wide_text(raw: bytes) -> str | None:
    """Return the name of an encoding with two bytes a character; None for what reads as UTF-8 may."""
    for mark, name in _WIDE:
        if raw.startswith(mark):
            return name
    start = raw[:16]
    if len(start) >= 4 and not any(start[1::2]) and all(start[::2]):
        return "UTF-16LE"
    return "UTF-16BE" if len(start) >= 4 and not any(start[::2]) and all(start[1::2]) else None


def _binary_at(head: bytes) -> int | None:
    """Return where bytes stop being text, if zero bytes say that they never were; None for text."""
    if b"\0" not in head:
        return None
    try:
        head[:-4].decode("utf-8")  # the last character may be cut
    except UnicodeDecodeError as error:
        return error.start
    return None


def head_of(path: Path) -> bytes:
    """Return the first bytes of a text file, unpacked; of one that breaks off, what there is.

    Raises:
        OSError, EOFError, zlib.error: nothing of it can be read.
    """
    head = b""
    with open_bytes(path) as file:
        while len(head) < _HEAD_BYTES:
            try:
                piece = file.read(1 << 10)
            except (EOFError, gzip.BadGzipFile, zlib.error):
                if not head:
                    raise
                break  # the reader will come to this place, and say so
            if not piece:
                break
            head += piece
    return head.removeprefix(b"\xef\xbb\xbf")


def _text_kind(head: bytes, named: str | None) -> str | None:
    """Return the kind of a text by its beginning, where that is plain, else what its name says."""
    if named in ("json", "jsonl"):  # the readers of both know the other by themselves
        return named
    text = head.decode("utf-8", "replace").lstrip()
    if _starts_json_lines(text):
        return "jsonl"
    if named is None and text.startswith(("[", "{")):
        return "json"
    if named is not None:
        return named
    return "csv" if len(_cells(text, delimiter_of(text, ""))) > 1 else None


def _starts_json_lines(text: str) -> bool:
    """Tell whether the first line is a whole JSON object."""
    line = text.partition("\n")[0].strip()
    if not (line.startswith("{") and line.endswith("}")):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def delimiter_of(text: str, usual: str) -> str:
    """Return what separates the cells of a table: the usual sign where the header has it, else the one it has."""
    if usual and len(_cells(text, usual)) > 1:
        return usual
    counted = [(len(_cells(text, d)), -n, d) for n, d in enumerate(_DELIMITERS)]
    best = max(counted)
    return best[2] if best[0] > 1 else usual or ","


def _cells(text: str, delimiter: str) -> list[str]:
    """Return the cells of a header; none where the first line does not look like one."""
    try:
        header = next(csv.reader(io.StringIO(text), delimiter=delimiter), [])
    except csv.Error:
        return []
    names = [cell.strip() for cell in header]
    good = all(name and len(name) <= _HEADER_CELL_CHARS and "\n" not in name for name in names)
    return header if good and len(set(names)) == len(names) else []
