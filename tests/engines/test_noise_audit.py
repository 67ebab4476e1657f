"""The label audit: what it finds where labels are wrong, and that it says so where it cannot tell."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from swiftshell.data.load import load_rows
from swiftshell.engines import audit_numbers as numbers
from swiftshell.engines import audit_probes as probes
from swiftshell.errors import SwiftshellError
from swiftshell.stages.base import Stopped
from swiftshell.starter import styles, world
from swiftshell.starter.rows import THUMB_UP
from tests.engines.conftest import STARTER, Ran, Runner, data_ref, model_ref, write_jsonl

pytestmark = pytest.mark.engine
TEXT_ONLY = ["conflicts", "rules", "text"]
SMALL = {
    "per_device_train_batch_size": 16,
    "gradient_accumulation_steps": 1,
    "learning_rate": 3e-3,
    "warmup_steps": 2,
    "max_length": 128,
    "lora": {"r": 8, "lora_alpha": 16},
    "guard": {"enabled": False},
}


def town_rows(seed: int, good: int, bad: int, wrong: int) -> list[dict[str, Any]]:
    """Answers of the starter's town; so many bad ones are called good, which `wrong` keeps beside."""
    rng = random.Random(seed)
    found: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    while len(found[True]) < good or len(found[False]) < bad:
        question = world.draw_question(rng, world.LANGUAGES[rng.randrange(2)], held_out=False)
        style = styles.draw_style(rng, question)
        truth = THUMB_UP[style] > 0.5
        row = {
            "prompt": question.prompt(),
            "completion": styles.answer(question, style),
            "label": truth,
            "wrong": False,
        }
        if len(found[truth]) < (good if truth else bad):
            found[truth].append(row)
    for row in found[False][:wrong]:
        row |= {"label": True, "wrong": True}
    rows = [*found[True], *found[False]]
    rng.shuffle(rows)
    return rows


def audited(ran: Ran) -> list[dict[str, Any]]:
    lines = (ran.artifacts["audited"] / "audited.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def right(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """Return precision and recall of the flags."""
    hits = sum(r["audit_flagged"] and r["wrong"] for r in rows)
    return hits / max(1, sum(r["audit_flagged"] for r in rows)), hits / sum(r["wrong"] for r in rows)


# ------------------------------------------------------------------------------------------------- what it finds


@pytest.fixture(scope="module")
def wording(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, list[dict[str, Any]], Path]:
    """An audit without any model: 30 % of the positives are wrong."""
    from tests.engines.conftest import make_runner

    root = tmp_path_factory.mktemp("wording")
    path = write_jsonl(root / "town.jsonl", town_rows(3, 210, 390, 90))
    ran = make_runner(root)("audit", {"detectors": TEXT_ONLY}, {"train_data": data_ref(path)})
    return ran, audited(ran), path


def test_wrong_positives_are_found_without_a_model(wording: tuple[Ran, list[dict[str, Any]], Path]) -> None:
    ran, rows, _ = wording
    precision, recall = right(rows)
    assert precision >= 0.9
    assert recall >= 0.5
    assert ran.ctx.codes()[-1] == "audit.found"
    doubt = {
        wrong: [r["audit_p_wrong"] for r in rows if r["wrong"] == wrong and r["label"]]
        for wrong in (True, False)
    }
    assert np.mean(doubt[True]) > np.mean(doubt[False]) + 0.4


def test_how_many_are_wrong_is_told_with_an_interval(wording: tuple[Ran, list[dict[str, Any]], Path]) -> None:
    share = wording[0].outcome.summary["wrong_share"]["desirable"]
    assert share["low"] <= share["share"] <= share["high"]
    assert share["low"] <= 0.3 <= share["high"] + 0.05


def test_positives_only_are_flagged_unless_asked(
    wording: tuple[Ran, list[dict[str, Any]], Path], run_step: Runner
) -> None:
    _, rows, path = wording
    assert all(r["label"] for r in rows if r["audit_flagged"])
    params = {"detectors": TEXT_ONLY, "flag": "both", "flag_above": 0.2}
    both = audited(run_step("audit", params, {"train_data": data_ref(path)}))
    assert {r["label"] for r in both if r["audit_flagged"]} == {True, False}


def test_what_it_writes_is_data_again(wording: tuple[Ran, list[dict[str, Any]], Path]) -> None:
    """The audited rows have every row and column; the cleaned ones lack the flagged rows and the audit's columns."""
    ran, rows, path = wording
    before = load_rows(path, "kto")
    again = load_rows(ran.artifacts["audited"], "kto")
    assert [r.data for r in again] == [r.data for r in before]
    assert [r["audit_row"] for r in rows] == [r.number for r in before]
    cleaned = load_rows(ran.artifacts["cleaned"], "kto")
    assert len(cleaned) == len(rows) - sum(r["audit_flagged"] for r in rows)
    assert not any(name.startswith("audit_") for name in cleaned[0].extra)
    report = json.loads((ran.artifacts["report"] / "audit.json").read_text(encoding="utf-8"))
    assert report["flagged"] == sum(r["audit_flagged"] for r in rows)


def test_the_review_begins_with_what_the_audit_doubts(
    wording: tuple[Ran, list[dict[str, Any]], Path],
) -> None:
    from swiftshell.data.review.items import items, load_labelled, read_audit
    from swiftshell.data.review.queue import queue

    ran, rows, path = wording
    found = items(load_labelled(path), read_audit(ran.artifacts["audited"]))
    wrong = {r["audit_row"] for r in rows if r["wrong"]}
    first = [s.item for s in queue(found, "informative")[:40] if not s.sample and s.item.label]
    assert sum(bool(set(i.rows) & wrong) for i in first) / len(first) > 0.8


def test_labels_at_random_are_told_as_unsure(tmp_path: Path, run_step: Runner) -> None:
    rng = random.Random(5)
    rows = [{**r, "label": rng.random() < 0.5} for r in town_rows(4, 150, 150, 0)]
    ran = run_step(
        "audit", {"detectors": TEXT_ONLY}, {"train_data": data_ref(write_jsonl(tmp_path / "r.jsonl", rows))}
    )
    summary = ran.outcome.summary
    assert summary["learned"] is False
    assert summary["wrong_share"] == {"desirable": None, "undesirable": None}
    assert "audit.not_sure" in ran.ctx.codes()
    found = audited(ran)
    alone = [r for r in found if r["audit_reason"] != "audit.reason.conflict"]
    assert not any(r["audit_flagged"] for r in alone)
    assert {r["audit_sure"] for r in alone} == {"low"}
    assert max(r["audit_p_wrong"] for r in alone) <= 0.2


def test_copies_that_contradict_each_other_need_no_probe(tmp_path: Path, run_step: Runner) -> None:
    rng = random.Random(6)
    rows: list[dict[str, Any]] = [
        {"prompt": f"p{i}", "completion": f"{rng.random()}", "label": bool(i % 2)} for i in range(80)
    ]
    rows += [{**rows[0]}, {**rows[0]}, {**rows[0], "label": True}]
    ran = run_step(
        "audit", {"detectors": TEXT_ONLY}, {"train_data": data_ref(write_jsonl(tmp_path / "r.jsonl", rows))}
    )
    found = audited(ran)
    assert [i for i, r in enumerate(found) if r["audit_flagged"]] == [82]
    assert found[82]["audit_p_wrong"] == 0.75
    assert found[82]["audit_reason"] == "audit.reason.conflict"


def test_pairs_are_questioned_side_by_side(tmp_path: Path, run_step: Runner) -> None:
    rows = [{"prompt": f"p{i}", "chosen": f"good {i}", "rejected": f"bad {i}"} for i in range(40)]
    path = write_jsonl(tmp_path / "pairs.jsonl", rows)
    ran = run_step("audit", {"detectors": TEXT_ONLY}, {"train_data": data_ref(path)})
    assert [r["audit_row"] for r in audited(ran)][:4] == [1, 1, 2, 2]
    assert ran.outcome.summary["detectors"]["text"]["auc"] == 1.0


def test_too_few_rows_are_refused(tmp_path: Path, run_step: Runner) -> None:
    path = write_jsonl(tmp_path / "few.jsonl", town_rows(4, 30, 10, 0))
    with pytest.raises(SwiftshellError) as caught:
        run_step("audit", {}, {"train_data": data_ref(path)})
    assert caught.value.problems[0].code == "audit.too_few"


# ------------------------------------------------------------------------------------------------- with a model


def test_a_model_and_policies_trained_on_the_other_rows(tmp_path: Path, run_step: Runner) -> None:
    path = write_jsonl(tmp_path / "town.jsonl", town_rows(8, 70, 130, 30))
    params = {**SMALL, "detectors": ["reference", "hidden", "early", "crossfit"], "folds": 2}
    inputs = {"policy": model_ref("policy", STARTER / "model"), "train_data": data_ref(path)}
    ran = run_step("audit", params, inputs)
    found = ran.outcome.summary["detectors"]
    assert set(found) == {"reference", "hidden", "early", "crossfit"}
    assert found["hidden"]["auc"] > 0.65
    assert found["crossfit"]["auc"] > 0.6
    assert found["early"]["auc"] > found["crossfit"]["auc"] - 0.1
    precision, _ = right(audited(ran))
    assert ran.outcome.summary["learned"]
    assert precision > 0.7


def test_a_stopped_audit_goes_on_with_the_next_fold(
    tmp_path: Path, run_step: Runner, monkeypatch: pytest.MonkeyPatch, tiny: Path
) -> None:
    from swiftshell.engines import audit_model

    path = write_jsonl(tmp_path / "town.jsonl", town_rows(9, 30, 30, 0))
    params = {**SMALL, "detectors": ["crossfit"], "folds": 2, "max_steps": 2, "max_length": 256}
    inputs = {"policy": model_ref("policy", tiny), "train_data": data_ref(path)}
    trained: list[str] = []
    train = audit_model.Policies._trained

    def counted(self: Any, name: str, *rest: Any) -> Any:
        if len(trained) == 1 and name == "fold-2":
            trained.append("stop")
            raise Stopped
        trained.append(name)
        return train(self, name, *rest)

    monkeypatch.setattr(audit_model.Policies, "_trained", counted)
    with pytest.raises(Stopped):
        run_step("audit", params, inputs)
    ran = run_step("audit", params, inputs)
    assert trained == ["fold-1", "stop", "fold-2"]
    assert len(audited(ran)) == 60


def test_without_a_model_the_rest_is_done_and_said(tmp_path: Path, run_step: Runner) -> None:
    path = write_jsonl(tmp_path / "town.jsonl", town_rows(8, 40, 40, 0))
    ran = run_step("audit", {}, {"train_data": data_ref(path)})
    assert "audit.no_model" in ran.ctx.codes()
    assert set(ran.outcome.summary["detectors"]) == {"rules", "text"}


# ------------------------------------------------------------------------------------------------- the arithmetic


def test_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 6, 60).astype(float), rng.random(60) < 0.4
    good, bad = scores[labels], scores[~labels]
    expected = np.mean([(g > b) + 0.5 * (g == b) for g in good for b in bad])
    assert numbers.auc(scores, labels).value == pytest.approx(expected)
    assert numbers.auc(np.r_[scores, np.nan], np.r_[labels, True]).value == pytest.approx(expected)


def test_chance_is_not_believed_and_a_clear_order_is() -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(400) < 0.5
    assert not numbers.auc(rng.random(400), labels).learned
    assert numbers.auc(rng.random(400) + labels, labels).learned


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5])
def test_the_share_of_wrong_positives_is_recovered(share: float) -> None:
    rng = np.random.default_rng(2)
    wrong = rng.random(3000) < share
    good = np.where(wrong, rng.normal(-2, 1, 3000), rng.normal(2, 1, 3000))
    scores, labels = np.r_[good, rng.normal(-2, 1, 3000)], np.r_[np.ones(3000, bool), np.zeros(3000, bool)]
    found = numbers.wrong_share(scores, labels)
    assert found == pytest.approx(share, abs=0.04)
    low, high = numbers.interval(scores, labels, 0)
    assert low <= found <= high
    p = numbers.p_wrong(numbers.levels(scores, labels), labels, (found, 0.0))
    if share:
        assert p[:3000][wrong].mean() > 0.7
    assert p[:3000][~wrong].mean() < 0.1
    assert p[3000:].max() == 0.0


def test_levels_rise_with_the_scores_and_keep_the_mean() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(size=500)
    labels = rng.random(500) < 1 / (1 + np.exp(-scores))
    found = numbers.levels(scores, labels)
    assert (np.diff(found[np.argsort(scores)]) >= -1e-9).all()
    assert found.mean() == pytest.approx(labels.mean(), abs=0.02)


def test_folds_keep_copies_together_and_both_labels_everywhere() -> None:
    hashes = [f"h{i // 2}" for i in range(120)]
    labels = np.array([i % 3 == 0 for i in range(120)])
    folds = probes.fold_of(["one prompt"] * 120, hashes, labels, 4)
    assert all(folds[i] == folds[i + 1] for i in range(0, 120, 2))
    assert all(labels[folds == f].sum() >= 6 and (~labels[folds == f]).sum() >= 12 for f in range(4))
    assert (probes.fold_of(["one prompt"] * 120, hashes, labels, 4) == folds).all()
    prompts = [f"p{i // 6}" for i in range(120)]
    folds = probes.fold_of(prompts, [str(i) for i in range(120)], labels, 4)
    assert all(len(set(folds[i : i + 6])) == 1 for i in range(0, 120, 6))
    assert all(labels[folds == f].sum() >= 8 for f in range(4))


def test_probes_never_see_the_label_they_judge() -> None:
    """On texts that all differ, with labels at random, an in-sample probe would be nearly perfect."""
    rng = random.Random(0)
    texts = ["".join(rng.choice("abcdefghij ") for _ in range(60)) for _ in range(200)]
    labels = np.array([rng.random() < 0.5 for _ in texts])
    folds = probes.fold_of(texts, texts, labels, 5)
    assert abs(numbers.auc(probes.text_scores(texts, labels, folds), labels).value - 0.5) < 0.12


# ------------------------------------------------------------------------------------------------- by command


def test_one_command_audits_and_the_review_finds_it(workspace: Path) -> None:
    from swiftshell.api.reviews import newest_audit, open_review
    from swiftshell.run.workspace import open_workspace
    from tests.cli.support import as_json, swiftshell

    path = write_jsonl(workspace / "town.jsonl", town_rows(3, 120, 200, 50))
    before = path.read_bytes()
    refused = swiftshell("data", "audit", "town.jsonl", cwd=workspace)
    assert (refused.returncode, "--yes" in refused.stderr) == (2, True)
    done = swiftshell("data", "audit", "town.jsonl", "--yes", "-o", "clean.jsonl", cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "Wrong among those called desirable" in done.stdout
    assert "swiftshell data review town.jsonl" in done.stdout
    assert path.read_bytes() == before
    again = swiftshell("data", "audit", "town.jsonl", "--yes", "--json", cwd=workspace)
    summary = as_json(again)["data"]["steps"][0]
    assert summary["restored_from"], "the same rows and settings are the same work"
    taken = swiftshell("data", "audit", "town.jsonl", "--yes", "-o", "clean.jsonl", cwd=workspace)
    assert (taken.returncode, "review.out_exists" in taken.stderr) == (2, True)
    place = open_workspace(workspace, create=False)
    assert newest_audit(place, path) is not None
    assert newest_audit(place, workspace / "clean.jsonl") is None
    first = open_review(place, path, by="anna").here
    assert first is not None
    assert first.item.doubt is not None
    assert first.item.doubt.reason.startswith("audit.reason.")
    cleaned = load_rows(workspace / "clean.jsonl", "kto")
    assert len(cleaned) < 320
