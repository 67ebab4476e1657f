"""Read a recipe's YAML into plain data that remembers where every key and value was written.

Values follow YAML 1.2: `5e-7` is a number, `yes` and `2026-01-01` are text, `010` is ten. Anchors, aliases and merge
keys work; custom tags do not, because on a shared machine a recipe must not be able to run code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from swiftshell.errors import SwiftshellError, fail

MAX_BYTES = 1_000_000
MAX_DEPTH = 40
MAX_NODES = 50_000  # aliases of aliases can make a small file an endless one

KeyPath = tuple[str | int, ...]


class Mark(NamedTuple):
    """A place in a text; both count from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Document:
    """Plain data and the places of its parts.

    Attributes:
        data: dict, list, str, int, float, bool or None, nested.
        keys: path of a mapping's entry or a list's item -> where its key (or the item) is written.
        values: the same paths -> where the value begins.
        file: the name to show in messages; None for text that is in no file.
    """

    data: Any
    keys: Mapping[KeyPath, Mark]
    values: Mapping[KeyPath, Mark]
    file: str | None
    text: str

    def key_mark(self, path: KeyPath) -> Mark:
        """Return where a key is written, or its nearest enclosing entry."""
        return self._nearest(self.keys, path)

    def value_mark(self, path: KeyPath) -> Mark:
        """Return where a value begins, or its nearest enclosing entry."""
        return self._nearest(self.values, path)

    def _nearest(self, marks: Mapping[KeyPath, Mark], path: KeyPath) -> Mark:
        if path in marks:
            return marks[path]
        for end in range(len(path) - 1, 0, -1):
            if path[:end] in self.keys:
                return self.keys[path[:end]]
        return Mark(1, 1)


def read_document(path: Path) -> Document:
    """Read a recipe file.

    Raises:
        SwiftshellError: it is missing, unreadable, too large, not UTF-8 or not YAML; each with its place.
    """
    shown = str(path)
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise fail("recipe.too_large", file=shown, size=size, limit=MAX_BYTES)
        raw = path.read_bytes()
    except FileNotFoundError:
        near = _nearest_file(path)
        raise fail("recipe.not_found_near" if near else "recipe.not_found", path=shown, nearest=near) from None
    except IsADirectoryError:
        raise fail("recipe.is_folder", path=shown) from None
    except OSError as error:
        raise fail("recipe.unreadable", path=shown, reason=error.strerror or str(error)) from None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start]
        column = len(before.rpartition(b"\n")[2].decode("utf-8", "replace")) + 1
        raise fail("recipe.not_utf8", file=shown, line=before.count(b"\n") + 1, column=column,
                   byte=f"0x{raw[error.start]:02x}") from None
    return parse_document(text, shown)


def parse_document(text: str, file: str | None = None) -> Document:
    """Parse YAML text into a document.

    Raises:
        SwiftshellError: it is not YAML that a recipe may use; the place is given.
    """
    builder = _Builder(file)
    node = _compose(text.removeprefix("\ufeff"), file)
    if node is None:
        raise fail("recipe.empty", file=file)
    data = builder.build(node, ())
    if builder.problems:
        raise SwiftshellError(error.problems[0] for error in builder.problems)
    return Document(data, builder.keys, builder.values, file, text)


def parse_value(text: str) -> Any:
    """Parse one YAML value, as `--set key=value` gives it.

    Raises:
        SwiftshellError: it is not YAML.
    """
    node = _compose(text, None)
    if node is None:
        return None
    builder = _Builder(None)
    value = builder.build(node, ())
    if builder.problems:
        raise builder.problems[0]
    return value


def _nearest_file(path: Path) -> str:
    from difflib import get_close_matches

    try:
        names = [p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml")]
    except OSError:
        return ""
    near = get_close_matches(path.name, names, n=1)
    return str(path.parent / near[0]) if near else ""


_BaseLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_BaseLoader):  # type: ignore[misc]
    """PyYAML's parser with the scalars of YAML 1.2's core schema instead of 1.1's."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


class _Dumper(yaml.SafeDumper):
    """PyYAML's writer, quoting what either YAML 1.1 or ours would read as something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_TAG = "tag:yaml.org,2002:"
_FLOAT = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
for _name, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", r"<<", ["<"]),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def _write_float(dumper: Any, value: float) -> Any:
    text = {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}.get(repr(value), repr(value))
    return dumper.represent_scalar(_TAG + "float", text)


_Dumper.add_representer(float, _write_float)


def to_yaml(data: Mapping[str, Any]) -> str:
    """Return plain data as YAML that `parse_document` reads back unchanged, keys in their order."""
    text: str = yaml.dump(_plain(data), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def _plain(value: Any) -> Any:
    """Turn mappings and sequences of any kind, and paths, into what YAML writes."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def _compose(text: str, file: str | None) -> Any:
    """Return the root node, or None for an empty text."""
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.reader.ReaderError as error:
        before = text[: error.position] if isinstance(error.position, int) else ""
        raise fail("recipe.yaml_character", file=file, line=before.count("\n") + 1,
                   character=f"U+{_code_point(error.character):04X}") from None
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text, file) from None
    except RecursionError:
        raise fail("recipe.yaml_deep", file=file, limit=MAX_DEPTH) from None


def _code_point(character: Any) -> int:
    return character if isinstance(character, int) else ord(str(character)[:1] or "\0")


# What libyaml (and PyYAML's own parser) say, and the sentence it becomes. First match wins.
_CAUSES = (
    (r"undefined alias", "recipe.yaml_alias"),
    (r"duplicate anchor|second occurrence", "recipe.yaml_anchor"),
    (r"expected a single document|another document", "recipe.yaml_documents"),
    (r"end of stream|while scanning a quoted|unexpected end|expected ',' or|while parsing a flow",
     "recipe.yaml_unclosed"),
    (r"cannot start any token|unexpected character", "recipe.yaml_start"),
    (r"mapping values are not allowed|block end|expected key|expected ':'|simple key", "recipe.yaml_indent"),
    (r"block sequence entries|'-' indicator", "recipe.yaml_indent"),
)


def _syntax(error: yaml.MarkedYAMLError, text: str, file: str | None) -> SwiftshellError:
    """Turn a parser's complaint into one sentence with its place."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line, mark.column) if mark else (0, 0)
    lines = text.split("\n")
    found = lines[line].rstrip("\r") if line < len(lines) else ""
    said = f"{error.context or ''} {error.problem or ''}"
    indent = found[: len(found) - len(found.lstrip())]
    if "\t" in indent or found[column : column + 1] == "\t":
        column = found.index("\t")
        return fail("recipe.yaml_tab", file=file, line=line + 1, column=column + 1)
    code = next((code for pattern, code in _CAUSES if re.search(pattern, said)), "recipe.yaml_syntax")
    if code == "recipe.yaml_unclosed" and error.context_mark:
        line, column = error.context_mark.line, error.context_mark.column
        found = lines[line].rstrip("\r") if line < len(lines) else ""
    return fail(code, file=file, line=line + 1, column=column + 1, found=found.strip()[:60], said=said.strip())


@dataclass
class _Builder:
    """Turn nodes into plain data, collecting marks and the problems of the data's form."""

    file: str | None
    keys: dict[KeyPath, Mark] = field(default_factory=dict)
    values: dict[KeyPath, Mark] = field(default_factory=dict)
    problems: list[SwiftshellError] = field(default_factory=list)
    _open: set[int] = field(default_factory=set)
    _count: int = 0

    def build(self, node: Any, path: KeyPath) -> Any:
        """Return the node's data.

        Raises:
            SwiftshellError: the data is endless.
        """
        mark = _mark(node)
        self.values[path] = mark
        self._count += 1
        if self._count > MAX_NODES:
            raise fail("recipe.yaml_many", file=self.file, line=mark.line, column=mark.column, limit=MAX_NODES)
        if len(path) > MAX_DEPTH or id(node) in self._open:
            raise fail("recipe.yaml_deep", file=self.file, line=mark.line, column=mark.column, limit=MAX_DEPTH)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._open.add(id(node))
        try:
            return self._mapping(node, path) if isinstance(node, yaml.MappingNode) else self._sequence(node, path)
        finally:
            self._open.discard(id(node))

    def _sequence(self, node: Any, path: KeyPath) -> list[Any]:
        self._standard(node, "seq")
        out = []
        for i, item in enumerate(node.value):
            self.keys[(*path, i)] = _mark(item)
            out.append(self.build(item, (*path, i)))
        return out

    def _mapping(self, node: Any, path: KeyPath) -> dict[str, Any]:
        self._standard(node, "map")
        out: dict[str, Any] = {}
        merged: list[tuple[Any, Any]] = []
        for key_node, value_node in node.value:
            mark = _mark(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self._complain("recipe.yaml_key", key_node)
                continue
            if key_node.tag == _TAG + "merge":
                merged.append((key_node, value_node))
                continue
            key = str(key_node.value)
            if key in out:
                first = self.keys[(*path, key)]
                self._complain("recipe.duplicate_key", key_node, name=key, first=f"{first.line}:{first.column}")
                continue
            self.keys[(*path, key)] = mark
            out[key] = self.build(value_node, (*path, key))
        for key_node, value_node in merged:
            self._merge(out, key_node, value_node, path)
        return out

    def _merge(self, out: dict[str, Any], key_node: Any, value_node: Any, path: KeyPath) -> None:
        """Take over the entries of `<<: *anchor` that the mapping does not have itself."""
        sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
        for source in sources:
            if not isinstance(source, yaml.MappingNode) or id(source) in self._open:
                self._complain("recipe.yaml_merge", key_node)
                continue
            inner = _Builder(self.file, _open=self._open, _count=self._count)
            found = inner.build(source, path)
            self._count = inner._count
            self.problems += inner.problems
            fresh = {k for k in found if k not in out}
            out.update({k: found[k] for k in fresh})
            for mine, theirs in ((self.keys, inner.keys), (self.values, inner.values)):
                mine.update({p: m for p, m in theirs.items() if len(p) > len(path) and p[len(path)] in fresh})

    def _scalar(self, node: Any) -> Any:
        text = str(node.value)
        kind = str(node.tag).removeprefix(_TAG)
        if kind in ("str", "merge"):
            return text
        try:
            return _SCALARS[kind](text)
        except (KeyError, ValueError, OverflowError):
            self._complain("recipe.yaml_tag", node, tag=str(node.tag).replace(_TAG, "!!"), found=text[:60])
            return text

    def _standard(self, node: Any, kind: str) -> None:
        if node.tag != _TAG + kind:
            self._complain("recipe.yaml_tag", node, tag=str(node.tag).replace(_TAG, "!!"), found="")

    def _complain(self, code: str, node: Any, **values: Any) -> None:
        mark = _mark(node)
        self.problems.append(fail(code, file=self.file, line=mark.line, column=mark.column, **values))


def _mark(node: Any) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


def _bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


def _int(text: str) -> int:
    return int(text, 8) if text.startswith("0o") else int(text, 16) if text.startswith("0x") else int(text, 10)


def _float(text: str) -> float:
    lowered = text.lower()
    if lowered.endswith(".inf"):
        return -math.inf if lowered.startswith("-") else math.inf
    return math.nan if lowered == ".nan" else float(text)


_SCALARS: dict[str, Any] = {"null": lambda _text: None, "bool": _bool, "int": _int, "float": _float}
