"""Vision-language models: SFT, KTO, DPO and merging of a random Qwen2-VL, on pictures that the test draws."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.run import artifact
from tests.engines.conftest import FAST, Ran, Runner, data_ref, make_runner, model_ref, write_jsonl
from tests.support.tiny_vlm import build_vlm, draw, picture_rows

pytestmark = pytest.mark.engine

SETTINGS = {**FAST, "max_steps": 4}


@pytest.fixture(scope="module")
def vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_vlm(tmp_path_factory.mktemp("vlm") / "tiny-vl")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return data files with pictures by purpose."""
    root = tmp_path_factory.mktemp("pictures")
    drawn = draw(root / "img")
    return {p: write_jsonl(root / f"{p}.jsonl", picture_rows(p, drawn, root)) for p in ("sft", "kto", "dpo")}


@pytest.fixture(scope="module")
def sft(vlm: Path, pictures: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    run = make_runner(tmp_path_factory.mktemp("sft"))
    inputs = {"policy": model_ref("policy", vlm), "train_data": data_ref(pictures["sft"])}
    return run("sft", {**SETTINGS, "max_steps": 12}, inputs)


@pytest.fixture(scope="module")
def kto(sft: Ran, pictures: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return make_runner(tmp_path_factory.mktemp("kto"))("kto", SETTINGS, thumbs(sft, pictures))


def thumbs(sft: Ran, pictures: dict[str, Path]) -> dict[str, Any]:
    return {
        "policy": sft.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "train_data": data_ref(pictures["kto"]),
    }


def test_sft_learns_in_the_language_model_and_keeps_the_processor(sft: Ran, vlm: Path) -> None:
    losses = sft.ctx.series("loss")
    assert losses[-1] < 0.5 * losses[0]
    assert {"images.rows", "images.language_only"} <= set(sft.ctx.codes())
    adapter = sft.artifacts["adapter"]
    targets = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))["target_modules"]
    assert "language_model" in targets
    assert "visual" not in targets
    saved = (adapter / "preprocessor_config.json").read_bytes()
    assert saved == (vlm / "preprocessor_config.json").read_bytes()


def test_the_probe_has_the_images_and_they_matter(sft: Ran) -> None:
    from dataclasses import replace

    from swiftshell.engines import loading, probe, vision

    record = artifact.read(sft.artifacts["adapter"])
    assert record is not None
    assert all(len(r["images"]) == 1 for r in record["probe"]["rows"])
    assert probe.is_whole(record["probe"])
    stack = loading.stack_from(record, sft.artifacts["adapter"])
    precision = loading.Precision("cpu", "float32", None)
    model = loading.load_stack(stack, precision)
    eyes = vision.load_eyes(stack.base, loading.load_tokenizer(stack.tokenizer_folder))
    rows = probe.rows_of(record["probe"], eyes)
    logps = probe.independent_logps(model, rows, precision)
    assert logps == pytest.approx(record["probe"]["logps"], abs=1e-3)
    blind = probe.independent_logps(model, [replace(r, images=()) for r in rows], precision)
    assert probe.largest_difference(logps, blind, rows) > 10 * probe.tolerance(precision)
    assert not probe.is_whole({"rows": [{"images": [{"path": r.images[0], "sha256": "0"}]} for r in rows]})


def test_kto_starts_at_its_reference_and_moves(kto: Ran) -> None:
    assert kto.ctx.series("rewards/chosen")[0] == kto.ctx.series("rewards/rejected")[0] == 0
    assert kto.ctx.series("kl/unclamped")[0] == 0
    assert any(kto.ctx.series("rewards/chosen")[1:])
    summary = kto.outcome.summary
    assert summary["reference_kept_as"] == "adapter_copy"
    assert summary["reference_difference"] < 1e-4
    assert "train.reference_proven" in kto.ctx.codes()


def test_dpo_after_kto_is_held_against_the_sft_model(
    sft: Ran, kto: Ran, pictures: dict[str, Path], run_step: Runner
) -> None:
    inputs = {
        "policy": kto.ref("adapter", "policy"),
        "reference": sft.ref("adapter", "reference"),
        "train_data": data_ref(pictures["dpo"]),
    }
    dpo = run_step("dpo", SETTINGS, inputs)
    assert dpo.outcome.summary["reference_difference"] < 1e-4
    assert dpo.ctx.series("rewards/chosen")[0] != 0  # KTO moved away from the reference already
    record = json.loads((sft.artifacts["adapter"] / "ARTIFACT.json").read_text(encoding="utf-8"))
    assert dpo.outcome.summary["reference_logps"] == pytest.approx(record["probe"]["logps"], abs=1e-3)


def test_a_reference_that_is_not_the_sft_model_is_caught_before_the_first_step(
    sft: Ran, pictures: dict[str, Path], run_step: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swiftshell.engines import loading, references

    def base_as_reference(policy: Any, reference: Any, params: Any, precision: Any) -> references.Models:
        base = loading.load_base(policy.base, precision)
        config = loading.saved_adapter_config(policy.adapter)
        return references.Models(base, config, None, policy.adapter, "adapter_off")

    monkeypatch.setattr(references, "build", base_as_reference)
    with pytest.raises(SwiftshellError) as caught:
        run_step("kto", SETTINGS, thumbs(sft, pictures))
    assert caught.value.problems[0].code == "train.reference_mismatch"


def test_full_fine_tuning_has_a_second_model_as_reference(
    vlm: Path, pictures: dict[str, Path], run_step: Runner
) -> None:
    inputs = {
        "policy": model_ref("policy", vlm),
        "reference": model_ref("reference", vlm),
        "train_data": data_ref(pictures["kto"]),
    }
    ran = run_step("kto", {**SETTINGS, "max_steps": 2, "tuning": "full", "learning_rate": 1e-3}, inputs)
    assert ran.ctx.series("rewards/chosen")[0] == 0
    assert "images.whole_model" in ran.ctx.codes()
    assert (ran.artifacts["model"] / "preprocessor_config.json").is_file()


def test_kl_pairs_keep_the_image_of_the_prompt(vlm: Path, pictures: dict[str, Path]) -> None:
    """The answer is the neighbour's, the prompt and its image are the row's own; weights go with the rows."""
    from trl.trainer.kto_trainer import DataCollatorForVisionUnpairedPreference

    from swiftshell.data.load import load_rows
    from swiftshell.engines import loading, vision
    from swiftshell.engines.kto_trainer import WithWeights

    eyes = vision.load_eyes(vlm, loading.load_tokenizer(vlm))
    assert eyes is not None
    rows = [{**r.data, "weight": 1.0 + i} for i, r in enumerate(load_rows(pictures["kto"], "kto")[:4])]
    batch = WithWeights(DataCollatorForVisionUnpairedPreference(eyes.processor))(
        vision.data_set(rows)[:4] and [vision.data_set(rows)[i] for i in range(4)]
    )
    assert batch["weight"].tolist() == [1, 2, 3, 4]
    answers = [r["completion"][0]["content"][0]["text"] for r in rows]
    for i in range(4):
        prompt, whole = (
            eyes.processor.tokenizer.decode(batch[k][i][batch[m][i] == 1])
            for k, m in (("KL_input_ids", "KL_attention_mask"), ("input_ids", "attention_mask"))
        )
        own, paired = whole.split("assistant\n")[1], prompt.split("assistant\n")[1]
        assert own.startswith(answers[i])
        assert paired.startswith(answers[i - 1])
        assert (
            prompt.count("<|image_pad|>")
            == whole.count("<|image_pad|>")
            == len(eyes.tokens_of(rows[i]["images"][0]))
        )
    assert len(batch["image_grid_thw"]) == 4


@pytest.mark.parametrize("stage", ["sft", "kto"])
def test_resumed_training_is_the_uninterrupted_one(
    stage: str, sft: Ran, pictures: dict[str, Path], vlm: Path, run_step: Runner, tmp_path: Path
) -> None:
    from swiftshell.stages.base import Stopped

    inputs = (
        {"policy": model_ref("policy", vlm), "train_data": data_ref(pictures["sft"])}
        if stage == "sft"
        else {**thumbs(sft, pictures), "train_data": data_ref(pictures[stage])}
    )
    params = {**SETTINGS, "num_train_epochs": 2, "max_steps": 4, "save_steps": 2}
    whole = run_step(stage, params, inputs, name="whole").ctx.series("loss")
    with pytest.raises(Stopped):
        run_step(stage, params, inputs, name="broken", stop_at=2)
    checkpoint = tmp_path / "broken" / "checkpoints" / "checkpoint-2"
    resumed = run_step(stage, params, inputs, name="resumed", resume_from=checkpoint).ctx.series("loss")
    assert resumed == pytest.approx(whole[2:], abs=1e-6)


def test_merging_gives_the_same_model_with_its_processor(kto: Ran, run_step: Runner) -> None:
    from swiftshell.engines import loading, probe, vision

    merged = run_step("merge", {}, {"adapter": kto.ref("adapter", "adapter")}).artifacts["model"]
    record = json.loads((kto.artifacts["adapter"] / "ARTIFACT.json").read_text(encoding="utf-8"))
    precision = loading.Precision("cpu", "float32", None)
    eyes = vision.load_eyes(merged, loading.load_tokenizer(merged))
    rows = probe.rows_of(record["probe"], eyes)
    logps = probe.independent_logps(loading.load_base(merged, precision), rows, precision)
    assert logps == pytest.approx(record["probe"]["logps"], abs=1e-2)


def test_rows_with_and_without_images_train_together(
    vlm: Path, pictures: dict[str, Path], tmp_path: Path, run_step: Runner
) -> None:
    lines = pictures["kto"].read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        row["images"] = [str(pictures["kto"].parent / name) for name in row["images"]]
    plain = [
        {
            "messages": [{"role": "user", "content": f"Say {i}"}, {"role": "assistant", "content": str(i)}],
            "label": bool(i % 2),
            "images": [],
        }
        for i in range(8)
    ]
    inputs = {
        "policy": model_ref("policy", vlm),
        "reference": model_ref("reference", vlm),
        "train_data": data_ref(write_jsonl(tmp_path / "mixed.jsonl", plain + rows)),
        "eval_data": data_ref(pictures["kto"], "eval_data"),
    }
    ran = run_step("kto", {**SETTINGS, "eval_steps": 2}, inputs)
    assert ran.outcome.summary["rows_trained"] == 24
    assert ran.ctx.series("rewards/chosen")[0] == 0
    assert ran.ctx.series("eval_loss")
    assert ran.outcome.summary["heldout"]["answers"] == 8  # rows repeat


def test_held_out_rewards_look_at_the_images(
    kto: Ran, sft: Ran, pictures: dict[str, Path], run_step: Runner
) -> None:
    """Two prompts of the same words are told apart by their pictures, and start at a reward of zero."""
    from swiftshell.engines import heldout_rewards

    seen: list[Any] = []
    real = heldout_rewards.HeldoutRewards._measure

    def listen(self: Any, step: int, z0: float | None) -> Any:
        seen.append((step, real(self, step, z0)))
        return seen[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heldout_rewards.HeldoutRewards, "_measure", listen)
        inputs = {**thumbs(sft, pictures), "eval_data": data_ref(pictures["dpo"], "eval_data")}
        ran = run_step("dpo", SETTINGS, {**inputs, "train_data": data_ref(pictures["dpo"])})
    (_, first), (_, last) = seen[0], seen[-1]
    assert set(first.ratios) == {0.0}
    assert any(last.ratios)
    assert len(first.ratios) == ran.outcome.summary["heldout"]["answers"] == 16


def test_text_rows_train_a_model_that_sees(vlm: Path, colours: dict[str, Path], run_step: Runner) -> None:
    inputs = {"policy": model_ref("policy", vlm), "train_data": data_ref(colours["sft"])}
    losses = run_step("sft", {**SETTINGS, "max_steps": 8}, inputs).ctx.series("loss")
    assert losses[-1] < losses[0]


def test_images_for_a_text_model_are_refused_before_weights_load(
    tiny: Path, pictures: dict[str, Path], run_step: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swiftshell.engines import loading

    monkeypatch.setattr(loading, "load_base", lambda *_: pytest.fail("weights were loaded"))
    inputs = {"policy": model_ref("policy", tiny), "train_data": data_ref(pictures["sft"])}
    with pytest.raises(SwiftshellError) as caught:
        run_step("sft", SETTINGS, inputs)
    assert "16 rows have images, and" in str(caught.value)
    assert "reads text only" in str(caught.value)


def test_a_row_is_counted_with_its_images(vlm: Path, pictures: dict[str, Path], run_step: Runner) -> None:
    inputs = {"policy": model_ref("policy", vlm), "train_data": data_ref(pictures["sft"])}
    with pytest.raises(SwiftshellError) as caught:
        run_step("sft", {**SETTINGS, "max_length": 20}, inputs)
    assert {p.code for p in caught.value.problems} == {"train.row_too_long", "train.rows_too_long"}


@pytest.mark.parametrize(
    ("params", "code"),
    [({"packing": True}, "images.packing"), ({"assistant_only_loss": True}, "images.assistant_only")],
)
def test_what_cannot_be_done_with_images(
    params: dict[str, Any], code: str, vlm: Path, pictures: dict[str, Path], run_step: Runner
) -> None:
    inputs = {"policy": model_ref("policy", vlm), "train_data": data_ref(pictures["sft"])}
    with pytest.raises(SwiftshellError) as caught:
        run_step("sft", {**SETTINGS, **params}, inputs)
    assert caught.value.problems[0].code == code


def test_a_model_without_its_image_processor(
    vlm: Path, pictures: dict[str, Path], tmp_path: Path, run_step: Runner
) -> None:
    folder = shutil.copytree(vlm, tmp_path / "model")
    (folder / "preprocessor_config.json").unlink()
    inputs = {"policy": model_ref("policy", folder), "train_data": data_ref(pictures["sft"])}
    with pytest.raises(SwiftshellError) as caught:
        run_step("sft", SETTINGS, inputs)
    assert "has no image processor that can be used" in str(caught.value)


def test_an_image_that_vanishes_while_training_is_named(
    vlm: Path, tmp_path: Path, run_step: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swiftshell.engines import vision

    drawn = draw(tmp_path / "img")
    rows = write_jsonl(tmp_path / "rows.jsonl", picture_rows("sft", drawn, tmp_path))
    real = vision.check_agreement

    def then_gone(*args: Any) -> None:
        real(*args)
        drawn[5][0].unlink()

    monkeypatch.setattr(vision, "check_agreement", then_gone)
    inputs = {"policy": model_ref("policy", vlm), "train_data": data_ref(rows)}
    with pytest.raises(SwiftshellError) as caught:
        run_step("sft", SETTINGS, inputs)
    assert caught.value.problems[0].code == "images.gone"
    assert str(drawn[5][0]) in str(caught.value)


def test_the_shared_rows_with_images(vlm: Path, shared_data: Path, run_step: Runner) -> None:
    inputs = {
        "policy": model_ref("policy", vlm),
        "reference": model_ref("reference", vlm),
        "train_data": data_ref(shared_data / "real" / "images" / "derived_kto.jsonl", limit=16),
    }
    ran = run_step("kto", {**SETTINGS, "max_length": 200}, inputs)
    assert ran.ctx.series("rewards/chosen")[0] == 0
    assert ran.outcome.artifacts["adapter"]["dataset"]["images"]["rows"] == 16


def test_one_command_from_a_model_folder_and_a_data_file(
    vlm: Path, pictures: dict[str, Path], tmp_path: Path
) -> None:
    """Plan, runner, worker and engine, as a person starts them."""
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items() if name != "lora"]
    command = [
        sys.executable,
        "-m",
        "swiftshell",
        "run",
        "kto",
        "--model",
        str(vlm),
        "--data",
        str(pictures["kto"]),
    ]
    done = subprocess.run(
        [*command, *settings, "--yes", "--plain", "--lang", "en", "-w", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert "note[images.rows]: 16 rows with 8 images" in said
    assert "note[train.reference_proven]: reference checked before the first step" in said


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava"])
def test_other_families(family: str, pictures: dict[str, Path], tmp_path: Path, run_step: Runner) -> None:
    model = build_vlm(tmp_path / family, family=family)
    inputs = {
        "policy": model_ref("policy", model),
        "reference": model_ref("reference", model),
        "train_data": data_ref(pictures["kto"]),
    }
    ran = run_step("kto", {**SETTINGS, "max_steps": 2}, inputs)
    assert ran.ctx.series("rewards/chosen")[0] == 0
    assert ran.ctx.series("rewards/chosen")[1] != 0
    assert ran.outcome.summary["reference_difference"] < 1e-4
