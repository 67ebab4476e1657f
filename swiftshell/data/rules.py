"""Judge a generated text by declared rules: what it contains, how long it is, in which language.

A held-out row may carry `"rules": {...}`. Rules look at the text alone, never at the model; all must hold:

    contains      list of strings, all of which must occur
    contains_any  list of strings, at least one of which must occur
    excludes      list of strings, none of which may occur
    starts_with   string, or a list of strings one of which must match
    ends_with     the same for the end
    regex         pattern found somewhere in the text
    min_chars     least number of characters
    max_chars     greatest number of characters
    language      "zh" or "en", by the writing
    ignore_case   true: compare without regard to case

Text is stripped of surrounding white space first; characters are Unicode code points.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

LANGUAGES = ("zh", "en")

_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")
_LATIN_WORD = re.compile(r"[A-Za-z]+")


class Verdict(NamedTuple):
    """Say whether a text meets every rule, and name the rules that it does not meet."""

    ok: bool
    failed: tuple[str, ...]


def judge(text: str, rules: Mapping[str, Any]) -> Verdict:
    """Judge a text by rules.

    `failed` names the broken rules in the order in which they are declared.

    Raises:
        ValueError: the rules themselves are wrong (see `check_rules`).
    """
    check_rules(rules)
    fold = bool(rules.get("ignore_case", False))
    plain = _fold(text.strip(), fold)
    failed = tuple(
        key for key, value in rules.items() if key in _TESTS and not _TESTS[key](plain, value, fold)
    )
    return Verdict(not failed, failed)


def check_rules(rules: Mapping[str, Any]) -> None:
    """Check that every rule is known and has a value of its type.

    Raises:
        ValueError: naming the key, the value found and, for an unknown key, the nearest known one.
    """
    if not isinstance(rules, Mapping):
        raise ValueError(f'rules must be an object such as {{"contains": [...]}}, found {rules!r}')
    for key, value in rules.items():
        if key not in _EXPECTED:
            near = difflib.get_close_matches(str(key), _EXPECTED, n=1, cutoff=0.5)
            known = f"did you mean {near[0]!r}?" if near else f"known rules: {', '.join(_EXPECTED)}"
            raise ValueError(f"unknown rule {key!r}; {known}")
        wanted, valid = _EXPECTED[key]
        if not valid(value):
            raise ValueError(f"rule {key!r} must be {wanted}, found {value!r}")
    if "min_chars" in rules and "max_chars" in rules and rules["min_chars"] > rules["max_chars"]:
        raise ValueError(
            f"rule 'min_chars' ({rules['min_chars']}) is above 'max_chars' ({rules['max_chars']})"
        )
    _check_regex(rules)


def language_of(text: str) -> str | None:
    """Tell the language by the writing: "zh", "en", or None for a text without letters.

    A Chinese character counts as much as a Latin word: a Chinese sentence with a foreign name in it stays
    Chinese.
    """
    han, latin = len(_HAN.findall(text)), len(_LATIN_WORD.findall(text))
    if han == latin == 0:
        return None
    return "zh" if han >= latin else "en"


def _fold(text: str, fold: bool) -> str:
    return text.casefold() if fold else text


def _strings(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _is_strings(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(v, str) and v for v in value)


def _is_string_or_strings(value: Any) -> bool:
    return _is_strings(value) or (isinstance(value, str) and bool(value))


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check_regex(rules: Mapping[str, Any]) -> None:
    if "regex" not in rules:
        return
    try:
        re.compile(rules["regex"])
    except re.error as error:
        raise ValueError(
            f"rule 'regex' must be a regular expression, found {rules['regex']!r}: {error}"
        ) from None


_EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "contains": ("a list of strings", _is_strings),
    "contains_any": ("a list of strings", _is_strings),
    "excludes": ("a list of strings", _is_strings),
    "starts_with": ("a string or a list of strings", _is_string_or_strings),
    "ends_with": ("a string or a list of strings", _is_string_or_strings),
    "regex": ("a regular expression", lambda value: isinstance(value, str) and bool(value)),
    "min_chars": ("a whole number, 0 or more", _is_count),
    "max_chars": ("a whole number, 0 or more", _is_count),
    "language": ('"zh" or "en"', lambda value: value in LANGUAGES),
    "ignore_case": ("true or false", lambda value: isinstance(value, bool)),
}

# Each test gets the stripped (if asked for, case-folded) text, the rule's value and whether case is folded.
_TESTS: dict[str, Callable[[str, Any, bool], bool]] = {
    "contains": lambda text, value, fold: all(_fold(v, fold) in text for v in value),
    "contains_any": lambda text, value, fold: any(_fold(v, fold) in text for v in value),
    "excludes": lambda text, value, fold: not any(_fold(v, fold) in text for v in value),
    "starts_with": lambda text, value, fold: text.startswith(tuple(_fold(v, fold) for v in _strings(value))),
    "ends_with": lambda text, value, fold: text.endswith(tuple(_fold(v, fold) for v in _strings(value))),
    "regex": lambda text, value, fold: re.search(value, text, re.IGNORECASE if fold else 0) is not None,
    "min_chars": lambda text, value, fold: len(text) >= value,
    "max_chars": lambda text, value, fold: len(text) <= value,
    "language": lambda text, value, fold: language_of(text) == value,
}
