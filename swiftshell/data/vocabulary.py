"""Compare two models' vocabularies without loading a tokenizer: the same token must have the same number in both."""

from __future__ import annotations

import filecmp
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = "tokenizer.json"


@dataclass(frozen=True)
class Difference:
    """How the reference's vocabulary misses the policy's.

    Attributes:
        count: tokens of the policy that the reference numbers otherwise or does not have; `total`: of all.
        token: the first of them, by its number in the policy, `number`.
        other: the number that the reference has for it; None if it has none.
    """

    count: int
    total: int
    token: str
    number: int
    other: int | None

    def values(self) -> dict[str, Any]:
        """Return what a message about it says."""
        return {**vars(self), "other": "-" if self.other is None else self.other}


def is_the_same_file(policy: Path, reference: Path) -> bool:
    """Tell whether two folders hold the same `tokenizer.json`, byte for byte."""
    try:
        return filecmp.cmp(policy / FILE, reference / FILE, shallow=False)
    except OSError:
        return False


def difference_in_files(policy: Path, reference: Path) -> Difference | None:
    """Compare the `tokenizer.json` of two folders; None if they agree, or one of them has none that can be read."""
    if is_the_same_file(policy, reference):
        return None
    try:
        return difference(_vocabulary(policy / FILE), _vocabulary(reference / FILE))
    except (OSError, ValueError, KeyError, TypeError):
        return None  # another form of tokenizer, or a broken one, which is told elsewhere


def difference(policy: Mapping[str, int], reference: Mapping[str, int]) -> Difference | None:
    """Compare two vocabularies, token → number. What the reference has beyond the policy's tokens does no harm."""
    apart = [token for token, number in policy.items() if reference.get(token) != number]
    if not apart:
        return None
    first = min(apart, key=policy.__getitem__)
    return Difference(len(apart), len(policy), first, policy[first], reference.get(first))


def _vocabulary(path: Path) -> dict[str, int]:
    held: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    listed = held["model"]["vocab"]
    # Unigram models list [token, score] in the order of their numbers; the others map token to number.
    pairs = listed.items() if isinstance(listed, dict) else ((entry[0], n) for n, entry in enumerate(listed))
    found = {str(token): int(number) for token, number in pairs}
    return found | {str(added["content"]): int(added["id"]) for added in held.get("added_tokens") or []}
