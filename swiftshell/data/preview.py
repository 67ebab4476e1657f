"""Show rows as a model reads them, and which of its words it learns from.

What is learned follows the engines: the answers of KTO, DPO and of rows that tell prompt and answer apart; in a
conversation for SFT every answer, where the chat template (or the one TRL trains the family with) tells them apart,
else the last one; a text as a whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from swiftshell.data.row import Row, Turn, text_of
from swiftshell.data.template import Span, Speaker, TemplateRefuses

_ANSWERS = ("completion", "chosen", "rejected")


@dataclass(frozen=True)
class Piece:
    """A stretch of text that is learned from, or only read."""

    text: str
    learned: bool


@dataclass(frozen=True)
class Text:
    """One text that a row becomes: `part` is completion, chosen, rejected, messages, prompt or text.

    Attributes:
        pieces: the text, in stretches.
        tokens, learned_tokens: their numbers; None without a tokenizer.
        refused: why the chat template does not take the row; the pieces then show its turns as they are.
    """

    part: str
    pieces: tuple[Piece, ...]
    tokens: int | None = None
    learned_tokens: int | None = None
    refused: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        pieces = [{"text": p.text, "learned": p.learned} for p in self.pieces]
        found = {"part": self.part, "pieces": pieces, "tokens": self.tokens, "learned_tokens": self.learned_tokens}
        return {**found, "refused": self.refused} if self.refused else found


@dataclass(frozen=True)
class Preview:
    """A row with its texts, and what is said of its answer (label, probability, weight) or shown with it (images)."""

    row: int
    file: str
    line: int | None
    texts: tuple[Text, ...]
    said: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the stable JSON form."""
        return {"row": self.row, "file": self.file, "line": self.line, **self.said,
                "texts": [text.as_json() for text in self.texts]}


def preview(row: Row, speaker: Speaker) -> Preview:
    """Render a converted row."""
    data = row.data
    said = {k: data[k] for k in ("label", "probability", "weight", "images", "reference") if data.get(k) is not None}
    return Preview(row.number, row.file, row.line, tuple(_texts(data, speaker)), said)


def _texts(data: dict[str, Any], speaker: Speaker) -> list[Text]:
    if "text" in data:
        return [_whole("text", data["text"] + _end(data["text"], speaker), speaker)]
    tools = json.loads(data["tools"]) if isinstance(data.get("tools"), str) else data.get("tools")
    if "messages" in data:
        return [_conversation(data["messages"], tools, speaker)]
    answers = [part for part in _ANSWERS if part in data]
    if not answers:
        return [_question(data["prompt"], tools, speaker)]
    return [_answer(part, data["prompt"], data[part], tools, speaker) for part in answers]


def _conversation(turns: list[Turn], tools: Any, speaker: Speaker) -> Text:
    template = speaker.training_template()
    if speaker.template is None or template is None:
        return _answer("messages", turns[:-1], turns[-1:], tools, speaker)
    try:
        text, spans = speaker.render_marked(turns, tools=tools, template=template)
    except TemplateRefuses as error:
        return _as_it_is("messages", turns, turns[-1:], str(error))
    if not spans:
        return _answer("messages", turns[:-1], turns[-1:], tools, speaker)
    return _cut("messages", text, spans, speaker)


def _answer(part: str, prompt: list[Turn], answer: list[Turn], tools: Any, speaker: Speaker) -> Text:
    try:
        if speaker.template is None:
            start = _plain(prompt)
            text = start + _plain(answer)
            text += _end(text, speaker)
        else:
            start = speaker.render(prompt, tools=tools, ask=True)
            text = speaker.render([*prompt, *answer], tools=tools)
    except TemplateRefuses as error:
        return _as_it_is(part, [*prompt, *answer], answer, str(error))
    if speaker.tokenizer is None:
        return _cut(part, text, [(_common(start, text), len(text))], speaker)
    # Prompt and whole part where their tokens do, which may be a little before their characters do.
    places = speaker.spans(text)
    shared = _common(speaker.ids(start), speaker.ids(text))
    cut = places[shared][0] if shared < len(places) else len(text)
    return _cut(part, text, [(cut, len(text))], speaker)


def _question(prompt: list[Turn], tools: Any, speaker: Speaker) -> Text:
    try:
        text = _plain(prompt) if speaker.template is None else speaker.render(prompt, tools=tools, ask=True)
    except TemplateRefuses as error:
        return _as_it_is("prompt", prompt, [], str(error))
    return _cut("prompt", text, [], speaker)


def _whole(part: str, text: str, speaker: Speaker) -> Text:
    return _cut(part, text, [(0, len(text))], speaker)


def _cut(part: str, text: str, learned: Sequence[Span], speaker: Speaker) -> Text:
    """Cut a text at the borders of what is learned, and count tokens: one belongs where it starts."""
    pieces, at = [], 0
    for start, end in learned:
        pieces += [Piece(text[at:start], False), Piece(text[start:end], True)]
        at = end
    pieces.append(Piece(text[at:], False))
    kept = tuple(p for p in pieces if p.text)
    if speaker.tokenizer is None:
        return Text(part, kept)
    places = speaker.spans(text)
    counted = sum(1 for place, _ in places if any(start <= place < end for start, end in learned))
    return Text(part, kept, len(places), counted)


def _as_it_is(part: str, turns: list[Turn], learned: list[Turn], why: str) -> Text:
    """Show turns without a template, the learned ones at the end."""
    shown = [Piece(f"{t['role']}: {_said(t)}\n", n >= len(turns) - len(learned)) for n, t in enumerate(turns)]
    return Text(part, tuple(shown), refused=why)


def _said(turn: Turn) -> str:
    content = turn["content"]
    text = text_of(content)
    pictures = sum(1 for p in content if p.get("type") == "image") if isinstance(content, list) else 0
    calls = f" {json.dumps(turn['tool_calls'], ensure_ascii=False)}" if turn.get("tool_calls") else ""
    return "<image>" * pictures + text + calls


def _plain(turns: list[Turn]) -> str:
    """Return what a base model reads: one turn as it stands.

    Raises:
        TemplateRefuses: several turns, or pictures, for which there is no plain form.
    """
    if len(turns) == 1 and isinstance(turns[0]["content"], str):
        return turns[0]["content"]
    raise TemplateRefuses("-")


def _end(text: str, speaker: Speaker) -> str:
    end = speaker.special.get("eos_token", "")
    return "" if text.endswith(end) else end


def _common(one: Sequence[Any], other: Sequence[Any]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
