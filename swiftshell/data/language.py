"""Tell the language of a text by the library py3langid, whose model comes with it: no network, the same every time."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from swiftshell.errors import fail

LOOKED_AT_CHARS = 400  # more of a text does not make the answer surer, only slower
_FEWEST_LETTERS = 6  # "好", "1+1=2": too short to tell
UNKNOWN = "?"
# Languages with many speakers or much written text; the model knows more, and takes names and code for them.
_LANGUAGES = (
    *("ar", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "he", "hi", "hr", "hu", "id"),
    *("it", "ja", "ko", "lt", "lv", "ms", "nl", "no", "pl", "pt", "ro", "ru", "sk", "sl", "sr", "sv", "sw", "ta", "th"),
    *("tr", "uk", "ur", "vi", "zh"),
)


def language(text: str) -> str:
    """Return the ISO 639-1 code of a text's language, `?` where there is too little to tell by.

    Raises:
        SwiftshellError: the library is not installed.
    """
    start = text[:LOOKED_AT_CHARS]
    letters = sum(map(str.isalpha, start))
    wide = sum("\u3040" <= char <= "\u9fff" or "\uac00" <= char <= "\ud7a3" for char in start)
    if letters + 2 * wide < _FEWEST_LETTERS:
        return UNKNOWN
    return str(_library().classify(start)[0])


@cache
def _library() -> Any:
    try:
        library = importlib.import_module("py3langid")
    except ImportError:
        raise fail("deep.needs_package", package="py3langid") from None
    library.set_languages(list(_LANGUAGES))
    return library
