"""Where the language comes from, and that a choice is kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from swiftshell import i18n, settings


@pytest.fixture(autouse=True)
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("LANG", "C.UTF-8")
    yield tmp_path / "config" / "swiftshell" / "settings.json"
    i18n.set_language("auto")


def test_flag_then_environment_then_file_then_locale(monkeypatch: pytest.MonkeyPatch, own_settings: Path) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert (settings.language().value, settings.language().source) == ("zh", "locale")
    settings.save("language", "en")
    assert (settings.language().value, settings.language().source) == ("en", "file")
    assert settings.language().where == str(own_settings)
    monkeypatch.setenv("SWIFTSHELL_LANG", "zh")
    assert (settings.language().value, settings.language().source) == ("zh", "environment")
    assert (settings.language("en").value, settings.language("en").source) == ("en", "flag")


def test_auto_asks_the_locale_whatever_was_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.save("language", "zh")
    assert settings.language("auto").source == "locale"
    assert settings.language("auto").value == "en"


def test_other_values_in_the_file_are_kept(own_settings: Path) -> None:
    own_settings.parent.mkdir(parents=True)
    own_settings.write_text('{"colour": "green"}', encoding="utf-8")
    settings.save("language", "zh")
    assert json.loads(own_settings.read_text(encoding="utf-8")) == {"v": 1, "colour": "green", "language": "zh"}
    assert [p.name for p in own_settings.parent.iterdir()] == ["settings.json"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"language": "klingon"}', '{"language": ["en"]}'])
def test_a_damaged_file_counts_as_empty(own_settings: Path, content: str) -> None:
    own_settings.parent.mkdir(parents=True)
    own_settings.write_text(content, encoding="utf-8")
    assert settings.language().source == "locale"
    settings.save("language", "zh")
    assert settings.language().value == "zh"


def test_the_saved_language_is_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    settings.save("language", "zh")
    settings.use_saved_language()
    assert i18n.language() == "zh"
    i18n.set_language("en")
    settings.use_saved_language()
    assert i18n.language() == "en"


def test_the_home_folder_is_used_without_xdg(tmp_path: Path) -> None:
    found = settings.path({"HOME": str(tmp_path)})
    assert found == tmp_path / ".config" / "swiftshell" / "settings.json"
