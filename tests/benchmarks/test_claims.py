"""The claims' experiments run end to end on tiny settings, and the documentation says what their results say."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = ("kto_lifts", "imbalance", "noise", "audit", "guard", "wrong_reference", "soft_labels", "batches", "nf4")
SHARES = ("desirable_share", "reward_auc", "preference_auc", "precision", "recall", "caught")


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """The experiments lie beside the tests, not in the installed package."""
    sys.path.insert(0, str(ROOT))
    yield
    sys.path.remove(str(ROOT))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """Run every claim once with tiny settings, in a process of its own: workers change signal handlers."""
    work = tmp_path_factory.mktemp("claims")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.claims.all", "--quick", "--seeds", "1", "--work", str(work)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {name: json.loads((work / f"{name}.json").read_text(encoding="utf-8")) for name in CLAIMS}


@pytest.mark.engine
@pytest.mark.timeout(1500)  # the first waits for all experiments, and a busy machine may take its time
@pytest.mark.parametrize("name", CLAIMS)
def test_an_experiment_measures_its_arms(name: str, quick: dict[str, dict[str, Any]]) -> None:
    result = quick[name]
    assert result["quick"] is True
    assert result["seeds"] == [42]
    assert len(result["arms"]) >= 2
    for arm, metrics in result["arms"].items():
        assert metrics, arm
        for metric, value in metrics.items():
            assert math.isfinite(value["mean"]), (arm, metric)
            assert value["per_seed"] == [value["mean"]]
            if metric in SHARES:
                assert 0 <= value["mean"] <= 1, (arm, metric)
    for d in result["differences"]:
        later, earlier = (result["arms"][d[side]][d["metric"]]["mean"] for side in ("later", "earlier"))
        assert d["mean"] == pytest.approx(later - earlier, abs=2e-5)


@pytest.mark.engine
@pytest.mark.timeout(1500)  # the first waits for all experiments, and a busy machine may take its time
@pytest.mark.parametrize("name", CLAIMS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_result_can_be_told(language: str, name: str, quick: dict[str, dict[str, Any]]) -> None:
    """All arms and metrics have names, and the verdict a sentence, also when only some arms were run."""
    from benchmarks.claims import tables

    words = tables.texts(language)
    text = words["claims"][name]
    for arm in quick[name]["arms"]:
        assert tables.label(arm, text) != arm
    table = tables.arms_table(quick[name], text, tables.CLAIMS[name], words)
    assert len(table.splitlines()) == len(quick[name]["arms"]) + 2
    assert quick[name]["verdict"] in text["verdicts"]


@pytest.mark.engine
@pytest.mark.timeout(1500)  # the first waits for all experiments, and a busy machine may take its time
def test_wrong_references_are_refused_and_right_ones_pass(quick: dict[str, dict[str, Any]]) -> None:
    from benchmarks.claims.wrong_reference import CASES

    assert quick["wrong_reference"]["verdict"] == "holds"
    for name, metrics in quick["wrong_reference"]["arms"].items():
        assert metrics["caught"]["mean"] == CASES[name].wrong
        assert metrics["steps"]["mean"] == (0 if CASES[name].wrong else 1)
        if CASES[name].wrong:
            assert metrics["trained_unproven"]["mean"] == 1, "nothing else would have stopped it"


@pytest.mark.engine
@pytest.mark.timeout(1500)  # the first waits for all experiments, and a busy machine may take its time
def test_the_guard_was_really_off_and_on(quick: dict[str, dict[str, Any]]) -> None:
    arms = quick["guard"]["arms"]
    (off,) = [m for name, m in arms.items() if name.endswith("unguarded")]
    assert off["restarts"]["mean"] == 0
    assert any(name.endswith(" guarded") for name in arms)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_documentation_is_what_the_results_say(language: str) -> None:
    from benchmarks.claims import tables

    page = (ROOT / "docs" / tables.PAGES[language]).read_text(encoding="utf-8")
    assert page == tables.page(language), "run: python -m benchmarks.claims.tables"


def test_committed_results_are_whole_runs() -> None:
    from benchmarks.claims import common, tables

    found = tables.results()
    assert found
    for name, result in found.items():
        assert result["quick"] is False, name
        assert result["claim"] == name
        assert result["seeds"] == list(common.SEEDS), name


def test_committed_verdicts_follow_from_the_committed_numbers() -> None:
    from benchmarks.claims import all as every
    from benchmarks.claims import tables

    for name, result in tables.results().items():
        assert result["verdict"] == every.CLAIMS[name].verdict(result), name
        for d in result["differences"]:
            later, earlier = (result["arms"][d[side]][d["metric"]] for side in ("later", "earlier"))
            assert d["mean"] == pytest.approx(later["mean"] - earlier["mean"], abs=2e-5), (name, d)


def test_both_languages_tell_the_same() -> None:
    from benchmarks.claims import tables

    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: shape(v) for k, v in value.items()}
        return sorted(re.findall(r"\{[^}]*\}", value))

    assert shape(tables.texts("en")) == shape(tables.texts("zh"))


@pytest.mark.parametrize("name", CLAIMS)
def test_a_verdict_names_only_differences_that_are_measured(name: str) -> None:
    from benchmarks.claims import all as every
    from benchmarks.claims import tables

    measured = {*every.CLAIMS[name].comparisons}
    for sentence in tables.texts("en")["claims"][name]["verdicts"].values():
        for named in re.findall(r"\{diff:([^}]*)\}", sentence):
            assert tuple(named.split("|")) in measured


def test_intervals_are_students() -> None:
    """Checked by hand: mean 2, standard deviation 1, n 3, t 4.303."""
    from benchmarks.claims import stats

    found = stats.interval([1.0, 2.0, 3.0])
    assert found["mean"] == 2
    assert found["high"] - found["mean"] == pytest.approx(4.303 / math.sqrt(3))
    assert found["low"] == pytest.approx(4 - found["high"])
    assert stats.interval([1.0])["low"] is None


def test_differences_are_paired_by_seed() -> None:
    from benchmarks.claims import stats

    seeds = {1: {"a": {"m": 0.5}, "b": {"m": 0.4}}, 2: {"a": {"m": 0.9}, "b": {"m": 0.8}}}
    found = stats.difference(seeds, "a", "b", "m")
    assert found["mean"] == pytest.approx(0.1)
    assert found["high"] - found["low"] == pytest.approx(0, abs=1e-9), "the seeds' own level cancels out"


def test_the_truth_of_drawn_answers_does_not_depend_on_what_was_said() -> None:
    from benchmarks.claims import starter_rows
    from benchmarks.claims.noise import spoiled

    drawn = starter_rows.of_each(42, 40, 80, "noise")
    for share in (0.1, 0.45):
        rows = spoiled(drawn, share, 42)
        positives = [r for r in rows if r.label]
        assert sum(r.wrong for r in positives) / len(positives) == pytest.approx(share, abs=0.02)
        assert not any(r.wrong for r in rows if not r.label), "only positives are wrong"


def test_a_lopsided_draw_has_the_ratio_asked_for() -> None:
    from benchmarks.claims.imbalance import mixed

    rows = mixed(42, 66, 1, 10)
    assert (sum(r["label"] for r in rows), len(rows)) == (6, 66)
