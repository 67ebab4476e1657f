"""The reference is asked once: same losses, fewer forwards, remembered between runs, and never trusted blindly."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from swiftshell.engines import loading, probe, reference_cache, reference_identity, reference_store
from swiftshell.engines.loading import Precision
from swiftshell.engines.reference_store import Store
from swiftshell.stages.base import Stopped
from tests.engines.conftest import FAST, FakeContext, Ran, Runner, data_ref, make_runner, model_ref

pytestmark = pytest.mark.engine

CPU = Precision("cpu", "float32", None)
ALL = {**FAST, "max_steps": 8}  # 32 rows in batches of 4: every row once


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the forwards of the tiny model's backbone: the rows of each."""
    from transformers import LlamaModel

    rows: list[int] = []
    original = LlamaModel.forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        rows.append(len(kwargs["input_ids"]))
        return original(self, *args, **kwargs)

    monkeypatch.setattr(LlamaModel, "forward", counted)
    return rows


def _kto(run: Runner, sft: Ran, colours: dict[str, Path], name: str, **params: Any) -> Ran:
    inputs = {
        "policy": sft.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "train_data": data_ref(colours["kto"]),
    }
    return run("kto", {**ALL, "guard": {"enabled": False}, **params}, inputs, name=name)


def _dpo(run: Runner, sft: Ran, colours: dict[str, Path], name: str, **params: Any) -> Ran:
    inputs = {
        "policy": sft.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "train_data": data_ref(colours["dpo"]),
    }
    return run("dpo", {**ALL, **params}, inputs, name=name)


@pytest.mark.parametrize("stage", [_kto, _dpo])
def test_a_second_run_asks_nothing_and_learns_the_same(
    stage: Any, run_step: Runner, sft: Ran, colours: dict[str, Path]
) -> None:
    plain = stage(run_step, sft, colours, "plain", precompute_ref_log_probs=False)
    cold = stage(run_step, sft, colours, "cold")
    warm = stage(run_step, sft, colours, "warm")
    assert plain.outcome.summary["reference_precomputed"] is False
    told = [r.outcome.summary for r in (cold, warm)]
    assert [t["reference_precomputed"] for t in told] == [True, True]
    assert told[0]["reference_computed"] == told[0]["reference_sequences"] > 8
    assert told[1]["reference_computed"] == 0
    assert "reference" in cold.ctx.phases
    losses = [r.ctx.series("loss") for r in (plain, cold, warm)]
    assert len(losses[0]) == 8
    assert losses[1] == losses[2], "a remembered number is the number"
    assert losses[0] == pytest.approx(losses[1], abs=2e-5)
    assert losses[0][0] != losses[0][-1]


def test_another_beta_and_another_learning_rate_pay_nothing(
    run_step: Runner, sft: Ran, colours: dict[str, Path]
) -> None:
    _kto(run_step, sft, colours, "first")
    again = _kto(run_step, sft, colours, "again", beta=0.3, learning_rate=1e-3)
    assert again.outcome.summary["reference_computed"] == 0


def test_only_rows_that_are_trained_on_are_asked(
    run_step: Runner, sft: Ran, colours: dict[str, Path]
) -> None:
    few = _kto(run_step, sft, colours, "few", max_steps=2)
    assert few.outcome.summary["reference_sequences"] <= 2 * 2 * 4
    assert len(few.ctx.series("loss")) == 2
    rest = _kto(run_step, sft, colours, "rest")
    told = rest.outcome.summary
    assert 0 < told["reference_computed"] < told["reference_sequences"]


def test_pairs_of_a_short_try_are_not_all_asked(run_step: Runner, sft: Ran, colours: dict[str, Path]) -> None:
    short = _dpo(run_step, sft, colours, "short", max_steps=2)
    assert short.outcome.summary["reference_not_precomputed"] == "few_steps"
    forced = _dpo(run_step, sft, colours, "forced", max_steps=2, precompute_ref_log_probs=True)
    assert forced.outcome.summary["reference_precomputed"] is True
    assert short.ctx.series("loss") == pytest.approx(forced.ctx.series("loss"), abs=2e-5)


@pytest.mark.parametrize(
    ("loss", "precompute", "expected"),
    [("kto", False, 4), ("apo_zero_unpaired", False, 2), ("kto", True, 2), ("apo_zero_unpaired", True, 1)],
)
def test_a_training_step_forwards_no_more_than_its_loss_needs(
    loss: str,
    precompute: bool,
    expected: int,
    forwards: list[int],
    run_step: Runner,
    sft: Ran,
    colours: dict[str, Path],
) -> None:
    """KTO: policy and its KL pairs, and the same two of the reference unless they are known. APO needs no KL pairs."""
    options = {"loss_type": loss, "precompute_ref_log_probs": precompute}
    counts = []
    for steps in (2, 6):
        _kto(
            run_step, sft, colours, f"warm-{steps}", **options, max_steps=steps
        )  # what is remembered is free
        forwards.clear()
        _kto(run_step, sft, colours, f"steps-{steps}", **options, max_steps=steps)
        counts.append(len(forwards))
    assert counts[1] - counts[0] == 4 * expected


def _captured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Keep what is about to become the trainer's columns."""
    kept: dict[str, Any] = {}
    original = reference_cache._add_columns

    def capture(trainer: Any, asked: Any, known: dict[bytes, float]) -> None:
        kept.update(asked=asked, known=dict(known), limit=trainer.args.max_length)
        original(trainer, asked, known)

    monkeypatch.setattr(reference_cache, "_add_columns", capture)
    return kept


@pytest.mark.parametrize("stage", [_kto, _dpo])
def test_every_number_is_what_the_sft_model_says_by_itself(
    stage: Any, monkeypatch: pytest.MonkeyPatch, run_step: Runner, sft: Ran, colours: dict[str, Path]
) -> None:
    kept = _captured(monkeypatch)
    stage(run_step, sft, colours, "step")
    asked, known = kept["asked"], kept["known"]
    model = loading.load_stack(loading.stack_of(sft.ref("adapter", "reference")), CPU)
    rows = [probe.ProbeRow(*map(tuple, asked.sequence(d, kept["limit"]))) for d in known]
    expected = probe.independent_logps(model, rows, CPU)
    assert len(known) > 16
    assert list(known.values()) == pytest.approx(expected, abs=1e-3)
    for digests in asked.digests[0].values():
        assert all(d in known for d in digests)


def test_a_whole_model_is_trained_against_the_second_one(
    run_step: Runner, tiny: Path, colours: dict[str, Path]
) -> None:
    inputs = {
        "policy": model_ref("policy", tiny),
        "reference": model_ref("reference", tiny),
        "train_data": data_ref(colours["kto"]),
    }
    params = {**ALL, "tuning": "full", "learning_rate": 1e-3, "guard": {"enabled": False}, "max_steps": 4}
    plain, cold = (
        run_step("kto", {**params, "precompute_ref_log_probs": p}, inputs, name=n)
        for n, p in (("plain", False), ("cold", True))
    )
    assert plain.ctx.series("loss") == pytest.approx(cold.ctx.series("loss"), abs=2e-5)
    assert plain.ctx.series("kl/unclamped") == pytest.approx(cold.ctx.series("kl/unclamped"), abs=2e-3)
    assert cold.outcome.summary["reference_precomputed"] is True


def test_held_out_rows_are_asked_too(run_step: Runner, sft: Ran, colours: dict[str, Path]) -> None:
    inputs = {
        "policy": sft.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "train_data": data_ref(colours["kto"]),
        "eval_data": data_ref(colours["kto"], "eval_data"),
    }
    plain, cold, warm = (
        run_step(
            "kto",
            {**ALL, "guard": {"enabled": False}, "eval_steps": 4, "precompute_ref_log_probs": p},
            inputs,
            name=n,
        )
        for n, p in (("plain", False), ("cold", "auto"), ("warm", "auto"))
    )
    assert warm.outcome.summary["reference_computed"] == 0
    assert cold.ctx.series("eval_loss") == warm.ctx.series("eval_loss")
    assert len(cold.ctx.series("eval_loss")) >= 2
    assert plain.ctx.series("eval_loss") == pytest.approx(cold.ctx.series("eval_loss"), abs=2e-5)


def _file(root: Path) -> Path:
    (file,) = (root / "cache" / "reference").glob("*.sqlite")
    return file


def test_a_cache_of_wrong_numbers_is_thrown_away(
    tmp_path: Path, run_step: Runner, sft: Ran, colours: dict[str, Path]
) -> None:
    cold = _kto(run_step, sft, colours, "cold")
    store = Store(_file(tmp_path), cold.ctx)
    with sqlite3.connect(store.path) as database:
        keys = [row[0] for row in database.execute("SELECT sequence FROM logps")]
    right = store.read(keys)
    store.add({k: v - 5.0 for k, v in right.items()})
    store.close()
    again = _kto(run_step, sft, colours, "again")
    assert "batches.reference_cache_wrong" in again.ctx.codes()
    assert again.outcome.summary["reference_computed"] == again.outcome.summary["reference_sequences"]
    assert again.ctx.series("loss") == cold.ctx.series("loss")
    assert _kto(run_step, sft, colours, "third").outcome.summary["reference_computed"] == 0


def test_a_damaged_cache_is_set_aside_and_made_anew(
    tmp_path: Path, run_step: Runner, sft: Ran, colours: dict[str, Path]
) -> None:
    cold = _kto(run_step, sft, colours, "cold")
    file = _file(tmp_path)
    with sqlite3.connect(file) as database:  # one number of many, by so little that no comparison would tell
        key = database.execute("SELECT sequence FROM logps LIMIT 1").fetchone()[0]
        database.execute("UPDATE logps SET logp = logp - 0.001 WHERE sequence = ?", [key])
    again = _kto(run_step, sft, colours, "again")
    assert again.ctx.series("loss") == cold.ctx.series("loss")
    assert again.outcome.summary["reference_computed"] == again.outcome.summary["reference_sequences"]
    assert "batches.reference_cache_damaged" in again.ctx.codes()
    assert file.with_name(file.name + ".damaged").is_file()
    assert _kto(run_step, sft, colours, "third").outcome.summary["reference_computed"] == 0


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, run_step: Runner, sft: Ran, colours: dict[str, Path]
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    twice = [_kto(run_step, sft, colours, name) for name in ("one", "two")]
    assert twice[0].ctx.series("loss") == twice[1].ctx.series("loss")
    assert twice[1].outcome.summary["reference_computed"] > 0
    assert not [c for c in twice[1].ctx.codes() if c.startswith("batches.")]


class Impatient(FakeContext):
    """Asks for a stop as soon as the reference has answered something."""

    def stop_requested(self) -> bool:
        return bool(self.phases) and self.phases[-1] == "reference" and self.progressed[-1][0] > 0


def test_a_stop_while_the_reference_is_asked_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sft: Ran, colours: dict[str, Path]
) -> None:
    monkeypatch.setattr("tests.engines.conftest.FakeContext", Impatient)
    with pytest.raises(Stopped):
        _kto(make_runner(tmp_path), sft, colours, "stopped")
    monkeypatch.undo()
    told = _kto(make_runner(tmp_path), sft, colours, "again").outcome.summary
    assert 0 < told["reference_computed"] < told["reference_sequences"]


def test_the_order_of_numbers_that_belong_to_pairs_is_left_to_the_trainer(
    run_step: Runner, sft: Ran, colours: dict[str, Path]
) -> None:
    ran = _dpo(
        run_step,
        sft,
        colours,
        "ld",
        precompute_ref_log_probs=True,
        max_steps=2,
        engine_args={"ld_alpha": 0.5},
    )
    assert ran.outcome.summary["reference_not_precomputed"] == "ld_alpha"
    assert "batches.reference_with_ld_alpha" in ran.ctx.codes()


# --- which reference it is ------------------------------------------------------------------------------------------


def test_the_name_of_a_reference_is_its_content(tiny: Path, sft: Ran, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    copied = shutil.copytree(tiny, tmp_path / "copied")
    base, copy = (loading.stack_of(model_ref("reference", p)) for p in (tiny, copied))
    adapter = loading.stack_of(sft.ref("adapter", "reference"))
    key = reference_identity.key(base, CPU, cache)
    assert key == reference_identity.key(copy, CPU, cache)
    assert key != reference_identity.key(adapter, CPU, cache)
    assert key != reference_identity.key(base, Precision("cpu", "bfloat16", "bfloat16"), cache)
    weights = copied / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert key != reference_identity.key(copy, CPU, cache), (
        "a remembered digest holds for the file it was made of"
    )


# --- the file -------------------------------------------------------------------------------------------------------

_WRITER = """
import sys
from pathlib import Path
from swiftshell.engines import reference_store
from swiftshell.engines.reference_store import Store

reference_store.COMMIT_S = 0.0
store = Store(Path(sys.argv[1]), None)
name, count = sys.argv[2], int(sys.argv[3])
for at in range(count):
    store.add({f"{name}-{at}".encode(): float(at)})
    print(at, flush=True)
store.close()
"""


def _writer(file: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", _WRITER, str(file), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _keys(name: str, count: int) -> list[bytes]:
    return [f"{name}-{at}".encode() for at in range(count)]


def test_a_killed_process_leaves_whole_numbers(tmp_path: Path) -> None:
    file = tmp_path / "reference" / "a.sqlite"
    process = _writer(file, "x", 100_000)
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    ctx = FakeContext(tmp_path / "ctx")
    store = Store(file, ctx)
    found = store.read(_keys("x", 100_000))
    assert len(found) >= 49
    assert found == {k: float(k.split(b"-")[1]) for k in found}
    assert ctx.codes() == []
    store.add({b"after": 1.5})
    store.close()
    assert Store(file, ctx).read([b"after"]) == {b"after": 1.5}


def test_processes_write_to_one_file(tmp_path: Path) -> None:
    file = tmp_path / "reference" / "a.sqlite"
    writers = [_writer(file, name, 40) for name in "xy"]
    for writer in writers:
        writer.communicate(timeout=60)
        assert writer.returncode == 0
    ctx = FakeContext(tmp_path / "ctx")
    found = Store(file, ctx).read([*_keys("x", 40), *_keys("y", 40)])
    assert len(found) == 80


def test_the_files_used_longest_ago_go_when_all_are_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = FakeContext(tmp_path / "ctx")
    for name in ("old", "older", "new"):
        store = Store.open(tmp_path, name, ctx)
        store.add({bytes([at]): 1.0 for at in range(200)})
        store.close()
        time.sleep(0.02)
    Store.open(tmp_path, "old", ctx).close()  # used again
    size = (tmp_path / "reference" / "new.sqlite").stat().st_size
    monkeypatch.setattr(reference_store, "LIMIT_BYTES", 2 * size + 100)
    Store.open(tmp_path, "new", ctx).close()
    left = {p.stem for p in (tmp_path / "reference").glob("*.sqlite")}
    assert left == {"old", "new"}


@pytest.mark.parametrize("how", ["overwritten", "cut", "empty", "a folder"])
def test_a_damaged_file_is_set_aside(how: str, tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path / "ctx")
    numbers = {bytes([at, at]): float(at) for at in range(256)}
    store = Store.open(tmp_path, "a", ctx)
    store.add(numbers)
    store.close()
    content = store.path.read_bytes()
    store.path.unlink()
    if how == "a folder":
        store.path.mkdir()
    else:
        broken = {"overwritten": b"x" * len(content), "cut": content[: len(content) // 2], "empty": b""}[how]
        store.path.write_bytes(broken)
    again = Store.open(tmp_path, "a", ctx)
    assert again.read(numbers) == {}
    again.add(numbers)
    again.close()
    assert Store.open(tmp_path, "a", ctx).read(numbers) == ({} if how == "a folder" else numbers)
    assert ctx.codes() == (["batches.reference_cache_damaged"] if how in ("overwritten", "cut") else [])


def test_a_file_deleted_meanwhile_costs_nothing_but_time(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path / "ctx")
    store = Store.open(tmp_path, "a", ctx)
    store.add({b"one": 1.0})
    shutil.rmtree(tmp_path / "reference")
    store.add({b"two": 2.0})
    store.close()
    assert Store.open(tmp_path, "a", ctx).read([b"one", b"two"]) == {}


def test_numbers_that_are_none_are_not_kept(tmp_path: Path) -> None:
    ctx = FakeContext(tmp_path / "ctx")
    store = Store.open(tmp_path, "a", ctx)
    store.add({b"nan": float("nan"), b"inf": float("-inf"), b"one": -3.25})
    store.close()
    assert Store.open(tmp_path, "a", ctx).read([b"nan", b"inf", b"one"]) == {b"one": -3.25}


def test_a_sequence_is_named_by_its_tokens_and_by_where_the_answer_begins() -> None:
    names = {
        reference_cache.digest(p, a)
        for p, a in (([1, 2], [3]), ([1], [2, 3]), ([1, 2], [4]), ([], [1, 2, 3]))
    }
    assert len(names) == 4
    assert reference_cache.digest((1, 2), (3,)) in names
