"""Render conversations through a model's chat template, as transformers does and without it, and count its tokens.

A model is a folder with tokenizer files. The template runs in jinja2's sandbox; `{% generation %}` blocks, which say what
an assistant's words are, are kept track of by two marks that no text has.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from swiftshell.data.row import Turn
from swiftshell.errors import fail

Span = tuple[int, int]  # characters, the end not included

_START, _END = "\ue0f0\ue0f1", "\ue0f1\ue0f0"  # private characters: around what is generated
_BLOCK = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_SPECIAL = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TemplateRefuses(Exception):
    """Say that a template cannot write a conversation, in its own words."""


@dataclass(frozen=True)
class Speaker:
    """What turns rows into a model's text: its chat template, its special tokens and, if installed, its tokenizer.

    Attributes:
        name: what the model is called.
        template: None for a base model, which reads plain text.
        special: bos_token, eos_token … as text.
        tokenizer: a `tokenizers.Tokenizer`; None where the library or the file is missing.
    """

    name: str
    template: str | None
    special: Mapping[str, str] = field(default_factory=dict)
    tokenizer: Any = None

    def render(self, turns: Sequence[Turn], *, tools: Any = None, ask: bool = False) -> str:
        """Return a conversation as text; `ask` ends it where the assistant is to speak.

        Raises:
            TemplateRefuses: the template does not take this conversation.
        """
        return self.render_marked(turns, tools=tools, ask=ask)[0]

    def render_marked(
        self, turns: Sequence[Turn], *, tools: Any = None, ask: bool = False, template: str | None = None
    ) -> tuple[str, list[Span]]:
        """Return the text and where the generation blocks stand in it.

        Raises:
            TemplateRefuses: the template does not take this conversation.
        """
        values = {"messages": [dict(t) for t in turns], "tools": tools or None, "documents": None,
                  "add_generation_prompt": ask, **self.special}
        try:
            text = _compiled(template or self.template or "").render(**values)
        except Exception as error:  # noqa: BLE001  (a template is a program that somebody else wrote)
            raise TemplateRefuses(f"{type(error).__name__}: {error}" if not str(error) else str(error)) from None
        return _without_marks(text)

    def ids(self, text: str) -> list[int]:
        """Return the tokens of a rendered text; the tokenizer must be there."""
        found: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return found

    def spans(self, text: str) -> list[Span]:
        """Return where the tokens of a rendered text stand in it."""
        found: list[Span] = self.tokenizer.encode(text, add_special_tokens=False).offsets
        return found

    def training_template(self) -> str | None:
        """Return the template that tells the assistant's words apart: this one, or the one TRL trains this family with."""
        if self.template is None or _BLOCK.search(self.template):
            return self.template
        return _of_trl(self.template)


def open_speaker(folder: Path, name: str = "") -> Speaker:
    """Read a model folder's template, special tokens and tokenizer.

    Raises:
        SwiftshellError: the folder has no tokenizer files, or they cannot be read.
    """
    config = _json(folder / "tokenizer_config.json")
    files = ("tokenizer_config.json", "tokenizer.json", "chat_template.jinja")
    if not any((folder / f).is_file() for f in files):
        raise fail("detect.no_tokenizer", path=str(folder), files=", ".join(files))
    special = {key: text for key in _SPECIAL if (text := _text_of_token(config.get(key))) is not None}
    more = _json(folder / "special_tokens_map.json")
    special |= {k: text for k in _SPECIAL if k not in special and (text := _text_of_token(more.get(k))) is not None}
    return Speaker(name or folder.name, _template(folder, config), special, _tokenizer(folder))


def has_jinja() -> bool:
    """Tell whether templates can be rendered here."""
    return importlib.util.find_spec("jinja2") is not None


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise fail("detect.bad_model_file", path=str(path), reason=str(error)) from None
    return found if isinstance(found, dict) else {}


def _text_of_token(value: Any) -> str | None:
    text = value.get("content") if isinstance(value, Mapping) else value
    return text if isinstance(text, str) else None


def _template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the template from where a model may keep it, the newest way first."""
    own = folder / "chat_template.jinja"
    if own.is_file():
        return own.read_text(encoding="utf-8")
    found = config.get("chat_template") or _json(folder / "chat_template.json").get("chat_template")
    if isinstance(found, list):  # several under names
        named = {t.get("name"): t.get("template") for t in found if isinstance(t, Mapping)}
        found = named.get("default") or next(iter(named.values()), None)
    return found if isinstance(found, str) and found else None


def _tokenizer(folder: Path) -> Any:
    path = folder / "tokenizer.json"
    if not path.is_file() or importlib.util.find_spec("tokenizers") is None:
        return None
    try:
        return importlib.import_module("tokenizers").Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  (the library raises Exception itself)
        raise fail("detect.bad_model_file", path=str(path), reason=str(error)) from None


_compiled_templates: dict[str, Any] = {}


def _compiled(template: str) -> Any:
    if template not in _compiled_templates:
        _compiled_templates[template] = _environment().from_string(template)
    return _compiled_templates[template]


def _without_marks(text: str) -> tuple[str, list[Span]]:
    spans: list[Span] = []
    plain, opened = "", None
    for piece in re.split(f"({_START}|{_END})", text):
        if piece == _START:
            opened = len(plain)
        elif piece == _END:
            if opened is not None and len(plain) > opened:
                spans.append((opened, len(plain)))
            opened = None
        else:
            plain += piece
    return plain, spans


def _environment() -> Any:
    """Return jinja2 set up as for chat templates everywhere. jinja2 is imported when a row is rendered."""
    from jinja2 import nodes
    from jinja2.exceptions import TemplateError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """Put marks around `{% generation %}` blocks."""

        tags = {"generation"}

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

        def _mark(self, caller: Callable[[], str]) -> str:
            return f"{_START}{caller()}{_END}"

    def refuse(message: str) -> None:
        raise TemplateError(message)

    made = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = refuse
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _tojson(value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None,
            sort_keys: bool = False) -> str:
    """Write JSON without escaping for HTML, which jinja2's own filter does."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _of_trl(template: str) -> str | None:
    """Return the training template that TRL ships for this very template; None without one, or without TRL."""
    found = importlib.util.find_spec("trl")  # looks the package up and does not import it
    for place in (found.submodule_search_locations or []) if found else []:
        for path in sorted((Path(place) / "chat_templates").glob("*_training.jinja")):
            plain = path.with_name(path.name.replace("_training.jinja", ".jinja"))
            if plain.is_file() and plain.read_text(encoding="utf-8").strip() == template.strip():
                return path.read_text(encoding="utf-8")
    return None
