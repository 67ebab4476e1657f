"""Name every path of a run directory in one place.

```
runs/2026-11-23-kto-k3f9/
├── recipe.yaml  plan.json      as written; as resolved — never edited
├── state.json                  what the runner says; replaced atomically
├── run.lock                    flock held by the runner for as long as it lives: the liveness oracle
├── runner.json  runner.log     the runner's own identity and its log
├── requests/stop.json          what fronts ask of the runner
└── steps/02-kto/
    ├── request.json            what the worker is given
    ├── events.jsonl            progress, metric, checkpoint, note, warning: one object a line
    ├── attempts/001/{intent,child,exit,outcome}.json  log.txt
    ├── checkpoints/
    ├── out.partial-001/ → out/ an attempt's output, renamed when it is whole
    └── result.json             written last: it exists if and only if the step is over
```
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StepPaths:
    """The files of one step."""

    root: Path

    @property
    def id(self) -> str:
        """Return the step's id (folder `02-kto` → `kto`)."""
        return self.root.name.split("-", 1)[1]

    @property
    def request(self) -> Path:
        return self.root / "request.json"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def out(self) -> Path:
        return self.root / "out"

    @property
    def result(self) -> Path:
        return self.root / "result.json"

    @property
    def cache(self) -> Path:
        """Return the workspace's cache: WORKSPACE/runs/RUN/steps/NN-id is this step.

        A step that lies anywhere else keeps a cache of its own: a folder is never made a workspace by the way.
        """
        runs = self.root.parents[2]
        own = runs.parent / ".swiftshell"
        inside = runs.name == "runs" and (own / "workspace.json").is_file()
        return own / "cache" if inside else self.root / "cache"

    def partial(self, attempt: int) -> Path:
        return self.root / f"out.partial-{attempt:03d}"

    def attempt(self, number: int) -> AttemptPaths:
        return AttemptPaths(self.root / "attempts" / f"{number:03d}", number)

    def attempts(self) -> list[AttemptPaths]:
        """Return the attempts made so far, oldest first."""
        folder = self.root / "attempts"
        found = sorted(p for p in folder.iterdir() if p.name.isdigit()) if folder.is_dir() else []
        return [AttemptPaths(p, int(p.name)) for p in found]


@dataclass(frozen=True)
class AttemptPaths:
    """The records of one attempt at a step."""

    root: Path
    number: int

    @property
    def intent(self) -> Path:
        return self.root / "intent.json"

    @property
    def child(self) -> Path:
        return self.root / "child.json"

    @property
    def outcome(self) -> Path:
        """Return the worker's last word: written atomically when its output is whole, or when it knows why not."""
        return self.root / "outcome.json"

    @property
    def exit(self) -> Path:
        return self.root / "exit.json"

    @property
    def result(self) -> Path:
        """Return the result of an attempt that the step went on from (resumed, or lost): it is closed."""
        return self.root / "result.json"

    @property
    def log(self) -> Path:
        return self.root / "log.txt"


@dataclass(frozen=True)
class RunPaths:
    """The files of one run."""

    root: Path

    @property
    def id(self) -> str:
        return self.root.name

    @property
    def recipe(self) -> Path:
        return self.root / "recipe.yaml"

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def state(self) -> Path:
        return self.root / "state.json"

    @property
    def lock(self) -> Path:
        return self.root / "run.lock"

    @property
    def runner(self) -> Path:
        return self.root / "runner.json"

    @property
    def runner_log(self) -> Path:
        return self.root / "runner.log"

    @property
    def stop_request(self) -> Path:
        return self.root / "requests" / "stop.json"

    def step_root(self, number: int, step_id: str) -> Path:
        return self.root / "steps" / f"{number:02d}-{step_id}"

    def steps(self) -> list[StepPaths]:
        """Return the steps in order."""
        folder = self.root / "steps"
        found = sorted(p for p in folder.iterdir() if _is_step(p)) if folder.is_dir() else []
        return [StepPaths(p) for p in found]


def _is_step(path: Path) -> bool:
    """Tell a step's folder (`02-kto`) from whatever else someone put there."""
    number, dash, step_id = path.name.partition("-")
    return bool(number.isdigit() and dash and step_id and path.is_dir())
