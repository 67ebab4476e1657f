"""Find texts that are nearly the same: MinHash signatures by the library rensa, looked up by bands of them.

Two texts of a share `s` of common shingles agree in about `s` of a signature's numbers. A signature is cut into bands;
texts that agree in a whole band are compared. With 16 bands of 8 numbers, 19 of 20 pairs with s = 0.8 are found, and
practically all from 0.9 on.
"""

from __future__ import annotations

import importlib
import operator
import re
from array import array
from collections.abc import Iterator
from functools import cache
from typing import Any

import xxhash

from swiftshell.data.compact import Numbers, repeated
from swiftshell.errors import fail

NUMBERS = 128  # of a signature
BANDS = 16
ALIKE = 0.8  # share of common shingles, from which on texts are nearly the same
FEWEST_SHINGLES = 8  # shorter texts are alike by chance
_SEED = 42
_BAND_BYTES = NUMBERS // BANDS * 4
_HELD_BYTES = 4 << 20  # of each column in memory
# A word, a number, or one character of writing without spaces.
_WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff]+|\d+|[\u3040-\u30ff\u3400-\u9fff]")


def shingles(text: str) -> list[str]:
    """Return the runs of three words of a text, case and punctuation left out."""
    words = _WORD.findall(text.lower())
    return list(map(" ".join, zip(words, words[1:], words[2:], strict=False)))


def signatures(sets: list[list[str]]) -> list[bytes]:
    """Return the signature of each set of shingles, 4 bytes a number.

    Raises:
        SwiftshellError: the library is not installed.
    """
    if not sets:
        return []
    rows = _library().RMinHash.digest_matrix_from_token_sets(sets, NUMBERS, _SEED).to_rows()
    return [array("I", row).tobytes() for row in rows]


def bands(signature: bytes) -> list[bytes]:
    """Return 8 bytes for each band of a signature."""
    return [
        xxhash.xxh3_64_digest(signature[at : at + _BAND_BYTES]) for at in range(0, len(signature), _BAND_BYTES)
    ]


def alike(one: bytes, other: bytes) -> float:
    """Return the share of common shingles of two texts, as their signatures estimate it."""
    same = sum(map(operator.eq, memoryview(one).cast("I"), memoryview(other).cast("I")))
    return int(same) / NUMBERS


class Signatures:
    """The signatures of all rows, mostly on disk, by position."""

    def __init__(self) -> None:
        self._which = Numbers("Q", _HELD_BYTES)
        self._numbers = Numbers("I", _HELD_BYTES)
        self._bands = [Numbers("Q", _HELD_BYTES) for _ in range(BANDS)]

    def join(self, which: array[int], packed: bytes, before: int) -> None:
        """Append the signatures of a stretch, whose positions count from its beginning."""
        self._which.extend(array("Q", [before + at for at in which]))
        numbers = array("I")
        numbers.frombytes(packed)
        self._numbers.extend(numbers)
        columns = [bytearray() for _ in range(BANDS)]
        size = 4 * NUMBERS
        for start in range(0, len(packed), size):
            for column, band in zip(columns, bands(packed[start : start + size]), strict=True):
                column += band
        for mine, column in zip(self._bands, columns, strict=True):
            keys = array("Q")
            keys.frombytes(bytes(column))
            mine.extend(keys)

    def pairs(self) -> Iterator[tuple[int, int, float]]:
        """Yield (position, earlier position, share of common shingles) once for every row that has a near one."""
        done = bytearray(len(self._which))
        for column in self._bands:
            for later, first in repeated(column):
                if done[later]:
                    continue
                share = alike(self._signature(later), self._signature(first))
                if share >= ALIKE:
                    done[later] = 1
                    yield self._which[later], self._which[first], share

    def _signature(self, at: int) -> bytes:
        return self._numbers.slice(at * NUMBERS, NUMBERS).tobytes()


@cache
def _library() -> Any:
    try:
        return importlib.import_module("rensa")
    except ImportError:
        raise fail("deep.needs_package", package="rensa") from None
