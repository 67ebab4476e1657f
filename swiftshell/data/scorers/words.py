"""Cut a text into what is counted as words: runs of letters and digits, and every Chinese or Japanese character by itself."""

from __future__ import annotations

import re

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|(?:(?![{_CJK}])[^\W_])+")


def words(text: str) -> list[str]:
    """Return the words of a text, without regard to case."""
    return _WORD.findall(text.casefold())
