"""Find what looks like personal data or a secret in text: hints for a person to look at, never a proof of absence.

Numbers are believed only if their check digits fit. What was found is shown masked, so that a report of a check does
not spread it.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from datetime import date
from typing import NamedTuple


class Found(NamedTuple):
    """Something that was found: its kind (the end of its problem's code) and the masked text."""

    kind: str
    masked: str


_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*\.[A-Za-z]{2,24}\b")
_PHONE_CN = re.compile(r"(?<![\dA-Za-z.+-])(?:\+?86[ -]?)?1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?![\dA-Za-z])(?!\.\d)")
_PHONE_WORLD = re.compile(r"(?<![\w.])(?<!\d )\+(?!86)[1-9]\d{0,2}[ .-]?\(?\d{1,4}\)?(?:[ .-]?\d{2,4}){2,4}(?!\d)")
_PHONE_US = re.compile(r"(?<![\w.-])\(?[2-9]\d{2}\)?[ .-][2-9]\d{2}[ .-]\d{4}(?![\w-])")
_ID_CARD = re.compile(r"(?<![\dA-Za-z])[1-9]\d{16}[\dXx](?![\dA-Za-z])")
# Numbers of reckonings pass Luhn's check one time in ten: cards are not written beside signs of arithmetic.
_BANK_CARD = re.compile(
    r"(?<![\dA-Za-z.,=+*/×-])(?<![=+*/×-] )"
    r"(?:3[47]\d{13}|(?:4\d|5[1-5]|2[2-7]|62|60|35)\d{14}(?:\d{3})?"
    r"|[2-6]\d{3}(?P<gap>[ -])\d{4}(?P=gap)\d{4}(?P=gap)\d{4}(?:(?P=gap)\d{3})?)"
    r"(?![\dA-Za-z]|[.,]\d| ?[=+*/×])"
)
_IP = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w.]*\d)")
_SECRETS = re.compile(
    r"\bAKIA[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{36,}\b"
    r"|\bgithub_pat_[A-Za-z0-9_]{40,}\b"
    r"|\bhf_[A-Za-z0-9]{30,}\b"
    r"|\bsk-(?:[a-z]+-)?[A-Za-z0-9_-]{20,}\b"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,}"
    r"|\bAIza[0-9A-Za-z_-]{35}\b"
    r"|\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)
_SECRET_STARTS = ("AKIA", "gh", "hf_", "sk-", "xox", "AIza", "eyJ", "PRIVATE KEY")
_LONG_NUMBER = re.compile(r"\d[\d .()-]{5}")
# Addresses that documentation writes; nobody reads mail there (RFC 2606).
_EXAMPLE_DOMAINS = ("example.com", "example.org", "example.net", ".example", ".test", ".invalid", ".localhost")
_ID_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_ID_CHECK = "10X98765432"


def personal_data(text: str) -> Iterator[Found]:
    """Yield what looks like personal data in a text, by kind."""
    if "@" in text:
        for match in _EMAIL.finditer(text):
            if not match[0].lower().endswith(_EXAMPLE_DOMAINS):
                yield Found("email", _masked(match[0]))
    if _LONG_NUMBER.search(text):
        yield from _numbers(text)
    if any(start in text for start in _SECRET_STARTS):
        for match in _SECRETS.finditer(text):
            yield Found("secret", _masked(match[0]))


def _numbers(text: str) -> Iterator[Found]:
    taken: list[tuple[int, int]] = []
    for kind, pattern, good in _NUMBERS:
        for match in pattern.finditer(text):
            free = all(match.end() <= start or match.start() >= end for start, end in taken)
            if free and good(match[0]):
                taken.append(match.span())
                yield Found(kind, _masked(match[0]))


def is_id_card(number: str) -> bool:
    """Tell whether 18 characters are a Chinese resident's number: a real birthday and the right check character."""
    try:
        born = date(int(number[6:10]), int(number[10:12]), int(number[12:14]))
    except ValueError:
        return False
    total = sum(int(digit) * weight for digit, weight in zip(number, _ID_WEIGHTS, strict=False))
    return born.year >= 1900 and born <= date.today() and _ID_CHECK[total % 11] == number[17].upper()


def is_bank_card(number: str) -> bool:
    """Tell whether a number passes Luhn's check and is as long as those of bank cards."""
    digits = [int(c) for c in number if c.isdigit()]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 3:
        return False
    doubled = [d * 2 - 9 * (d > 4) for d in digits[-2::-2]]
    return (sum(doubled) + sum(digits[::-2])) % 10 == 0


def _is_public(address: str) -> bool:
    if len(address) == len("1.2.3.4"):  # as versions are numbered
        return False
    try:
        return ipaddress.IPv4Address(address).is_global and not address.endswith(".0")
    except ValueError:
        return False


def _is_number_of_somebody(number: str) -> bool:
    digits = [c for c in number if c.isdigit()]
    return 8 <= len(digits) <= 13 and len(set(digits)) > 2


# The longest first: an ID card holds what looks like a telephone number.
_NUMBERS: tuple[tuple[str, re.Pattern[str], Callable[[str], bool]], ...] = (
    ("id_card", _ID_CARD, is_id_card),
    ("bank_card", _BANK_CARD, is_bank_card),
    ("ip", _IP, _is_public),
    ("phone", _PHONE_CN, _is_number_of_somebody),
    ("phone", _PHONE_WORLD, _is_number_of_somebody),
    ("phone", _PHONE_US, _is_number_of_somebody),
)


def _masked(text: str) -> str:
    """Return a text of which only the beginning and the end can be read."""
    shown = 1 if len(text) < 8 else 3 if len(text) < 20 else 4
    return f"{text[:shown]}…{text[-2:]}"
