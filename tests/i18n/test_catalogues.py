"""Both catalogues are complete, agree on their blanks, and hold every message the code uses."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Iterator
from pathlib import Path

import pytest

import swiftshell
from swiftshell.errors import Problem
from swiftshell.i18n import catalogue, detect, sentence, set_language, t

PACKAGE = Path(swiftshell.__file__).parent
SPEAKERS = {"fail", "Problem", "t", "note", "warn", "_", "what"}
KEY = re.compile(r"[a-z_]+(\.[A-Za-z0-9_]+)+")


def blanks(template: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(template) if name}


def used() -> Iterator[tuple[str, str]]:
    """Yield every literal key that is spoken: the first argument of a speaking call that looks like a key."""
    areas = {key.split(".")[0] for key in catalogue("en")}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
            first = node.args[0]
            if name in SPEAKERS and isinstance(first, ast.Constant) and isinstance(first.value, str) \
                    and KEY.fullmatch(first.value) and first.value.split(".")[0] in areas:
                yield first.value, f"{path.relative_to(PACKAGE)}:{node.lineno}"


def test_the_languages_have_the_same_keys() -> None:
    assert set(catalogue("en")) == set(catalogue("zh"))


def test_each_message_has_the_same_blanks_in_both_languages() -> None:
    different = [key for key, text in catalogue("en").items() if not key.startswith("argparse.")
                 and blanks(text) != blanks(catalogue("zh")[key])]
    assert different == []


def test_every_key_lives_in_the_file_of_its_area() -> None:
    import json

    for path in (PACKAGE / "i18n").glob("*/*.json"):
        keys = json.loads(path.read_text(encoding="utf-8"))
        assert {key.split(".")[0] for key in keys} == {path.stem}, path


def test_every_message_the_code_speaks_is_there() -> None:
    found = list(used())
    assert len(found) > 200, "the search no longer finds the calls"
    assert [(key, where) for key, where in found if key not in catalogue("en")] == []


def test_chinese_is_chinese() -> None:
    """No sentence was left in English: every hint and most messages have Chinese characters."""
    han = re.compile(r"[\u4e00-\u9fff]")
    left = [key for key, text in catalogue("zh").items() if key.endswith(".hint") and len(text) > 25
            and not han.search(text) and not text.startswith((".", "swiftshell", "chmod", "{"))]
    assert left == []


@pytest.mark.parametrize(("env", "lang"), [
    ({"LANG": "zh_CN.UTF-8"}, "zh"), ({"LANG": "de_DE.UTF-8"}, "en"), ({}, "en"),
    ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"), ({"LANG": "C", "SWIFTSHELL_LANG": "zh"}, "zh"),
    ({"LC_MESSAGES": "zh_TW.UTF-8", "LANG": "en_US.UTF-8"}, "zh"),
])
def test_the_locale_decides(env: dict[str, str], lang: str) -> None:
    assert detect(env) == lang


def test_a_message_never_fails_for_want_of_a_value() -> None:
    assert "{text}" in t("engine.echo_failed")


def test_an_error_says_what_where_and_what_to_do() -> None:
    problem = Problem("engine.echo_failed", {"text": "x"}, file="a.yaml", line=3, column=7, row=2)
    set_language("zh")
    try:
        lines = sentence(problem).splitlines()
    finally:
        set_language("auto")
    assert lines[0].startswith("错误[engine.echo_failed]")
    assert lines[1] == "  --> a.yaml:3:7 (第 2 行)"
    assert lines[2].startswith("建议")
