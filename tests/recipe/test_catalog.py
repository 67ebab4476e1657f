"""Shipped recipes: found from a checkout and from a wheel, copied without overwriting, each of them good."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swiftshell.errors import SwiftshellError
from swiftshell.i18n import sentence, set_language
from swiftshell.recipe import catalog
from swiftshell.recipe.load import load_recipe
from swiftshell.stages import registry

NAMES = [recipe.name for recipe in catalog.shipped()]


def test_the_starter_comes_first_and_every_purpose_is_there() -> None:
    assert NAMES[0] == "starter/all-stages"
    assert {name.partition("/")[0] for name in NAMES} == {"starter", "sft", "kto", "dpo", "pipeline"}
    assert 8 <= len([n for n in NAMES if not n.startswith("starter/")]) <= 12
    for family in ("qwen2.5-0.5b", "qwen2.5-7b", "qwen3-0.6b", "qwen3-8b"):
        assert any(family in name for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_recipe_is_good_and_says_how_to_use_it(name: str) -> None:
    shipped = next(r for r in catalog.shipped() if r.name == name)
    recipe = load_recipe(shipped.path)
    assert recipe.notes == ()
    assert tuple(dict.fromkeys(step.stage for step in recipe.steps)) == shipped.stages
    assert all(model.revision is None for model in recipe.models.values()), "download resolves and records it"
    assert all(entry.revision is None for entry in recipe.data.values())
    assert shipped.summaries.keys() == {"en", "zh"}
    assert f"# Run:   swiftshell run recipes/{name}.yaml" in recipe.text
    assert f"# Copy:  swiftshell recipes copy {name} mine.yaml" in recipe.text
    assert "\n# Needs: " in recipe.text


@pytest.mark.parametrize("name", [n for n in NAMES if "all-stages" in n])
def test_a_pipeline_has_the_eight_stages_in_their_order(name: str) -> None:
    path = catalog.find(name)
    assert path is not None
    recipe = load_recipe(path)
    assert next(r for r in catalog.shipped() if r.name == name).stages == registry.PIPELINE
    assert [ref.text for ref in recipe.step("score").refs("models")] == [
        "base.model",
        "sft.adapter",
        "kto.adapter",
        "dpo.adapter",
        "merged.model",
        "quantized.model",
    ]
    for step in ("kto", "dpo"):
        assert recipe.step(step).refs("reference")[0].text == "sft.adapter", (
            "the reference stays the SFT model"
        )
    assert recipe.step("dpo").refs("policy")[0].text == "kto.adapter"


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("starter/")])
def test_the_starters_recipes_use_its_measured_settings(name: str) -> None:
    import swiftshell.starter

    settings = json.loads(
        (Path(swiftshell.starter.__file__).parent / "settings.json").read_text(encoding="utf-8")
    )
    path = catalog.find(name)
    assert path is not None
    for step in load_recipe(path).steps:
        if step.stage not in ("sft", "kto", "dpo"):
            continue
        given = registry.get(step.stage).params.model_validate(dict(step.params)).model_dump()
        wanted = registry.get(step.stage).params.model_validate(settings[step.stage]).model_dump()
        assert {key: given[key] for key in settings[step.stage]} == {
            key: wanted[key] for key in settings[step.stage]
        }, f"write the settings of {step.stage} into recipes/{name}.yaml"


def test_find_takes_a_file_a_name_its_last_part_and_the_way_it_is_written_in_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    home = catalog.folder()
    assert catalog.find("starter/all-stages") == home / "starter/all-stages.yaml"
    assert catalog.find("recipes/starter/all-stages.yaml") == home / "starter/all-stages.yaml"
    assert catalog.find("qwen3-8b-qlora-dpo") == home / "dpo/qwen3-8b-qlora-dpo.yaml"
    (tmp_path / "mine.yaml").write_text("schema: 1")
    assert catalog.find("mine.yaml") == Path("mine.yaml")
    assert catalog.find("starter/al-stages") is None
    assert catalog.closest("starter/al-stages") == "starter/all-stages"
    assert catalog.closest("qwen3-8b-dpo") == "dpo/qwen3-8b-qlora-dpo"


def test_a_last_part_that_fits_several_is_asked_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in ("starter", "a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.yaml").write_text("# Same.\nschema: 1")
    monkeypatch.setattr(catalog, "PLACES", (tmp_path / "absent", tmp_path))
    catalog.shipped.cache_clear()
    try:
        with pytest.raises(SwiftshellError) as caught:
            catalog.find("same")
        assert "could be several shipped recipes: starter/same, a/same, b/same" in sentence(
            caught.value.problems[0]
        )
        assert catalog.find("a/same") == tmp_path / "a/same.yaml", "the second place is the wheel's"
    finally:
        catalog.shipped.cache_clear()


def test_an_installation_without_recipes_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog, "PLACES", (tmp_path,))
    with pytest.raises(SwiftshellError) as caught:
        catalog.folder()
    assert caught.value.problems[0].code == "recipe.shipped_absent"


def test_copy_writes_the_same_text_and_never_overwrites(tmp_path: Path) -> None:
    made = catalog.copy("starter/kto", tmp_path / "new" / "mine.yaml")
    source = catalog.find("starter/kto")
    assert source is not None
    assert made.read_text() == source.read_text()
    assert load_recipe(made).name == "starter-kto"
    assert catalog.copy("starter/kto", tmp_path) == tmp_path / "kto.yaml"
    made.write_text("mine")
    with pytest.raises(SwiftshellError) as caught:
        catalog.copy("starter/kto", made)
    assert f"{made} exists already and is not overwritten" in sentence(caught.value.problems[0])
    assert made.read_text() == "mine"
    with pytest.raises(SwiftshellError) as caught:
        catalog.copy("starter/ktto", tmp_path / "x.yaml")
    assert "did you mean starter/kto?" in sentence(caught.value.problems[0])
    with pytest.raises(SwiftshellError) as caught:
        catalog.copy("starter/kto", made / "below-a-file.yaml")
    assert caught.value.problems[0].code == "recipe.copy_failed"


def test_summaries_speak_the_language_in_force() -> None:
    first = catalog.shipped()[0]
    assert first.summary.startswith("All eight stages on the embedded starter model")
    set_language("zh")
    try:
        assert first.summary.startswith("在内置的小模型上跑完全部八个阶段")
    finally:
        set_language("auto")
