"""Judge texts by declared rules, and refuse rules that are wrong."""

from __future__ import annotations

from typing import Any

import pytest

from swiftshell.data.rules import Verdict, check_rules, judge, language_of


@pytest.mark.parametrize(
    ("text", "rules", "failed"),
    [
        ("Mia has a kite.", {"contains": ["Mia", "kite"]}, ()),
        ("Mia has a kite.", {"contains": ["Mia", "drum"]}, ("contains",)),
        ("Mia has a kite.", {"contains_any": ["drum", "kite"]}, ()),
        ("Mia has a kite.", {"contains_any": ["drum", "lamp"]}, ("contains_any",)),
        ("Mia has a kite.", {"excludes": ["drum"]}, ()),
        ("Mia has a kite.", {"excludes": ["drum", "kite"]}, ("excludes",)),
        ("Mia has a kite.", {"starts_with": "Mia"}, ()),
        ("Mia has a kite.", {"starts_with": ["Tom", "Mia"]}, ()),
        ("Mia has a kite.", {"starts_with": "mia"}, ("starts_with",)),
        ("Mia has a kite.", {"starts_with": "mia", "ignore_case": True}, ()),
        ("  Mia has a kite.\n", {"starts_with": "Mia", "ends_with": "."}, ()),
        ("Mia has a kite", {"ends_with": [".", "!"]}, ("ends_with",)),
        ("Room 12", {"regex": r"\d+"}, ()),
        ("Room twelve", {"regex": r"\d+"}, ("regex",)),
        ("KITE", {"regex": "kite", "ignore_case": True}, ()),
        ("四个字符", {"min_chars": 4, "max_chars": 4}, ()),
        ("四个字符", {"min_chars": 5}, ("min_chars",)),
        ("四个字符", {"max_chars": 3}, ("max_chars",)),
        ("你好！", {"language": "zh"}, ()),
        ("你好！", {"language": "en"}, ("language",)),
        ("12.", {"language": "en"}, ("language",)),
        ("", {"language": "en", "min_chars": 1, "contains": ["a"]}, ("language", "min_chars", "contains")),
        ("anything", {}, ()),
    ],
)
def test_judge(text: str, rules: dict[str, Any], failed: tuple[str, ...]) -> None:
    assert judge(text, rules) == Verdict(not failed, failed)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("李明有一台 iPhone。", "zh"),
        ("Beijing (北京) is the capital of China.", "en"),
        ("Thank you", "en"),
        ("42!", None),
    ],
)
def test_language_of(text: str, language: str | None) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"contain": ["a"]}, "unknown rule 'contain'; did you mean 'contains'?"),
        ({"max_char": 5}, "unknown rule 'max_char'; did you mean 'max_chars'?"),
        ({"zzz": 1}, "unknown rule 'zzz'; known rules: contains, contains_any"),
        ({"contains": "kite"}, "rule 'contains' must be a list of strings, found 'kite'"),
        ({"contains": []}, "rule 'contains' must be a list of strings, found []"),
        ({"excludes": ["a", 3]}, "rule 'excludes' must be a list of strings, found ['a', 3]"),
        ({"starts_with": 3}, "rule 'starts_with' must be a string or a list of strings, found 3"),
        ({"regex": "("}, "rule 'regex' must be a regular expression, found '('"),
        ({"min_chars": "5"}, "rule 'min_chars' must be a whole number, 0 or more, found '5'"),
        ({"max_chars": -1}, "rule 'max_chars' must be a whole number, 0 or more, found -1"),
        ({"max_chars": True}, "rule 'max_chars' must be a whole number, 0 or more, found True"),
        ({"min_chars": 9, "max_chars": 3}, "rule 'min_chars' (9) is above 'max_chars' (3)"),
        ({"language": "fr"}, "rule 'language' must be \"zh\" or \"en\", found 'fr'"),
        ({"language": ["zh"]}, "rule 'language' must be \"zh\" or \"en\", found ['zh']"),
        ({"ignore_case": "yes"}, "rule 'ignore_case' must be true or false, found 'yes'"),
        (["contains"], "rules must be an object"),
    ],
)
def test_wrong_rules_are_refused_by_name(rules: Any, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_rules(rules)
    assert message in str(caught.value)
    with pytest.raises(ValueError):
        judge("anything", rules)
