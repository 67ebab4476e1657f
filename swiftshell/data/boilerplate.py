"""Find answers that say nothing: refusals, and words about being a machine that earlier models were trained to say."""

from __future__ import annotations

import re

_LOOKED_AT_CHARS = 240  # refusals begin an answer; later the same words are often about something else

_SELF = re.compile(
    r"\bas an? (?:\w+ )?(?:ai|artificial intelligence|language model|large language model|virtual assistant)\b"
    r"|\bi(?:'|’)?a?m (?:just |only )?an? (?:ai|artificial intelligence|language model|large language model)\b"
    r"|\bmy (?:knowledge|training) cut-?off\b"
    r"|作为(?:一个|一名|一款)?(?:人工智能|AI|ai|大?语言模型|大模型)"
    r"|我(?:只)?是(?:一个|一名|一款)?(?:人工智能|AI|大?语言模型|大模型)",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"^\W*(?:i(?:'|’)?a?m (?:very |so |really )?sorry|sorry|i apologi[sz]e|my apologies|unfortunately)\b[^.!?\n]{0,60}"
    r"\b(?:can(?:'|’)?t|cannot|can not|unable|won(?:'|’)?t|not able|don(?:'|’)?t (?:have|know))\b"
    r"|^\W*i (?:can(?:'|’)?t|cannot|can not|am unable to|(?:'|’)m unable to|won(?:'|’)?t|am not able to)"
    r" (?:help|assist|answer|provide|do|fulfil|comply|continue|discuss|engage|create|generate)"
    r"|^\W*(?:很?抱歉|对不起|非常抱歉|不好意思)[^。！？\n]{0,30}(?:无法|不能|没有办法|没办法|不可以|做不到)"
    r"|^\W*我(?:无法|不能)(?:提供|回答|帮助|协助|满足|完成|生成|继续)",
    re.IGNORECASE,
)


def boilerplate(answer: str) -> tuple[str, str] | None:
    """Return the kind of boilerplate that an answer is (refusal, self) and the words that tell; None for an answer."""
    start = answer[:_LOOKED_AT_CHARS]
    for kind, pattern in (("refusal", _REFUSAL), ("self", _SELF)):
        if match := pattern.search(start):
            return kind, match[0].strip()
    return None
