"""Run one step: the only process that imports an engine.

Started by the runner as `python -m swiftshell.worker STEP_FOLDER ATTEMPT`. It reads `request.json`, calls the engine,
writes each output's ARTIFACT.json and, as its last word, `attempts/NNN/outcome.json`. What the process prints goes to
the attempt's log. Exit codes are those of `swiftshell.errors`.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from swiftshell import __version__
from swiftshell.errors import (
    EXIT_FAILURE,
    EXIT_NO_RESOURCES,
    EXIT_STAGE,
    EXIT_TERMINATED,
    EXIT_USAGE,
    Problem,
    SwiftshellError,
    fail,
)
from swiftshell.run import artifact, checkpoints
from swiftshell.run.crash import crash_point
from swiftshell.run.events import EventWriter
from swiftshell.run.files import write_json
from swiftshell.run.paths import StepPaths
from swiftshell.run.request import read_request
from swiftshell.run.verdict import free_bytes
from swiftshell.stages import registry
from swiftshell.stages.base import MODEL_KINDS, InputRef, Outcome, Stage, StepRequest, Stopped

_FULL_BYTES = 1 << 20


class WorkerContext:
    """The engine's view of the shell: files of this attempt, events, and whether to stop."""

    def __init__(self, step: StepPaths, attempt: int) -> None:
        self.out = step.partial(attempt)
        self.checkpoints = step.checkpoints
        self.work = step.root / f"work-{attempt:03d}"
        self.cache = step.cache
        self._events = EventWriter(step.events)
        self._stop = False
        signal.signal(signal.SIGTERM, self._on_stop)
        signal.signal(signal.SIGINT, self._on_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._events.write("attempt", number=attempt)

    def _on_stop(self, _signal: int, _frame: Any) -> None:
        self._stop = True

    def phase(self, name: str) -> None:
        self._events.write("phase", name=name)

    def progress(self, done: float, total: float | None, unit: str) -> None:
        self._events.progress(done, total, unit)

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        self._events.write("metric", name=name, value=value, step=step)

    def checkpoint(self, path: Path, step: int) -> None:
        self._events.write("checkpoint", path=str(path), step=step)

    def note(self, code: str, **values: Any) -> None:
        self._events.write("note", code=code, values=values)

    def warn(self, code: str, **values: Any) -> None:
        self._events.write("warning", code=code, values=values)

    def stop_requested(self) -> bool:
        return self._stop


def main(argv: list[str]) -> int:
    """Run the attempt, leave its outcome as the last word, and return the process's exit code."""
    step, number = StepPaths(Path(argv[0]).absolute()), int(argv[1])
    crash_point("worker.started")
    started = time.monotonic()
    try:
        report = _prepared(step, number)
    except ValueError as error:
        report = _report("failed", EXIT_USAGE, [Problem("run.request_unreadable", {"reason": str(error)},
                                                        file=str(step.request))])
    except OSError as error:
        traceback.print_exc()
        report = _report("failed", EXIT_NO_RESOURCES, [_os_problem(step, error)])
    report["worker_s"] = round(time.monotonic() - started, 3)
    crash_point("worker.recorded")
    try:
        write_json(step.attempt(number).outcome, report)
    except OSError:
        traceback.print_exc()
        return EXIT_NO_RESOURCES
    crash_point("worker.told")
    return int(report["exit_code"])


def _prepared(step: StepPaths, number: int) -> dict[str, Any]:
    """Make the attempt's folders and run the engine in them.

    Raises:
        ValueError: the request cannot be read.
        OSError: a folder cannot be made.
    """
    request_json = read_request(step)
    _prepare_environment(request_json)
    ctx = WorkerContext(step, number)
    shutil.rmtree(ctx.out, ignore_errors=True)
    for folder in (ctx.out, ctx.checkpoints, ctx.work):
        folder.mkdir(parents=True, exist_ok=True)
    report = _attempt(step, number, request_json, ctx)
    shutil.rmtree(ctx.work, ignore_errors=True)
    if not report["outputs"]:  # on a full disk this is also what makes room for the outcome
        shutil.rmtree(ctx.out, ignore_errors=True)
    return report


def _attempt(step: StepPaths, number: int, request_json: dict[str, Any], ctx: WorkerContext) -> dict[str, Any]:
    """Call the engine and turn whatever happens into the attempt's report."""
    stage_name = str(request_json.get("stage", ""))
    try:
        stage = registry.get(stage_name)
        request = build_request(request_json, stage, step)
        _tell_where_from(step, request, ctx)
        crash_point("worker.calls")
        outcome = _engine(stage.engine)(request, ctx)
        crash_point("worker.made")
        outputs = _finish_artifacts(step, stage, request, outcome, ctx)
    except Stopped:
        return _report("cancelled", EXIT_TERMINATED, [Problem("run.stopped", {"step": request_json.get("step")},
                                                              severity="note")])
    except SwiftshellError as error:
        traceback.print_exc()
        return _report("failed", error.exit_code, list(error.problems))
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a library throws must end in a report
        traceback.print_exc()
        return _unforeseen(step, number, request_json, error)
    report = _report("failed" if outcome.gate else "succeeded", EXIT_STAGE if outcome.gate else 0, outcome.gate)
    return {**report, "metrics": outcome.metrics, "summary": outcome.summary, "outputs": outputs}


def _unforeseen(step: StepPaths, number: int, request_json: dict[str, Any], error: BaseException) -> dict[str, Any]:
    """Report a full disk or a defect (with its log)."""
    if _disk_full(step, error):
        return _report("failed", EXIT_NO_RESOURCES, [Problem("run.disk_full", {"path": str(step.root)})])
    problem = Problem("core.defect", {"stage": str(request_json.get("stage", "")), "kind": type(error).__name__,
                                      "message": _short(error), "log": str(step.attempt(number).log),
                                      "run": str(request_json.get("run", ""))})
    return _report("failed", EXIT_FAILURE if isinstance(error, SystemExit) else EXIT_STAGE, [problem])


def _disk_full(step: StepPaths, error: BaseException) -> bool:
    """Tell whether a failure comes from a full disk; torch and safetensors say so in the text only, or not at all."""
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return True
    return isinstance(error, OSError | RuntimeError) and free_bytes(step.root) < _FULL_BYTES


def _os_problem(step: StepPaths, error: OSError) -> Problem:
    if _disk_full(step, error):
        return Problem("run.disk_full", {"path": str(step.root)})
    return Problem("run.folder_unwritable", {"path": str(step.root), "reason": error.strerror or str(error)})


def _tell_where_from(step: StepPaths, request: StepRequest, ctx: WorkerContext) -> None:
    """Say which checkpoint the attempt continues from, and which newer ones it does not trust."""
    if request.resume_from is not None:
        ctx.note("run.resumed_from", checkpoint=request.resume_from.name)
    after = checkpoints.step_of(request.resume_from) if request.resume_from is not None else -1
    for path in checkpoints.listed(step.checkpoints):
        if checkpoints.step_of(path) > after and (reasons := checkpoints.wrong(path)):
            ctx.warn("run.checkpoint_passed_over", checkpoint=path.name, reason="; ".join(reasons[:3]))


def _report(result: str, exit_code: int, problems: list[Problem]) -> dict[str, Any]:
    return {"v": 1, "result": result, "exit_code": exit_code, "problems": [p.as_json() for p in problems],
            "metrics": {}, "summary": {}, "outputs": {}}


def _short(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "..."


def _engine(name: str) -> Callable[[StepRequest, Any], Outcome]:
    module, function = name.split(":")
    found: Callable[[StepRequest, Any], Outcome] = getattr(import_module(module), function)
    return found


def build_request(data: dict[str, Any], stage: Stage, step: StepPaths) -> StepRequest:
    """Turn `request.json` into what the engine gets: typed parameters, inputs with their artifacts read.

    Raises:
        SwiftshellError: an input is missing or damaged, or the parameters are not the stage's (another version's).
    """
    try:
        params = stage.params.model_validate(data.get("params", {}))
    except ValidationError as error:
        raise fail("run.params_invalid", file=str(step.request), step=step.id, reason=_short(error)) from error
    inputs: dict[str, Any] = {}
    for slot, value in data.get("inputs", {}).items():
        refs = tuple(_input(slot, v) for v in (value if isinstance(value, list) else [value]))
        inputs[slot] = refs if isinstance(value, list) else refs[0]
    resume = checkpoints.newest_valid(step.checkpoints) if data.get("resume", True) else None
    return StepRequest(run=data["run"], step=data["step"], stage=data["stage"],
                       params=params, inputs=inputs,
                       seed=int(data.get("seed", 0)), resume_from=resume, lineage=data.get("lineage", ""),
                       fingerprint=data.get("fingerprint", ""))


def _input(slot: str, data: dict[str, Any]) -> InputRef:
    """Read one input; a model folder without a record is external and gets a record of its own."""
    path = Path(data["path"]) if data.get("path") else Path()
    record = None
    if data["kind"] in MODEL_KINDS and data.get("path"):
        record = _model_record(slot, path, data)
    elif data.get("path") and (path / artifact.NAME).is_file():
        record = artifact.read(path)
    return InputRef(slot=slot, path=path, kind=record["kind"] if record else data["kind"], artifact=record,
                    options=data.get("options", {}), name=data.get("name", path.name))


def _model_record(slot: str, path: Path, data: dict[str, Any]) -> dict[str, Any]:
    wrong = artifact.damaged(path) if (path / artifact.NAME).is_file() else []
    if not path.is_dir() or wrong:
        raise SwiftshellError(Problem("run.input_damaged", {"slot": slot, "files": ", ".join(wrong) or str(path)},
                                      file=str(path)))
    record = artifact.read(path)
    if record is None:
        kind = "adapter" if (path / "adapter_config.json").is_file() else "model"
        record = {"kind": kind, "id": str(path), "name": path.name, "path": str(path),
                  "stack": [{"kind": kind, "path": str(path), "id": str(path), "name": path.name}]}
    if not record.get("stack"):
        record["stack"] = [{"kind": record["kind"], "path": str(path), "id": record.get("id"),
                            "name": data.get("name")}]
    return record


def _finish_artifacts(step: StepPaths, stage: Stage, request: StepRequest, outcome: Outcome,
                      ctx: WorkerContext) -> dict[str, str]:
    """Write ARTIFACT.json for every output slot, last in its folder, and return slot -> path inside the step."""
    ctx.phase("recording")
    outputs = {}
    made_by = {"swiftshell": __version__, **_versions(stage.distributions)}
    for slot, facts in outcome.artifacts.items():
        folder, final = ctx.out / slot, step.out / slot
        files = artifact.inventory(folder)
        if not files:
            raise RuntimeError(f"the engine {stage.engine} names the output {slot!r} and left no file in {folder}")
        for path in folder.rglob("*"):  # shared disks: never leave an output only its owner can read
            if not path.is_symlink() and (path.is_dir() or path.stat().st_nlink == 1):  # a link is not ours
                os.chmod(path, 0o750 if path.is_dir() else 0o640)
        data = {
            "id": f"{request.run}/{request.step}/{slot}", "name": f"{request.step}.{slot}", "stage": request.stage,
            "run": request.run, "step": request.step, "lineage": request.lineage, "fingerprint": request.fingerprint,
            "created": datetime.now(UTC).isoformat(timespec="seconds"), "parents": _parents(request),
            "size_bytes": sum(f["size"] for f in files.values()), "files": files, "made_by": made_by,
            "good": not outcome.gate, **facts,
        }
        if data.get("kind") in MODEL_KINDS:
            data["stack"] = [{**e, "path": str(final)} if e.get("path") in (None, ".") else e
                             for e in data.get("stack") or [{"kind": data["kind"], "path": "."}]]
            data["stack"][-1] = {"id": data["id"], "name": data["name"], **data["stack"][-1]}
        artifact.write(folder, data, final)
        outputs[slot] = f"out/{slot}"
    return outputs


def _parents(request: StepRequest) -> list[dict[str, Any]]:
    found = []
    for slot in request.inputs:
        for ref in request.many(slot):
            record = ref.artifact or {}
            found.append({"slot": slot, "id": record.get("id", ref.name or str(ref.path)), "path": str(ref.path)})
    return found


def _versions(distributions: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _prepare_environment(request_json: dict[str, Any]) -> None:
    """Set what engines must find: nothing phones home, and only a step that downloads may reach a hub."""
    os.umask(0o027)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    if not request_json.get("network", False):
        os.environ["HF_HUB_OFFLINE"] = "1"
        os.environ["HF_DATASETS_OFFLINE"] = "1"


def leave(code: int) -> NoReturn:
    """End the process without unwinding its libraries.

    The last word is written. What torch, CUDA or vLLM do while the interpreter shuts down can only crash or hang, and
    either would be taken for the step's own end.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            continue
    os._exit(code)


if __name__ == "__main__":
    leave(main(sys.argv[1:]))
