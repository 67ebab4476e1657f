"""What models say of labelled answers: the SFT model as it is, and policies that KTO trained on the other answers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from swiftshell.engines import assemble, generate, trl_kto
from swiftshell.engines.rowlog import RowLog
from swiftshell.run.files import write_json
from swiftshell.stages.base import Context, InputRef, StepRequest, Stopped
from swiftshell.stages.kto import KtoParams

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
Array = Any


def per_token(model: Any, pairs: Pairs, ctx: Context) -> Array:
    """Return each answer's mean log-probability per token (nats), (rows,)."""
    found = np.zeros(len(pairs))
    done = 0
    for batch in generate.score_batches(model, pairs):
        for i, value in zip(batch, generate.score_batch(model, [pairs[i] for i in batch]), strict=True):
            found[i] = value / max(1, len(pairs[i][1]))
        done += len(batch)
        ctx.progress(done, len(pairs), "rows")
        if ctx.stop_requested():
            raise Stopped
    return found


@torch.inference_mode()
def hidden_means(model: Any, pairs: Pairs, ctx: Context) -> Array:
    """Return what the model holds of each answer: the mean over its tokens in a middle and the last layer, (rows, 2 d)."""
    found: list[Any] = [None] * len(pairs)
    done = 0
    for batch in generate.score_batches(model, pairs):
        rows = [[*pairs[i][0], *pairs[i][1]] for i in batch]
        width = max(map(len, rows))
        where = model.get_input_embeddings().weight.device
        ids = torch.tensor([[0] * (width - len(r)) + r for r in rows], device=where)
        mask = torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows], device=where)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        layers = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            use_cache=False,
            output_hidden_states=True,
        ).hidden_states
        chosen = torch.cat([layers[len(layers) // 2], layers[-1]], dim=-1).float()  # (batch, seq, 2 d)
        for n, i in enumerate(batch):
            found[i] = chosen[n, width - len(pairs[i][1]) :].mean(0).cpu().numpy()
        done += len(batch)
        ctx.progress(done, len(pairs), "rows")
        if ctx.stop_requested():
            raise Stopped
    return np.stack(found)


class Policies:
    """Train KTO on some of the rows and ask the policy about others; finished folds survive a kill."""

    def __init__(
        self,
        request: StepRequest,
        ctx: Context,
        rows: Sequence[dict[str, Any]],
        pairs: Pairs,
        before: Array,
        key: str,
    ) -> None:
        self._request, self._ctx = request, ctx
        self._rows, self._pairs, self._before = rows, pairs, before
        ctx.checkpoints.mkdir(parents=True, exist_ok=True)
        self._log = RowLog(ctx.checkpoints / "policies.jsonl", key)

    def rewards(self, name: str, trained_on: Array, asked: Array) -> Array:
        """Return the implicit rewards per token (log policy - log SFT model) of the rows `asked`; both are row indices."""
        known = next((r for r in self._log.rows if r["name"] == name), None)
        if known is None:
            found = self._trained(name, trained_on, asked)
            known = {"name": name, "rewards": [float(v) for v in found]}
            self._log.append([known])
        return np.array(known["rewards"])

    def _trained(self, name: str, trained_on: Array, asked: Array) -> Array:
        work = self._ctx.work / name
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        data = work / "rows.jsonl"
        lines = [json.dumps(self._rows[i], ensure_ascii=False, default=str) + "\n" for i in trained_on]
        data.write_text("".join(lines), encoding="utf-8")
        own = _Quiet(self._ctx, work)
        outcome = trl_kto.run(self._kto(name, data), own)
        (slot, facts), *_ = outcome.artifacts.items()
        folder = own.out / slot
        stack = [
            {**e, "path": str(folder)} if e.get("path") in (None, ".") else dict(e) for e in facts["stack"]
        ]
        model, _ = assemble.assemble({**facts, "stack": stack}, folder)
        found = per_token(model, [self._pairs[i] for i in asked], own) - self._before[asked]
        assemble.forget(model)
        shutil.rmtree(work, ignore_errors=True)
        return found

    def _kto(self, name: str, data: Path) -> StepRequest:
        params = self._request.params
        names = KtoParams.model_fields
        kto = KtoParams.model_validate(
            {n: v for n, v in params.model_dump().items() if n in names and n != "save_steps"}
        )
        policy = self._request.input("policy")
        rows = InputRef("train_data", data, "dataset", name=f"{name}.jsonl")
        inputs = {"policy": policy, "reference": replace(policy, slot="reference"), "train_data": rows}
        return replace(self._request, stage="kto", params=kto, inputs=inputs, resume_from=None)


class _Quiet:
    """A context for work inside a step: its own folders, no phases, metrics or notes of its own."""

    def __init__(self, ctx: Context, work: Path) -> None:
        self._ctx = ctx
        self.out, self.checkpoints, self.work, self.cache = (
            work / "out",
            work / "checkpoints",
            work / "work",
            ctx.cache,
        )

    def phase(self, name: str) -> None:
        """Say nothing: the audit has phases of its own."""

    def progress(self, done: float, total: float | None, unit: str) -> None:
        self._ctx.progress(done, total, unit)

    def metric(self, name: str, value: float, step: int | None = None) -> None:
        """Keep a probe's training numbers out of the audit's."""

    def checkpoint(self, path: Path, step: int) -> None:
        """Keep quiet: a fold is either done or done again."""

    def note(self, code: str, **values: Any) -> None:
        """Keep quiet: what a probe's training says is not about the audit."""

    def warn(self, code: str, **values: Any) -> None:
        """Keep quiet, as `note`."""

    def stop_requested(self) -> bool:
        return self._ctx.stop_requested()


def write_report(folder: Path, found: dict[str, Any]) -> None:
    """Write the report as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "audit.json", found)
