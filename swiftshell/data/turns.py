"""Turn every common way to write a conversation into a list of turns: [{"role": …, "content": …}].

Known ways: OpenAI messages (role/content, tool calls, multimodal parts), sharegpt (from/value, function_call
and observation), a single turn, a plain string, a history of [question, answer] pairs, and transcripts with
"Human:" and "Assistant:" markers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from swiftshell.data.row import BadRow, Turn, shown, type_name

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function": "tool",
    "tool_response": "tool",
    "function_call": "function_call",
    "tool_call": "function_call",
}
_SPEECH_KEYS = frozenset(("role", "from", "content", "value", "text"))
_KNOWN_ROLES = "system, user, assistant, tool"
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant|User|System): ?")


def turns_of(value: Any, column: str, role: str) -> list[Turn]:
    """Return a value as turns; a plain string becomes one turn of `role`.

    Raises:
        BadRow: the value is neither text nor turns; the turn at fault is named.
    """
    if isinstance(value, str):
        inner = _encoded_turns(value)
        return [{"role": role, "content": value}] if inner is None else turns_of(inner, column, role)
    if isinstance(value, dict):
        return [_turn(value, column, 1)]
    if isinstance(value, list):
        if not value:
            raise BadRow("data.empty_turns", column)
        return [_turn(item, column, number) for number, item in enumerate(value, 1)]
    raise BadRow("data.not_text", column, value=shown(value), type=type_name(value))


def history_turns(value: Any, column: str) -> list[Turn]:
    """Return earlier rounds, [[question, answer], …] or turns, as turns; None and [] mean none.

    Raises:
        BadRow: the value is neither.
    """
    if value in (None, "", []):
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise BadRow("data.bad_history", column, value=shown(value)) from None
    if not isinstance(value, list):
        raise BadRow("data.bad_history", column, value=shown(value))
    if value and isinstance(value[0], dict):
        return turns_of(value, column, "user")
    turns: list[Turn] = []
    for pair in value:
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(side, str) for side in pair)):
            raise BadRow("data.bad_history", column, value=shown(pair))
        turns += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return turns


def transcript_turns(text: str) -> list[Turn] | None:
    """Split "Human: … Assistant: …" into turns; None if the text does not start with such a marker."""
    pieces = _TRANSCRIPT.split(text.strip())
    if len(pieces) < 3 or pieces[0].strip():
        return None
    return [
        {"role": ROLES[name.lower()], "content": content.strip()}
        for name, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def with_system(turns: list[Turn], system: Any, column: str | None) -> list[Turn]:
    """Put a system prompt in front; another that the conversation already has is kept behind it.

    Raises:
        BadRow: the system prompt is not text.
    """
    if system in (None, ""):
        return turns
    if not isinstance(system, str):
        raise BadRow("data.not_text", column, value=shown(system), type=type_name(system))
    if turns and turns[0]["role"] == "system":
        own = turns[0]["content"]
        merged = system if own == system else f"{system}\n\n{own}"
        return [{**turns[0], "content": merged}, *turns[1:]]
    return [{"role": "system", "content": system}, *turns]


def check_order(turns: list[Turn], column: str, warn: Callable[..., None]) -> None:
    """Warn of what many chat templates refuse: a late system turn, two turns of the same speaker in a row."""
    before = ""
    for number, turn in enumerate(turns, 1):
        role = turn["role"]
        if role == "system" and number > 1:
            warn("data.late_system", column, turn=number)
            return
        if role == before and role != "tool":
            warn("data.same_speaker", column, turn=number, role=role)
            return
        before = role


def _encoded_turns(text: str) -> list[Any] | None:
    """Return the turns that a string holds as JSON (CSV cells, exports of databases), else None."""
    if not text.startswith("[{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if isinstance(value, list) and all(isinstance(v, dict) and ("role" in v or "from" in v) for v in value):
        return value
    return None


def _turn(item: Any, column: str, number: int) -> Turn:
    if type(item) is not dict:
        raise BadRow("data.bad_turn", column, turn=number, value=shown(item))
    given = item.get("role", item.get("from"))
    if given is None:
        raise BadRow("data.turn_without_role", column, turn=number, keys=", ".join(item))
    role = ROLES.get(given.lower()) if isinstance(given, str) else None
    if role is None:
        raise BadRow("data.unknown_role", column, turn=number, value=shown(given), known=_KNOWN_ROLES)
    content = item["content"] if "content" in item else item.get("value", item.get("text"))
    if role == "function_call":
        return _function_call(content, column, number)
    if type(content) is not str:
        content = _content(content, item, column, number)
    if len(item) == 2:
        return {"role": role, "content": content}
    # None stands for "not there": Parquet gives every turn every key.
    rest = {k: v for k, v in item.items() if k not in _SPEECH_KEYS and v is not None}
    return {"role": role, "content": content, **rest}


def _content(content: Any, item: dict[str, Any], column: str, number: int) -> Any:
    """Check content that is no string: parts of a multimodal turn, or nothing beside tool calls."""
    if content is None and item.get("tool_calls"):
        return ""
    if isinstance(content, list) and content and all(isinstance(p, dict) and "type" in p for p in content):
        return content
    if content is None:
        raise BadRow("data.turn_without_content", column, turn=number, keys=", ".join(item))
    raise BadRow("data.turn_not_text", column, turn=number, value=shown(content), type=type_name(content))


def _function_call(content: Any, column: str, number: int) -> Turn:
    """Return sharegpt's function_call turn ({"name", "arguments"} as JSON text) as one that calls a tool."""
    try:
        call = json.loads(content) if isinstance(content, str) else content
        calls = call if isinstance(call, list) else [call]
        functions = [{"name": c["name"], "arguments": c.get("arguments", {})} for c in calls]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise BadRow("data.bad_function_call", column, turn=number, value=shown(content)) from None
    tool_calls = [{"type": "function", "function": function} for function in functions]
    return {"role": "assistant", "content": "", "tool_calls": tool_calls}
