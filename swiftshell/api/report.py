"""Collect everything a report of a run shows: what ran, on what, how it went, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftshell.api.runs import run_facts
from swiftshell.errors import Problem
from swiftshell.run import artifact
from swiftshell.run.events import read_events
from swiftshell.run.files import read_json_or_none
from swiftshell.run.paths import RunPaths, StepPaths
from swiftshell.stages import registry

_MOST_POINTS = 600  # of one curve
_MOST_MESSAGES = 200


def report_facts(run: RunPaths) -> dict[str, Any]:
    """Return a run's facts with, for every step, its settings, inputs, curves, messages and outputs' records."""
    facts = run_facts(run)
    plan = read_json_or_none(run.plan)
    planned = {s.get("id"): s for s in (plan or {}).get("steps", []) if isinstance(s, dict)}
    folders = {step.id: step for step in run.steps()}
    steps = [_step(step, planned.get(step["id"], {}), folders.get(step["id"])) for step in facts["steps"]]
    return {**facts, "seed": (plan or {}).get("seed"), "steps": steps, "next": next_commands(steps)}


def _step(facts: Mapping[str, Any], planned: Mapping[str, Any], folder: StepPaths | None) -> dict[str, Any]:
    events = read_events(folder.events)[0] if folder is not None else []
    records = {
        slot: record for slot, path in (facts.get("outputs") or {}).items() if (record := _record(Path(path)))
    }
    return {
        **facts,
        "settings": _settings(str(facts["stage"]), planned),
        "inputs": [item for refs in (planned.get("inputs") or {}).values() for item in refs],
        "series": series_of(events),
        "messages": _messages(events),
        "records": records,
    }


def _record(folder: Path) -> dict[str, Any] | None:
    try:
        return artifact.read(folder)
    except (ValueError, OSError):
        return None


def _settings(stage: str, planned: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every setting with its value and where that came from, those that somebody set first."""
    sources = planned.get("param_sources") or {}
    found = [
        {"name": name, "value": value, "source": sources.get(name, "default"), "stage": stage}
        for name, value in _flat(planned.get("params") or {}, "")
    ]
    return sorted(found, key=lambda s: s["source"] == "default")


def _flat(params: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in params.items():
        if isinstance(value, Mapping) and name != "engine_args":
            found += _flat(value, f"{prefix}{name}.")
        else:
            found.append((prefix + name, value))
    return found


def series_of(events: list[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Return every logged number as (step, value) in order; what an attempt or the guard took back is left out."""
    found: dict[str, list[tuple[float, float]]] = {}
    for event in events:
        step, value = event.get("step"), event.get("value")
        if (
            event.get("kind") != "metric"
            or not isinstance(step, int | float)
            or not isinstance(value, int | float)
        ):
            continue
        points = found.setdefault(str(event.get("name")), [])
        while points and points[-1][0] >= step:
            points.pop()
        points.append((float(step), float(value)))
    return {name: _thinned(points) for name, points in found.items()}


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    every = -(-len(points) // _MOST_POINTS)
    return points if every <= 1 else [*points[:-1:every], points[-1]]


def _messages(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return notes and warnings in the order they came, each once."""
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("kind") in ("note", "warning") and event.get("code"):
            severity = "warning" if event["kind"] == "warning" else "note"
            values = dict(event.get("values") or {})
            place = {key: values[key] for key in ("file", "row") if values.get(key) is not None}
            problem = Problem.from_json(
                {"code": event["code"], "values": values, "severity": severity, **place}
            )
            found.setdefault(repr((problem.code, sorted(values.items(), key=str))), problem.as_json())
    return list(found.values())[:_MOST_MESSAGES]


def next_commands(steps: list[dict[str, Any]]) -> list[str]:
    """Return what can be run next, as commands: measure it, go on with it, or pass it on along the pipeline."""
    done = [s for s in steps if s.get("result") == "succeeded" and s["stage"] in registry.PIPELINE]
    if not done or any(s.get("result") not in ("succeeded", None) for s in steps):
        return []
    stage = str(done[-1]["stage"])
    after = {
        "download": ["swiftshell run sft --yes"],
        "sft": ["swiftshell run kto --yes", "swiftshell run evaluate --yes"],
        "kto": [
            "swiftshell run evaluate --yes",
            "swiftshell run kto --continue --data NEW.jsonl --replay --yes",
            "swiftshell run dpo --yes",
        ],
        "dpo": ["swiftshell run evaluate --yes", "swiftshell run merge --yes"],
        "merge": ["swiftshell chat", "swiftshell run quantize --yes"],
    }
    return after.get(stage, ["swiftshell chat"])
