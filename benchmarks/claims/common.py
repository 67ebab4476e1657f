"""What all claims share: run steps through the product's worker, judge models on held-out rows, write the result."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from benchmarks.claims import starter_rows, stats
from swiftshell import worker
from swiftshell.run.files import read_json, write_json
from swiftshell.run.paths import StepPaths
from swiftshell.starter import DATA_DIR, MODEL_DIR, SETTINGS_FILE
from swiftshell.starter.rows import sft_rows

RESULTS = Path(__file__).parent / "results"
SEEDS = (42, 43, 44)
_DISTRIBUTIONS = ("torch", "transformers", "trl", "peft", "bitsandbytes")

Row = dict[str, Any]
Scores = dict[str, float]


@dataclass(frozen=True)
class Made:
    """A finished step.

    Attributes:
        report: the worker's outcome.json.
        root: the step's folder.
        peak_mib: highest resident memory of the worker's own process; None when it shared this one.
    """

    root: Path
    report: Mapping[str, Any]
    wall_s: float
    peak_mib: float | None = None

    @property
    def ok(self) -> bool:
        return bool(self.report["result"] == "succeeded")

    @property
    def codes(self) -> list[str]:
        return [p["code"] for p in self.report.get("problems", [])]

    @property
    def summary(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.report.get("summary", {})
        return found

    def needed(self) -> Made:
        """Return itself.

        Raises:
            StepFailed: the step did not succeed.
        """
        if not self.ok:
            problems = json.dumps(self.report.get("problems"), ensure_ascii=False)
            raise StepFailed(f"{self.root}: {problems[:2000]}")
        return self

    def out(self, slot: str) -> Path:
        return self.root / "out" / slot

    def series(self, name: str) -> list[float]:
        """Return a metric's values in the order they were logged."""
        lines = (self.root / "events.jsonl").read_text(encoding="utf-8").splitlines()
        events = [json.loads(line) for line in lines if line.startswith("{")]
        return [float(e["value"]) for e in events if e["kind"] == "metric" and e["name"] == name]


@dataclass(frozen=True)
class Sum:
    """A labelled answer's summed log-probability (nats) and its length in tokens."""

    good: bool
    total: float
    tokens: int


class StepFailed(RuntimeError):
    """A step that a claim needs did not succeed."""


@dataclass
class Lab:
    """A workspace in which a claim's steps run; steps asked for again with the same inputs are not run again.

    Attributes:
        quick: tiny settings for a smoke test; such results say nothing and are marked.
    """

    root: Path
    quick: bool = False
    times_s: dict[str, float] = field(default_factory=dict)

    def data(self, name: str, rows: Sequence[Row]) -> Path:
        """Write rows once, under the digest of their content."""
        text = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows)
        path = self.root / "data" / f"{name}-{_digest(text)}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def step(
        self,
        stage: str,
        params: Mapping[str, Any],
        inputs: Mapping[str, Any],
        *,
        seed: int,
        apart: bool = False,
        variant: str = "",
    ) -> Made:
        """Run a step as the runner would, or return it if it is there; whatever its result.

        Args:
            apart: in a process of its own, so that its peak memory can be told.
            variant: what the caller changed about the engine, so that such a step is not taken for another.
        """
        wanted = {
            "stage": stage,
            "params": dict(params),
            "inputs": dict(inputs),
            "seed": seed,
            "apart": apart,
        }
        wanted |= {"variant": variant} if variant else {}
        step_id = f"{stage}-{_digest(json.dumps(wanted, sort_keys=True, default=str))}"
        step = StepPaths(self.root / "runs" / "claims" / "steps" / f"01-{step_id}")
        done = read_json(step.attempt(1).outcome)
        if done is None or any(p["code"] == "core.defect" for p in done.get("problems", [])):
            shutil.rmtree(step.root, ignore_errors=True)
            done = self._run(
                step, {"v": 1, "run": "claims", "step": step_id, "resume": False, "network": False, **wanted}
            )
        self.times_s[step_id] = float(done["wall_s"])
        return Made(step.root, done, float(done["wall_s"]), done.get("peak_mib"))

    def _run(self, step: StepPaths, request: dict[str, Any]) -> dict[str, Any]:
        step.attempt(1).root.mkdir(parents=True, exist_ok=True)
        request = json.loads(json.dumps(request, default=str))
        write_json(step.request, request)
        started, peak = time.monotonic(), None
        if request["apart"]:
            peak = _in_own_process(step)
        else:
            with (
                step.attempt(1).log.open("w", encoding="utf-8") as log,
                redirect_stdout(log),
                redirect_stderr(log),
            ):
                worker.main([str(step.root), "1"])
        report = read_json(step.attempt(1).outcome)
        if not isinstance(report, dict):
            raise StepFailed(f"{step.root}: the worker left no outcome")
        if step.partial(1).is_dir():
            step.partial(1).rename(step.out)
        report |= {"wall_s": round(time.monotonic() - started, 2), "peak_mib": peak}
        write_json(step.attempt(1).outcome, report)
        _tell(f"{step.id}: {report['result']} in {report['wall_s']:.0f} s")
        return report

    def need(self, stage: str, params: Mapping[str, Any], inputs: Mapping[str, Any], **how: Any) -> Made:
        """Run a step that has to succeed.

        Raises:
            StepFailed: it did not.
        """
        return self.step(stage, params, inputs, **how).needed()

    def sft(self, seed: int, **params: Any) -> Made:
        """Return the SFT adapter of a seed, on demonstrations drawn with that seed; `params` over the starter's."""
        data = self.data("sft", sft_rows(seed)[: 96 if self.quick else None])
        inputs = {"policy": model(MODEL_DIR), "train_data": dataset(data)}
        return self.need("sft", {**_settings("sft", self.quick), **params}, inputs, seed=seed)

    def kto(self, seed: int, rows: Sequence[Row], sft: Made | None = None, **params: Any) -> Made:
        """Train KTO from the seed's SFT adapter with the starter's settings and `params` over them.

        What the guard gave up on counts as made: the step failed, but its best weights are kept, and they are what a
        person gets.

        Raises:
            StepFailed: there is no adapter.
        """
        start = sft or self.sft(seed)
        inputs = {
            "policy": model(start.out("adapter")),
            "reference": model(start.out("adapter")),
            "train_data": dataset(self.data("kto", rows)),
        }
        made = self.step("kto", {**kto_settings(self.quick), **params}, inputs, seed=seed)
        return made if made.out("adapter").is_dir() else made.needed()

    def judge(self, models: Mapping[str, Path], seed: int, **params: Any) -> dict[str, Scores]:
        """Return each model's scores on held-out rows.

        `desirable_share`: greedy answers to the starter's held-out prompts that meet every rule of their row.
        `reward_auc`: ROC area of the implicit reward (log p minus the recorded reference's) over held-out answers with
        their true labels; `preference_auc`: the same of the mean log p per token. A reference has no reward of its own.
        """
        prompts, limit = DATA_DIR / "heldout.jsonl", 8 if self.quick else 0
        answers = self._scores(models, prompts, ["desirable_share"], seed, limit=limit, **params)
        ranks = self.ranks(models, self.labelled(), seed, **params)
        return {name: {**answers[name], **ranks[name]} for name in models}

    def labelled(self) -> Path:
        """Return the file of held-out answers with their true labels."""
        return self.data("held-out", starter_rows.labelled_held_out(32 if self.quick else 400))

    def ranks(self, models: Mapping[str, Path], data: Path, seed: int, **params: Any) -> dict[str, Scores]:
        """Return how well each model ranks the labelled answers of a file."""
        return self._scores(models, data, ["preference_auc"], seed, **params)

    def sums(self, models: Mapping[str, Path], data: Path, seed: int) -> dict[str, list[Sum]]:
        """Return, for each model of a step that `ranks` made, the log-probability of every labelled answer."""
        logs = self._evaluate(models, data, ["preference_auc"], seed).root / "checkpoints"
        return {name: _sums(next(logs.glob(f"{i:02d}-*.jsonl"))) for i, name in enumerate(models, 1)}

    def _evaluate(
        self, models: Mapping[str, Path], data: Path, metrics: list[str], seed: int, **params: Any
    ) -> Made:
        params = {"metrics": metrics, "max_new_tokens": 48, "batch_size": 100, **params}
        refs = [model(path, name) for name, path in models.items()]
        return self.need("evaluate", params, {"models": refs, "eval_data": dataset(data)}, seed=seed)

    def _scores(
        self, models: Mapping[str, Path], data: Path, metrics: list[str], seed: int, **params: Any
    ) -> dict[str, Scores]:
        made = self._evaluate(models, data, metrics, seed, **params)
        found = {
            m["name"]: {k: v[0] for k, v in m["metrics"].items() if v[0] is not None}
            for m in made.summary["models"]
        }
        return {name: found[name] for name in models}


def _sums(log: Path) -> list[Sum]:
    """Read what an evaluation wrote of each labelled answer, in the order of the rows."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    scores = {r["row"]: r["scores"] for r in rows if "scores" in r}
    return [
        Sum(name.startswith("good"), total, int(tokens))
        for row in sorted(scores)
        for name, (total, tokens) in sorted(scores[row].items())
        if name.startswith(("good", "bad"))
    ]


def _in_own_process(step: StepPaths) -> float:
    """Run the worker as the runner does; return its peak resident memory in MiB."""
    with step.attempt(1).log.open("wb") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "swiftshell.worker", str(step.root), "1"], stdout=log, stderr=log
        )
        _, _, usage = os.wait4(child.pid, 0)
    return usage.ru_maxrss / 1024


def model(path: Path, name: str = "") -> dict[str, Any]:
    """Return a model folder as a request names it."""
    kind = "adapter" if (path / "adapter_config.json").is_file() else "model"
    return {"kind": kind, "path": str(path), "name": name or path.name, "options": {}}


def dataset(path: Path, **options: Any) -> dict[str, Any]:
    return {"kind": "dataset", "path": str(path), "name": path.name, "options": options}


def _settings(stage: str, quick: bool) -> dict[str, Any]:
    settings: dict[str, Any] = read_json(SETTINGS_FILE) or {}
    found = settings[stage]
    return {
        **found,
        "save_steps": 100000,
        **({"num_train_epochs": 1, "max_steps": 3, "warmup_steps": 0} if quick else {}),
    }


def kto_settings(quick: bool) -> dict[str, Any]:
    """Return the starter's settings for KTO; checkpoints are of no use here."""
    return _settings("kto", quick)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _tell(text: str) -> None:
    print(f"[{datetime.now(UTC):%H:%M:%S}] {text}", file=sys.stderr, flush=True)


Measure = Callable[[Lab, int], dict[str, Scores]]


@dataclass(frozen=True)
class Claim:
    """An experiment.

    Attributes:
        measure: one seed's arms and their scores.
        comparisons: (later arm, earlier arm, metric), paired by seed.
        verdict: looks at the result and returns the code of the sentence that says what came out.
        settings: facts of the experiment that belong beside the table.
    """

    name: str
    measure: Measure
    comparisons: tuple[tuple[str, str, str], ...]
    verdict: Callable[[dict[str, Any]], str]
    settings: Mapping[str, Any] = field(default_factory=dict)


def main(claim: Claim, argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run a claim over its seeds, write its JSON file and print the table."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.claims.{claim.name}")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of the seeds 42, 43, 44")
    parser.add_argument("--quick", action="store_true", help="a smoke test: the numbers mean nothing")
    parser.add_argument("--work", type=Path, help="folder for models and runs; kept, and used again")
    parser.add_argument(
        "--out", type=Path, help="result file (default: results/NAME.json; with --quick in the work folder)"
    )
    args = parser.parse_args(argv)
    work = (args.work or Path(tempfile.mkdtemp(prefix=f"swiftshell-{claim.name}-"))).absolute()
    lab, started = Lab(work, args.quick), time.monotonic()
    seeds: dict[int, dict[str, Scores]] = {}
    for seed in SEEDS[: args.seeds]:
        _tell(f"{claim.name}: seed {seed} in {work}")
        seeds[seed] = claim.measure(lab, seed)
    result = _result(claim, seeds, args, time.monotonic() - started, lab)
    default = work / f"{claim.name}.json" if args.quick else RESULTS / f"{claim.name}.json"
    write_json(args.out or default, result)
    print(as_text(result))
    print(f"\n{args.out or default}")
    return result


def _result(claim: Claim, seeds: stats.Seeds, args: Any, wall_s: float, lab: Lab) -> dict[str, Any]:
    result: dict[str, Any] = {
        "v": 1,
        "claim": claim.name,
        "command": f"python -m benchmarks.claims.{claim.name}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seeds": list(seeds),
        "quick": args.quick,
        "wall_s": round(wall_s),
        "steps_s": round(sum(lab.times_s.values())),
        "versions": {"python": platform.python_version(), **{n: metadata.version(n) for n in _DISTRIBUTIONS}},
        "machine": f"{_processor()}, {os.environ['OMP_NUM_THREADS']} thread",
        "settings": dict(claim.settings),
        "arms": _rounded(stats.table(seeds)),
        "differences": _rounded(
            [stats.difference(seeds, *c) for c in claim.comparisons if _measured(seeds, *c)]
        ),
    }
    return {**result, "verdict": claim.verdict(result)}


def _measured(seeds: stats.Seeds, later: str, earlier: str, metric: str) -> bool:
    """Tell whether both arms were run (a smoke test leaves arms out)."""
    return all(metric in found.get(arm, {}) for found in seeds.values() for arm in (later, earlier))


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return [_rounded(v) for v in value] if isinstance(value, list) else value


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def own_peak_mib() -> float:
    """Return this process's peak resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def as_text(result: Mapping[str, Any]) -> str:
    """Return the result as a plain table for the terminal."""
    lines = [f"{result['claim']}: {result['verdict']} ({len(result['seeds'])} seeds, {result['wall_s']} s)"]
    for arm, metrics in result["arms"].items():
        cells = "  ".join(f"{name} {_cell(v)}" for name, v in metrics.items())
        lines.append(f"  {arm:<32} {cells}")
    lines += [f"  {d['later']} - {d['earlier']}, {d['metric']}: {_cell(d)}" for d in result["differences"]]
    return "\n".join(lines)


def _cell(v: Mapping[str, Any]) -> str:
    return f"{v['mean']:.3f}" + ("" if v["low"] is None else f" [{v['low']:.3f}, {v['high']:.3f}]")


def above_zero(result: Mapping[str, Any], later: str, earlier: str, metric: str) -> bool:
    """Tell whether a difference's whole interval lies above 0; with one seed, whether it is positive."""
    d = find(result, later, earlier, metric)
    return bool((d["mean"] if d["low"] is None else d["low"]) > 0)


def find(result: Mapping[str, Any], later: str, earlier: str, metric: str) -> dict[str, Any]:
    """Return a recorded difference."""
    wanted = {"later": later, "earlier": earlier, "metric": metric}
    found: dict[str, Any] = next(d for d in result["differences"] if {k: d[k] for k in wanted} == wanted)
    return found
