"""What the guard costs: KTO on the starter with and without it, in one process, turn about; medians and their ratio.

    python benchmarks/guard_cost.py                    # the starter, 60 optimizer steps, 5 rounds
    python benchmarks/guard_cost.py --rounds 2 --steps 20

Measured is the time from the beginning of the first optimizer step to the end of the last, the guard's snapshots (written
and synced) included; start-up, the reference's log-probabilities and saving are the same on both sides and are left out.
Processor time is shown beside wall time: on a busy machine it is the steadier of the two. The starter is the worst case: a
step takes a tenth of a second, so what the guard does between two steps weighs most. Limits are set wide here, so that
both sides take the same steps; that they do is checked.

The last line is the surest: the time spent inside the guard's own calls, as a share of the training it watched. It does not
depend on two trainings having had an equally busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from swiftshell.engines import trl_kto
from swiftshell.engines.guard_watch import GuardCallback
from swiftshell.stages import registry
from swiftshell.stages.base import InputRef, StepRequest
from swiftshell.starter import DATA_DIR, MODEL_DIR, SETTINGS_FILE

WIDE = {"min_chosen_logratio": -1000.0, "max_kl": 1000.0}


@dataclass
class Clock:
    """An engine's view of the shell that only takes the time of the training."""

    root: Path
    losses: list[float] = field(default_factory=list)
    begun: tuple[float, float] | None = None  # wall, processor
    over: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.out, self.checkpoints, self.work = (self.root / n for n in ("out", "checkpoints", "work"))
        self.cache = self.root.parent / "cache"
        for folder in (self.out, self.checkpoints, self.work):
            folder.mkdir(parents=True)

    def progress(self, done: float, total: float | None, unit: str) -> None:
        if unit == "steps":
            now = time.perf_counter(), time.process_time()
            self.begun, self.over = self.begun or now, now

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        if name == "loss":
            self.losses.append(value)

    def phase(self, name: str) -> None: ...
    def checkpoint(self, path: Path, step: int) -> None: ...
    def note(self, code: str, **values: Any) -> None: ...
    def warn(self, code: str, **values: Any) -> None: ...

    def stop_requested(self) -> bool:
        return False

    @property
    def seconds(self) -> tuple[float, float]:
        """Return wall and processor seconds of all optimizer steps but what follows the last."""
        if self.begun is None or self.over is None:
            raise RuntimeError("the training took no step")
        return self.over[0] - self.begun[0], self.over[1] - self.begun[1]


class Inside:
    """The time spent in the guard's own calls, wall and processor seconds."""

    def __init__(self) -> None:
        self.seconds = [0.0, 0.0]

    def listen(self) -> None:
        """Take the time of every call that the trainer makes to the guard while it trains."""
        for name in ("on_step_end", "on_log"):
            setattr(GuardCallback, name, self._timed(getattr(GuardCallback, name)))

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter(), time.process_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[0] += time.perf_counter() - begun[0]
                self.seconds[1] += time.process_time() - begun[1]

        return timed


def request(steps: int, *, guarded: bool) -> StepRequest:
    """Return KTO on the starter; the only difference is the guard."""
    settings = json.loads(SETTINGS_FILE.read_text(encoding="utf-8"))["kto"]
    guard = {"enabled": guarded, **WIDE}
    params = {**settings, "max_steps": steps, "save_steps": 100000, "guard": guard}
    record = {"kind": "model", "path": str(MODEL_DIR), "stack": [{"kind": "model", "path": str(MODEL_DIR)}]}
    inputs = {
        slot: InputRef(slot, MODEL_DIR, "model", record, {}, "starter") for slot in ("policy", "reference")
    }
    inputs["train_data"] = InputRef("train_data", DATA_DIR / "kto.jsonl", "dataset", None, {}, "thumbs")
    typed = registry.get("kto").params.model_validate(params)
    return StepRequest("cost", "kto", "kto", typed, inputs, 42, None, "starter", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="optimizer steps of each training")
    parser.add_argument("--rounds", type=int, default=5, help="trainings with and without the guard")
    parser.add_argument("--out", type=Path, help="write the numbers to this JSON file too")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="swiftshell-guard-cost-"))
    taken: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    shares: list[list[float]] = []
    losses: dict[bool, list[float]] = {}
    inside = Inside()
    inside.listen()
    try:
        for number in range(-1, args.rounds):  # the first round warms caches up and does not count
            for guarded in (number % 2 == 0, number % 2 != 0):
                clock = Clock(folder / f"{number + 1}-{guarded}")
                inside.seconds = [0.0, 0.0]
                trl_kto.run(request(args.steps, guarded=guarded), clock)
                losses[guarded] = clock.losses
                if number >= 0:
                    taken[guarded].append(clock.seconds)
                if number >= 0 and guarded:
                    shares.append([i / whole for i, whole in zip(inside.seconds, clock.seconds, strict=True)])
        if losses[True] != losses[False]:
            raise SystemExit("the two sides did not take the same steps: this measures nothing")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result: dict[str, Any] = {"steps": args.steps, "rounds": args.rounds}
    for i, name in enumerate(("wall_s", "processor_s")):
        off, on = ([s[i] for s in taken[g]] for g in (False, True))
        ratios = [b / a for a, b in zip(off, on, strict=True)]
        result[name] = {
            "off": statistics.median(off),
            "on": statistics.median(on),
            "ratio": statistics.median(ratios),
        }
        print(
            f"{name:12} off {result[name]['off']:.3f}  on {result[name]['on']:.3f}  "
            f"ratio {result[name]['ratio']:.4f} (rounds {min(ratios):.4f} to {max(ratios):.4f})"
        )
    wall, processor = (statistics.median(s[i] for s in shares) for i in (0, 1))
    result["inside_share"] = {"wall": wall, "processor": processor}
    print(f"inside       {100 * wall:.2f} % of the wall time, {100 * processor:.2f} % of the processor time")
    if args.out:
        args.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
