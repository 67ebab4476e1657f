"""Count rows in tokens: as the model reads them, through its chat template and its own fast tokenizer, in batches.

Needs the `tokenizers` library, and jinja2 for the template of a chat model; no engine.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftshell.data.row import Row, Turn, text_of
from swiftshell.data.stretch import Stretch
from swiftshell.data.template import Speaker, TemplateRefuses, open_speaker
from swiftshell.errors import Problem, fail

_BATCH_TEXTS = 512
_BATCH_CHARS = 1 << 20
_BINS_BELOW_LIMIT = 8
_MOST_BINS = 24
_ANSWERS = ("completion", "chosen", "rejected")


class TokenCounter:
    """Count the tokens of rows into a stretch, a batch at a time; a pair is two texts.

    Rows longer than `max_length`, and rows that the chat template refuses, are warned of.
    """

    def __init__(self, model: Path, max_length: int) -> None:
        self._model = model
        self._max_length = max_length
        self._speaker: Speaker | None = None
        self._texts: list[str] = []
        self._rows: list[Row] = []
        self._chars = 0

    def read(self, row: Row, data: Mapping[str, Any], stretch: Stretch) -> None:
        """Take what a source row became."""
        if self._speaker is None:
            self._speaker = open_tokenizer(self._model)
        try:
            texts = texts_of(data, self._speaker)
        except TemplateRefuses as error:
            stretch.note(_warning("scan.template_refuses", row, {"reason": str(error), "model": self._speaker.name}))
            return
        place = Row(row.number, row.line, {}, row.file)
        for text in texts:
            self._texts.append(text)
            self._rows.append(place)
            self._chars += len(text)
        if len(self._texts) >= _BATCH_TEXTS or self._chars >= _BATCH_CHARS:
            self._count(stretch)

    def end(self, stretch: Stretch) -> None:
        """Count what is left of a stretch."""
        if self._texts:
            self._count(stretch)

    def _count(self, stretch: Stretch) -> None:
        assert self._speaker is not None
        encoded = self._speaker.tokenizer.encode_batch_fast(self._texts, add_special_tokens=False)
        for row, one in zip(self._rows, encoded, strict=True):
            tokens = len(one)
            stretch.tokens[tokens] = stretch.tokens.get(tokens, 0) + 1
            if self._max_length and tokens > self._max_length:
                values = {"tokens": tokens, "max_length": self._max_length}
                stretch.note(_warning("scan.too_long", row, values))
        self._texts, self._rows, self._chars = [], [], 0


def _warning(code: str, row: Row, values: dict[str, Any]) -> Problem:
    return Problem(code, values, row.file, row.line, None, row.number, severity="warning")


def open_tokenizer(model: Path) -> Speaker:
    """Return a model's tokenizer and template, from its folder or from a tokenizer.json.

    Raises:
        SwiftshellError: there is none, or the library that reads it is not installed.
    """
    folder = model.parent if model.is_file() else model
    speaker = open_speaker(folder)
    if speaker.tokenizer is None:
        if (folder / "tokenizer.json").is_file():
            raise fail("scan.needs_tokenizers")
        raise fail("scan.no_tokenizer_json", path=str(folder))
    speaker.tokenizer.no_truncation()
    speaker.tokenizer.no_padding()
    return speaker


def texts_of(data: Mapping[str, Any], speaker: Speaker) -> list[str]:
    """Return the texts that a converted row becomes: one, or one for each answer of a pair.

    Raises:
        TemplateRefuses: the chat template does not take the conversation.
    """
    if "text" in data:
        return [str(data["text"])]
    tools = data.get("tools")
    tools = json.loads(tools) if isinstance(tools, str) else tools
    if "messages" in data:
        return [_rendered(data["messages"], tools, speaker)]
    answers = [data[part] for part in _ANSWERS if part in data]
    return [_rendered([*data["prompt"], *answer], tools, speaker) for answer in answers or [[]]]


def _rendered(turns: list[Turn], tools: Any, speaker: Speaker) -> str:
    if speaker.template is None:
        return "\n".join(text_of(turn["content"]) for turn in turns)
    return speaker.render(turns, tools=tools)


def describe(counted: Mapping[int, int], model: str, max_length: int) -> dict[str, Any]:
    """Return lengths in tokens: {"model", "max_length", "over", "edges", "counts", "max", "mean", "p50", "p95", "p99"}.

    Bins are as wide as fits `max_length` a whole number of times; the last one is open. `over` texts are longer.
    """
    number = sum(counted.values())
    if not number:
        return {}
    longest = max(counted)
    width = max(1, max_length // _BINS_BELOW_LIMIT) if max_length else max(1, -(-longest // _BINS_BELOW_LIMIT))
    counts = [0] * min(longest // width + 1, _MOST_BINS)
    for tokens, times in counted.items():
        # A text of exactly max_length is whole: bins hold lengths above their edge, up to and with the next.
        counts[min(max(0, tokens - 1) // width, len(counts) - 1)] += times
    mean = sum(tokens * times for tokens, times in counted.items()) / number
    return {
        "model": model,
        "max_length": max_length,
        "texts": number,
        "over": sum(times for tokens, times in counted.items() if max_length and tokens > max_length),
        "edges": [n * width for n in range(len(counts))],
        "counts": counts,
        "max": longest,
        "mean": round(mean, 1),
        **{f"p{share}": _quantile(counted, number, share / 100) for share in (50, 95, 99)},
    }


def _quantile(counted: Mapping[int, int], number: int, share: float) -> int:
    """Return the length that so large a share of the texts does not exceed."""
    seen, total = 0, Counter(counted)
    for tokens in sorted(total):
        seen += total[tokens]
        if seen >= share * number:
            return tokens
    return max(total)
