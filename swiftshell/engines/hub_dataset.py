"""Choose the data files of a data set: by the card's configuration, else by the usual names.

A repository or folder may hold several splits, configurations and formats. What can be told for certain is chosen; what
cannot is asked for, with the candidates named. Options: `file` (a name or a pattern), `split`, `config`.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from swiftshell.engines.hub_errors import nearest
from swiftshell.errors import fail

FORMATS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".ndjson")
_WORDS = {"train": {"train", "training"}, "validation": {"validation", "valid", "val", "dev"},
          "test": {"test", "testing", "eval", "evaluation"}}
_SHARD = re.compile(r"[-_.]\d{5}-of-\d{5}")
_NOT_DATA = {"dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json", "config.json",
             "package.json", "artifact.json"}


@dataclass(frozen=True)
class Choice:
    """The data files chosen, the split they are, and what decided it: `file`, `card` or `names`."""

    files: tuple[str, ...]
    split: str
    config: str | None
    decided_by: str


def choose(names: Iterable[str], card: str, options: Mapping[str, Any], where: str) -> Choice:
    """Return which files to read.

    Args:
        names: every file, `/`-separated, relative to the root.
        card: the text of README.md, empty if there is none.
        options: `file`, `split`, `config`; all may be absent.
        where: the repository or folder, for messages.

    Raises:
        SwiftshellError: nothing fits, or several things do.
    """
    data = sorted(n for n in names if is_data(n))
    if options.get("file"):
        return _by_file(data, str(options["file"]), options, where)
    if not data:
        raise fail("download.no_data_files", where=where, found=", ".join(sorted(names)[:12]) or "-",
                   formats=" ".join(FORMATS))
    wanted = str(options.get("split") or "train")
    return _by_card(data, card, wanted, options, where) or _by_names(data, wanted, options, where)


def is_data(name: str) -> bool:
    """Tell whether a file holds rows that can be read."""
    path = PurePosixPath(name.lower())
    hidden = any(part.startswith((".", "_")) for part in path.parts)
    return not hidden and path.name not in _NOT_DATA and path.name.removesuffix(".gz").endswith(FORMATS)


def _by_file(data: list[str], pattern: str, options: Mapping[str, Any], where: str) -> Choice:
    found = [n for n in data if n == pattern] or [n for n in data if _matches(n, pattern)]
    if not found:
        raise fail("download.data_file_unknown", where=where, wanted=pattern, nearest=nearest(pattern, data) or "-",
                   known=_some(data))
    return Choice(tuple(found), str(options.get("split") or split_of(found[0]) or "train"), None, "file")


def _by_card(data: list[str], card: str, wanted: str, options: Mapping[str, Any], where: str) -> Choice | None:
    """Follow the card's `configs`, as `datasets` does; None if it has none that names files."""
    configs = {str(c.get("config_name", "default")): c for c in _card_configs(card) if c.get("data_files")}
    if not configs:
        return None
    config = _pick_config(configs, options, where)
    splits = _card_splits(configs[config]["data_files"])
    if wanted not in splits:
        raise fail("download.split_unknown", where=where, split=wanted, splits=", ".join(splits) or "-",
                   nearest=nearest(wanted, list(splits)) or next(iter(splits), "-"))
    folder = str(configs[config].get("data_dir") or "").strip("/")
    patterns = [f"{folder}/{p}" if folder else p for p in splits[wanted]]
    files = [n for n in data if any(_matches(n, p) for p in patterns)]
    if not files:
        raise fail("download.card_names_nothing", where=where, patterns=", ".join(patterns), split=wanted,
                   known=_some(data))
    return Choice(tuple(files), wanted, config, "card")


def _card_configs(card: str) -> list[dict[str, Any]]:
    """Return the `configs` of a card's YAML header; a header that cannot be read counts as none."""
    if not card.startswith("---"):
        return []
    header = card[3:].partition("\n---")[0]
    try:
        found = (yaml.safe_load(header) or {}).get("configs") or []
    except (yaml.YAMLError, AttributeError):
        return []
    return [c for c in found if isinstance(c, dict)] if isinstance(found, list) else []


def _pick_config(configs: Mapping[str, dict[str, Any]], options: Mapping[str, Any], where: str) -> str:
    wanted = options.get("config")
    if wanted and str(wanted) in configs:
        return str(wanted)
    if wanted:
        raise fail("download.config_unknown", where=where, config=wanted, configs=", ".join(configs),
                   nearest=nearest(str(wanted), list(configs)) or next(iter(configs)))
    chosen = [n for n, c in configs.items() if c.get("default")] or [n for n in configs if n == "default"]
    if not chosen and len(configs) > 1:
        splits = _card_splits(next(iter(configs.values()))["data_files"])
        patterns = [*(pattern for found in splits.values() for pattern in found), "-"]
        raise fail("download.config_ambiguous", where=where, configs=", ".join(configs), first=patterns[0])
    return chosen[0] if chosen else next(iter(configs))


def _card_splits(data_files: Any) -> dict[str, list[str]]:
    """Return split -> patterns from the forms a card may use: a pattern, a list of them, or a list of splits."""
    if isinstance(data_files, str):
        return {"train": [data_files]}
    if isinstance(data_files, dict):
        return {str(k): _list(v) for k, v in data_files.items()}
    entries = [e for e in data_files if isinstance(e, dict)]
    if entries:
        return {str(e.get("split", "train")): _list(e.get("path")) for e in entries}
    return {"train": [str(e) for e in data_files]}


def _by_names(data: list[str], wanted: str, options: Mapping[str, Any], where: str) -> Choice:
    """Choose by names: files that say the split; else the only group of files there is."""
    config = options.get("config")
    if config:  # without a card, a configuration is a folder or the beginning of a name
        inside = [n for n in data if any(p.startswith(str(config)) for p in PurePosixPath(n).parts)]
        if not inside:
            raise fail("download.config_unknown", where=where, config=config, nearest="-",
                       configs=", ".join(sorted({PurePosixPath(n).parts[0] for n in data if "/" in n})) or "-")
        data = inside
    splits: dict[str, list[str]] = {}
    for name in data:
        splits.setdefault(split_of(name) or "", []).append(name)
    named = [s for s in splits if s]
    if wanted in splits:
        candidates = splits[wanted]
    elif options.get("split") or (named and "" not in splits):
        raise fail("download.split_unknown", where=where, split=wanted, splits=", ".join(named) or "-",
                   nearest=nearest(wanted, named) or (named[0] if named else "-"))
    else:
        candidates = splits[""]
    groups = _groups(candidates)
    if len(groups) > 1:
        first = next(iter(groups.values()))
        raise fail("download.data_ambiguous", where=where, candidates=_some(candidates), first=_pattern(first))
    return Choice(tuple(next(iter(groups.values()))), wanted if wanted in splits else "train",
                  str(config) if config else None, "names")


def _groups(names: list[str]) -> dict[tuple[str, str, str], list[str]]:
    """Group shards: files of one folder whose names differ in `-00000-of-00002` only."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for name in names:
        path = PurePosixPath(name)
        stem, _, ending = path.name.partition(".") if not _SHARD.search(path.name) else (
            _SHARD.sub("", path.name).partition("."))
        groups.setdefault((str(path.parent), stem, ending), []).append(name)
    return groups


def _pattern(files: list[str]) -> str:
    """Return how to name a group in `file:`."""
    return files[0] if len(files) == 1 else _SHARD.sub("-*", files[0])


def split_of(name: str) -> str | None:
    """Return the split that a file's name or folder says it is: the name decides before its folders."""
    path = PurePosixPath(name.lower())
    for part in (path.name.partition(".")[0], *reversed(path.parts[:-1])):
        words = set(re.split(r"[-_. ]+", part))
        for split, known in _WORDS.items():
            if words & known:
                return split
    return None


def _matches(name: str, pattern: str) -> bool:
    """Match a glob: `*` stays inside a folder, `**` crosses folders, and a folder's name means all that is in it."""
    return _match_parts(name.split("/"), pattern.removeprefix("./").rstrip("/").split("/"))


def _match_parts(parts: list[str], patterns: list[str]) -> bool:
    if not parts:
        return False
    if patterns[0] == "**":
        return _match_parts(parts, patterns[1:] or ["*"]) or _match_parts(parts[1:], patterns)
    if not fnmatch.fnmatchcase(parts[0], patterns[0]):
        return False
    if len(patterns) == 1:  # a wildcard stands for files only; a plain name may be a folder
        return len(parts) == 1 or parts[0] == patterns[0]
    return _match_parts(parts[1:], patterns[1:])


def _list(value: Any) -> list[str]:
    return [str(v) for v in value] if isinstance(value, list) else [str(value)] if value else []


def _some(names: list[str], limit: int = 12) -> str:
    return ", ".join(names[:limit]) + (f" … (+{len(names) - limit})" if len(names) > limit else "")
