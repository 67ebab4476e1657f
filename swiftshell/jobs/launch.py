"""Make a run's folder, complete before anyone sees it, and start its detached runner."""

from __future__ import annotations

import json
import os
import re
import secrets
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import swiftshell
from swiftshell.errors import EXIT_FAILURE, EXIT_RUNNING, fail
from swiftshell.run.files import read_json_or_none, sync_folder, write_json
from swiftshell.run.paths import RunPaths

START_TIMEOUT_S = 60.0
_ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"  # nothing that reads like something else
_NEW = ".new-"
_ABANDONED_AFTER_S = 3600.0
_LOG_TAIL_BYTES = 2000


def new_run_id(runs: Path, name: str) -> str:
    """Return a run id like `2026-11-23-kto-k3f9` that no run has. Nothing is reserved: `create` notices a collision."""
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40] or "run"
    while True:
        run_id = f"{date.today().isoformat()}-{stem}-{''.join(secrets.choice(_ALPHABET) for _ in range(4))}"
        if not (runs / run_id).exists():
            return run_id


def create(runs: Path, run_id: str, recipe_text: str, plan: Mapping[str, Any],
           requests: Mapping[str, Mapping[str, Any]]) -> RunPaths:
    """Make a run's folder: built beside the others under a hidden name, renamed when it is whole.

    Args:
        runs: the workspace's folder of runs; made if need be.
        run_id: from `new_run_id`; the requests already name it and paths below it.
        recipe_text: the recipe as the person wrote it.
        plan: the plan, JSON-ready.
        requests: step id → `request.json`, in the order of the steps.

    Raises:
        SwiftshellError: the folder cannot be written, or a run of this name exists.
    """
    final, building = RunPaths(runs / run_id), RunPaths(runs / f"{_NEW}{run_id}")
    try:
        runs.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(runs)
        if final.root.exists():
            raise fail("run.id_taken", run=run_id, path=str(final.root))
        building.root.mkdir()
        _fill(building, recipe_text, plan, requests)
        os.rename(building.root, final.root)
        sync_folder(runs)
    except OSError as error:
        shutil.rmtree(building.root, ignore_errors=True)
        raise fail("run.folder_unwritable", path=str(runs), reason=error.strerror or str(error)) from error
    return final


def _fill(run: RunPaths, recipe_text: str, plan: Mapping[str, Any], requests: Mapping[str, Mapping[str, Any]]) -> None:
    for number, (step_id, request) in enumerate(requests.items(), 1):
        write_json(run.step_root(number, step_id) / "request.json", dict(request))
    run.recipe.write_text(recipe_text, encoding="utf-8")
    write_json(run.plan, dict(plan))
    write_json(run.state, {"v": 1, "status": "waiting", "result": None, "updated": None,
                           "steps": {s: {"status": "waiting", "result": None, "attempt": None} for s in requests}})
    run.stop_request.parent.mkdir()
    run.lock.touch(0o664)


def _remove_abandoned(runs: Path) -> None:
    """Remove what a killed `create` left an hour ago or earlier."""
    for path in runs.glob(_NEW + "*"):
        if time.time() - path.stat().st_mtime > _ABANDONED_AFTER_S:
            shutil.rmtree(path, ignore_errors=True)


def start(run_folder: Path, *, wait: bool = True) -> None:
    """Start the runner of a complete run folder; return when it holds the run's lock and has said who it is.

    The runner belongs to a session of its own and to init: closing the terminal, Ctrl-C here and the end of this
    process do not reach it. Its working folder is the workspace (the folder that holds `runs/`). Without `wait`, a step
    whose GPUs are not free is refused instead of queued.

    Raises:
        SwiftshellError: a runner already works on this run (exit 8), or the new one ended at once (its log is quoted).
    """
    run = RunPaths(run_folder.absolute())
    ready, tell = os.pipe()
    try:
        try:
            _spawn(run, tell, wait=wait)
        finally:
            os.close(tell)
        answer = _answer(ready)
    except OSError as error:
        raise fail("run.folder_unwritable", path=str(run.root), reason=error.strerror or str(error)) from error
    finally:
        os.close(ready)
    if answer is None:
        raise fail("run.runner_ended", exit_code=EXIT_FAILURE, run=run.id, log=str(run.runner_log), tail=log_tail(run))
    if answer.get("code") == "run.still_running":
        raise still_running(run)
    if not answer.get("ok"):
        raise fail(str(answer.get("code")), exit_code=EXIT_FAILURE, path=str(run.root), reason=answer.get("reason", ""))


def _spawn(run: RunPaths, tell: int, *, wait: bool) -> None:
    """Start `python -m swiftshell.runner`, which forks once more and so leaves this process without a child."""
    env = dict(os.environ)
    package = Path(swiftshell.__file__).resolve().parents[1]
    if package.name not in ("site-packages", "dist-packages"):
        env["PYTHONPATH"] = os.pathsep.join(p for p in (str(package), env.get("PYTHONPATH", "")) if p)
    with run.runner_log.open("ab") as log:
        os.chmod(run.runner_log, 0o640)
        first = subprocess.Popen(
            [sys.executable, "-P", "-m", "swiftshell.runner", str(run.root), "--ready-fd", str(tell),
             *([] if wait else ["--no-wait"])],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=run.root.parent.parent, env=env,
            start_new_session=True, pass_fds=(tell,))
    try:
        first.wait(START_TIMEOUT_S)
    except subprocess.TimeoutExpired:  # it never came to fork: end it, the log says what there is to say
        first.kill()
        first.wait()


def _answer(ready: int) -> dict[str, Any] | None:
    """Return what the runner says about itself, or None if it ended without a word."""
    said, end = b"", time.monotonic() + START_TIMEOUT_S
    while not said.endswith(b"\n"):
        readable, _, _ = select.select([ready], [], [], max(0.0, end - time.monotonic()))
        part = os.read(ready, 4096) if readable else b""
        if not part:
            return None
        said += part
    answer = json.loads(said)
    return answer if isinstance(answer, dict) else None


def still_running(run: RunPaths) -> Exception:
    """Return the error that says who works on a run."""
    facts = read_json_or_none(run.runner) or {}
    return fail("run.still_running", exit_code=EXIT_RUNNING, run=run.id, pid=facts.get("pid", "?"),
                user=facts.get("user", "?"))


def log_tail(run: RunPaths) -> str:
    """Return the last lines of the runner's log."""
    try:
        data = run.runner_log.read_bytes()[-_LOG_TAIL_BYTES:]
    except OSError:
        return ""
    return data.decode("utf-8", errors="replace").strip()
