"""Say which stage suits the data at hand, with reasons, settings and the command that does it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swiftshell.errors import fail
from swiftshell.i18n import t

# When which stage is the better choice, in the order in which they are run.
STAGES = ("sft", "kto", "dpo")


def choosing() -> dict[str, Any]:
    """Return when each training stage is the better choice, without looking at any data."""
    return {
        "kind": "choosing",
        "stages": [{"name": s, "when": t(f"choose.when.{s}")} for s in STAGES],
        "evidence": t("choose.evidence"),
    }


def choose(path: Path, columns: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return which stages suit a data file, in order, and everything that led there.

    Raises:
        SwiftshellError: there is no such file, or no stage could read it.
    """
    from swiftshell.data.suitability import decide, look

    if not path.exists():
        raise fail("plan.path_missing", path=str(path), name="--data")
    seen = look(path, columns=columns)
    choice = decide(seen)
    commands = [
        command(stage, path, columns, {s.name: s.value for s in choice.settings if s.stage == stage})
        for stage in choice.stages
    ]
    return {
        "kind": "choice",
        "path": str(path),
        "data": {k: v for k, v in asdict(seen).items() if k != "columns"},
        "columns": dict(seen.columns),
        "choice": list(choice.stages),
        "reasons": [_said(s) for s in choice.reasons],
        "settings": [
            {"stage": s.stage, "name": s.name, "value": s.value, **_said(s)} for s in choice.settings
        ],
        "commands": commands,
        "instead": [{**({"stage": s.stage} if s.stage else {}), **_said(s)} for s in choice.instead],
    }


def _said(said: Any) -> dict[str, Any]:
    return {"code": said.code, "values": dict(said.values), "text": t(said.code, **said.values)}


def command(stage: str, path: Path, columns: Mapping[str, str] | None, settings: Mapping[str, Any]) -> str:
    """Return the command line that runs a stage on a file; settings at their default are left out."""
    from swiftshell.stages import registry

    defaults = registry.get(stage).params.model_fields
    words = ["swiftshell", "run", stage, "--data", str(path)]
    for ours, theirs in (columns or {}).items():
        words += ["--column", f"{ours}={theirs}"]
    for name, value in settings.items():
        if value != defaults[name].default:
            words += ["--set", f"{name}={value}"]
    return shlex.join(words)
