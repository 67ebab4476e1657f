"""Every message and every parameter's description is there, in both languages, with the values it is given."""

from __future__ import annotations

import re
import string
from pathlib import Path

import pytest

import swiftshell
from swiftshell.i18n import LANGUAGES, catalogue, set_language
from swiftshell.recipe.describe import describe_param, param_key, param_names
from swiftshell.stages import registry

SOURCES = [
    *(Path(swiftshell.__file__).parent / "recipe").glob("*.py"),
    *(Path(swiftshell.__file__).parent / "api").glob("legacy*.py"),
]


@pytest.mark.parametrize("stage", registry.names())
@pytest.mark.parametrize("lang", LANGUAGES)
def test_every_parameter_is_described(stage: str, lang: str) -> None:
    set_language(lang)
    try:
        silent = [name for name in param_names(stage) if len(describe_param(stage, name)) < 4]
    finally:
        set_language("auto")
    assert silent == []


@pytest.mark.parametrize("lang", LANGUAGES)
def test_no_description_is_left_over(lang: str) -> None:
    used = {param_key(stage, name) for stage in registry.names() for name in param_names(stage)}
    assert {key for key in catalogue(lang) if key.startswith("params.")} - used == set()


def test_a_stages_own_description_comes_before_the_shared_one() -> None:
    assert param_key("kto", "beta") == "params.kto.beta"
    assert param_key("kto", "max_length") == "params.shared.max_length"
    assert "KL" in describe_param("kto", "per_device_train_batch_size")
    assert describe_param("kto", "lora.r").startswith("Rank")
    assert describe_param("kto", "no_such_thing") == ""


def test_every_code_used_has_a_sentence_and_every_sentence_is_used() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES)
    used = {code for code in re.findall(r'"recipe\.([a-z_0-9]+)"', text) if not code.endswith("_")}
    used |= set(re.findall(r'_(?:problem|note)\(\s*"([a-z_]+)"', text))
    used |= {
        code
        for pair in re.findall(r'_(?:problem|note)\(\s*"([a-z_]+)" if [^,]*? else "([a-z_]+)"', text)
        for code in pair
    }
    used |= {
        f"param_{kind}{end}" for kind in ("int", "float", "bool", "str", "list", "map") for end in ("", "_or")
    }
    used -= {"yaml", "yml"}
    for lang in LANGUAGES:
        known = {key.removeprefix("recipe.") for key in catalogue(lang) if key.startswith("recipe.")}
        sentences = {key for key in known if not key.endswith(".hint")}
        assert used - sentences == set()
        assert sentences - used == set()
        assert {key.removesuffix(".hint") for key in known} == sentences, "a hint belongs to a sentence"


def test_both_languages_use_the_same_values() -> None:
    def values(template: str) -> set[str]:
        return {name for _text, name, _spec, _conversion in string.Formatter().parse(template) if name}

    for key, english in catalogue("en").items():
        if key.startswith(("recipe.", "params.")):
            assert "key" not in values(english), f"{key}: t() has a parameter of this name"
            assert values(catalogue("zh")[key]) == values(english), key
