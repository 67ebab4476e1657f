"""Find what earlier rounds of a stage were trained and measured on, from the runs themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from swiftshell.plan.board import Board, Entry
from swiftshell.run.files import read_json_or_none
from swiftshell.run.paths import StepPaths

_STARTER_NAME = "starter "
_READING = ("columns", "format", "label_rule", "limit", "split")


def number_of(entry: Entry) -> int:
    """Return which round an output of KTO or DPO is, counted from 1."""
    return int((entry.record.get("rounds") or {}).get("number", 1))


def chain(board: Board, newest: Entry) -> list[Entry]:
    """Return a round and those before it, newest first, as far as their runs are still there."""
    found, seen = [newest], {newest.id}
    while (before := _before(board, found[-1])) is not None and before.id not in seen:
        found.append(before)
        seen.add(before.id)
    return found


def _before(board: Board, entry: Entry) -> Entry | None:
    """Return the round that a round started from; records of older versions name it among the parents only."""
    recorded = (entry.record.get("rounds") or {}).get("previous")
    parents = (p.get("id") for p in entry.record.get("parents") or [] if p.get("slot") == "policy")
    wanted = recorded or next(parents, None)
    return (
        next((e for e in board.entries if e.id == wanted and e.stage == entry.stage), None)
        if wanted
        else None
    )


def data_of(entry: Entry, slot: str) -> dict[str, Any] | None:
    """Return the recipe entry of the data an output was made with; None if it had none, or it is gone."""
    request = read_json_or_none(StepPaths(entry.step_root).request)
    given = ((request or {}).get("inputs") or {}).get(slot) if isinstance(request, dict) else None
    if isinstance(given, list):
        given = given[0] if given else None
    if not isinstance(given, dict) or not given.get("path") or not Path(given["path"]).exists():
        return None
    name, options = str(given.get("name", "")), given.get("options") or {}
    reading = {key: options[key] for key in _READING if options.get(key)}
    if name.startswith(_STARTER_NAME):
        return {"starter": name.removeprefix(_STARTER_NAME), **reading}
    return {"path": given["path"], **reading}


def train_data(rounds: list[Entry]) -> list[tuple[Entry, dict[str, Any]]]:
    """Return the training data of rounds, each data set once, in the order of the rounds given."""
    found: list[tuple[Entry, dict[str, Any]]] = []
    for entry in rounds:
        spec = data_of(entry, "train_data")
        if spec is not None and spec not in [s for _, s in found]:
            found.append((entry, spec))
    return found
