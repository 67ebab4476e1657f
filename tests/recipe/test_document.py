"""YAML with places: values of YAML 1.2, marks, and every way a text can fail to be YAML."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from swiftshell.errors import Problem, SwiftshellError
from swiftshell.recipe import document
from swiftshell.recipe.document import parse_document, parse_value, read_document, to_yaml


def problem(text: str) -> Problem:
    with pytest.raises(SwiftshellError) as caught:
        parse_document(text, "mine.yaml")
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5e-7", 5e-7),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        ("1.", 1.0),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("+3", 3),
        ("yes", "yes"),
        ("off", "off"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("null", None),
        ("''", ""),
        ("2026-01-01", "2026-01-01"),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("'5'", "5"),
        ("!!str 5e-7", "5e-7"),
        ("!!float 3", 3.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("[a, 1]", ["a", 1]),
        ("{a: {b: 2}}", {"a": {"b": 2}}),
        ("好", "好"),
        ("e5", "e5"),
        ("1e", "1e"),
        (".", "."),
        ("-", [None]),
    ],
)
def test_values_follow_yaml_1_2(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_every_key_and_value_has_a_place() -> None:
    text = "name: demo\nsteps:\n  - {id: sft, params: {learning_rate: 5e-7}}\n  -\n    id: kto\n"
    found = parse_document(text, "mine.yaml")
    assert found.key_mark(("name",)) == (1, 1)
    assert found.value_mark(("name",)) == (1, 7)
    assert found.value_mark(("steps", 0)) == (3, 5)
    assert found.key_mark(("steps", 0, "params", "learning_rate")) == (3, 24)
    assert found.value_mark(("steps", 0, "params", "learning_rate")) == (3, 39)
    assert found.key_mark(("steps", 1, "id")) == (5, 5)
    assert found.key_mark(("steps", 0, "params", "absent")) == (3, 15), (
        "an absent entry is placed at what encloses it"
    )


def test_columns_count_characters_not_bytes() -> None:
    assert parse_document("{数据: 1, 模型: 2}").key_mark(("模型",)) == (1, 9)


def test_anchors_and_merge_keys_work() -> None:
    text = "a: &x {p: 1, q: {r: 2}}\nb: *x\nc: {<<: *x, p: 3}\nd: {<<: [{q: 9}, *x]}\n"
    found = parse_document(text)
    assert found.data == {
        "a": {"p": 1, "q": {"r": 2}},
        "b": {"p": 1, "q": {"r": 2}},
        "c": {"p": 3, "q": {"r": 2}},
        "d": {"q": 9, "p": 1},
    }
    assert found.key_mark(("c", "q", "r")) == (1, 18), "a merged value is placed where it was written"
    assert found.key_mark(("c", "p")) == (3, 13)


def test_duplicate_keys_are_refused_with_both_places() -> None:
    with pytest.raises(SwiftshellError) as caught:
        parse_document("a: 1\nb:\n  c: 1\n  c: 2\na: 3\n", "mine.yaml")
    assert [
        (p.code, p.line, p.column, p.values["name"], p.values["first"]) for p in caught.value.problems
    ] == [("recipe.duplicate_key", 4, 3, "c", "3:3"), ("recipe.duplicate_key", 5, 1, "a", "1:1")]


@pytest.mark.parametrize(
    ("text", "code", "line", "column"),
    [
        ("a:\n\tb: 1", "yaml_tab", 2, 1),
        ("a:\n  b: 1\n  \tc: 2", "yaml_tab", 3, 3),
        ("a:\n   b: 1\n  c: 2", "yaml_indent", 3, 3),
        ("a: 1\n b: 2", "yaml_indent", 2, 3),
        ("- a\nb: 1", "yaml_indent", 2, 1),
        ("a: [1,\nb: 2\n", "yaml_unclosed", 1, 4),
        ("a: 1\nb: 'x\n", "yaml_unclosed", 2, 4),
        ("a: 1\nsteps:\n  - {id: a stage: b}\n", "yaml_unclosed", 3, 5),
        ("a: *q", "yaml_alias", 1, 4),
        ("a: &x 1\nb: &x 2", "yaml_anchor", 2, 4),
        ("a: @x", "yaml_start", 1, 4),
        ("a: 1\n---\nb: 2", "yaml_documents", 2, 1),
        ('a: "x\\q"', "yaml_syntax", 1, 6),
        ("a: !!python/object/apply:os.system [x]", "yaml_tag", 1, 4),
        ("a: !mine 3", "yaml_tag", 1, 4),
        ("a: !!int x", "yaml_tag", 1, 4),
        ("? [a]\n: 1", "yaml_key", 1, 3),
        ("<<: 3", "yaml_merge", 1, 1),
        ("a: &a [*a]", "yaml_deep", 1, 4),
        ("a: b\x07", "yaml_character", 1, None),
    ],
)
def test_what_is_not_yaml_is_said_in_one_sentence_with_its_place(
    text: str, code: str, line: int, column: int | None
) -> None:
    found = problem(text)
    assert (found.code, found.file, found.line, found.column) == (f"recipe.{code}", "mine.yaml", line, column)


@pytest.mark.parametrize("text", ["", "   \n", "# only a comment\n", "---\n"])
def test_an_empty_recipe_is_said(text: str) -> None:
    if text == "---\n":
        assert parse_document(text).data is None
    else:
        assert problem(text).code == "recipe.empty"


def test_deep_and_endless_texts_end_quickly() -> None:
    assert problem("[" * 100_000).code.startswith("recipe.yaml_")
    assert problem("\n".join(" " * i + "a:" for i in range(300))).code == "recipe.yaml_deep"
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
        f"b{i}: &b{i} [{','.join(['*' + ('a' if i == 0 else f'b{i - 1}')] * 9)}]" for i in range(9)
    )
    assert problem(bomb).code == "recipe.yaml_many"


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def code_of(path: Path) -> Problem:
        with pytest.raises(SwiftshellError) as caught:
            read_document(path)
        return caught.value.problems[0]

    (tmp_path / "kto.yaml").write_text("a: 1", encoding="utf-8")
    (tmp_path / "latin.yaml").write_bytes("a: 1\nb: caf\xe9\n".encode("latin-1"))
    near = code_of(tmp_path / "kot.yaml")
    assert (near.code, near.values["nearest"]) == ("recipe.not_found_near", str(tmp_path / "kto.yaml"))
    assert code_of(tmp_path / "zzzzzz.yaml").code == "recipe.not_found"
    assert code_of(tmp_path).code == "recipe.is_folder"
    latin = code_of(tmp_path / "latin.yaml")
    assert (latin.code, latin.line, latin.column, latin.values["byte"]) == ("recipe.not_utf8", 2, 7, "0xe9")
    monkeypatch.setattr(document, "MAX_BYTES", 3)
    assert code_of(tmp_path / "kto.yaml").code == "recipe.too_large"


def test_every_problem_can_be_said() -> None:
    """A value named like a parameter of the function that formats it would hide the error behind another."""
    from swiftshell.i18n import sentence

    assert sentence(problem("a: 1\na: 2")) == (
        'error[recipe.duplicate_key]: the key "a" is here for the second time; the first is at 1:1\n'
        "  --> mine.yaml:2:1\nhint: keep one of the two"
    )


def test_a_byte_order_mark_is_no_part_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: x\n")
    found = read_document(path)
    assert found.data == {"name": "x"}
    assert found.key_mark(("name",)) == (1, 1)


def test_what_is_written_is_read_back_unchanged() -> None:
    data = {
        "a": "5e-7",
        "b": "yes",
        "c": "010",
        "d": 5e-6,
        "e": [None, True, "true", "null", "0o7", "2026-01-01"],
        "f": {"路径": Path("/x"), "g": ("1:30", "~", "a: b", " x ")},
        "h": 1e22,
        "i": -0.5,
        "j": "",
        "k": {},
    }
    expected = {**data, "f": {"路径": "/x", "g": ["1:30", "~", "a: b", " x "]}}
    assert parse_document(to_yaml(data)).data == expected


def test_pure_python_yaml_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML without its C part must not lead to other answers."""
    import yaml

    class Pure(yaml.SafeLoader):
        yaml_implicit_resolvers = document._Loader.yaml_implicit_resolvers

    monkeypatch.setattr(document, "_Loader", Pure)
    assert parse_value("5e-7") == 5e-7
    for text, code in (
        ("a:\n\tb: 1", "tab"),
        ("a: [1,\nb: 2\n", "unclosed"),
        ("a: *q", "alias"),
        ("a: @x", "start"),
        ("a:\n   b: 1\n  c: 2", "indent"),
        ("a: 1\n---\nb: 2", "documents"),
    ):
        assert problem(text).code == f"recipe.yaml_{code}", text
