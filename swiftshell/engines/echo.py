"""Count ticks and leave a note: the engine without a model that tests and demonstrations of the shell use."""

from __future__ import annotations

import json
import os
import time

from swiftshell.errors import Problem, fail
from swiftshell.stages.base import Context, Outcome, StepRequest, Stopped


def run(request: StepRequest, ctx: Context) -> Outcome:
    """Count to `ticks`, continuing from the last checkpoint, then end the way `ending` says."""
    params = request.params
    start = _resume_at(request)
    ctx.phase("counting")
    for tick in range(start, params.ticks):
        time.sleep(params.tick_s)
        ctx.progress(tick + 1, params.ticks, "ticks")
        ctx.metric("tick", float(tick + 1), tick + 1)
        _save(ctx, tick + 1)
        if ctx.stop_requested() and not params.ignore_stop:
            raise Stopped
    if params.ending == "fail":
        raise fail("engine.echo_failed", exit_code=3, text=params.text)
    if params.ending == "defect":
        raise RuntimeError(params.text)
    if params.ending == "exit":
        os._exit(9)
    folder = ctx.out / "note"
    folder.mkdir(parents=True)
    (folder / "note.txt").write_text(params.text + "\n", encoding="utf-8")
    gate = [Problem("engine.echo_gate", {"text": params.text})] if params.ending == "gate" else []
    return Outcome({"note": {"kind": "note"}}, {"ticks": float(params.ticks)}, {"started_at": start}, gate)


def _resume_at(request: StepRequest) -> int:
    if request.resume_from is None:
        return 0
    return int(json.loads((request.resume_from / "state.json").read_text())["tick"])


def _save(ctx: Context, tick: int) -> None:
    folder = ctx.checkpoints / f"checkpoint-{tick}"
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "state.json.tmp"
    temporary.write_text(json.dumps({"tick": tick}), encoding="utf-8")
    temporary.replace(folder / "state.json")
    ctx.checkpoint(folder, tick)
