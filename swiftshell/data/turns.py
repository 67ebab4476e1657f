"""Turn every common way to write a conversation into a list of turns: [{"role": …, "content": …}].

Known ways: OpenAI messages (role/content, tool calls, the older function_call, multimodal parts), sharegpt (from/value,
function_call and observation), Anthropic's tool_use and tool_result blocks, Gemini's parts, rounds ({"human": …,
"assistant": …} or [question, answer]), sentences said in turn, a single turn, a plain string, an object around such a
list, and transcripts with "Human:" and "Assistant:" markers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from swiftshell.data.row import BadRow, Turn, shown, text_of, type_name

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
    "ai": "assistant",
    "chatbot": "assistant",
    "tool": "tool",
    "observation": "tool",
    "function_response": "tool",
    "function": "tool",
    "tool_response": "tool",
    "tool_result": "tool",
    "用户": "user",
    "助手": "assistant",
    "系统": "system",
    "function_call": "function_call",
    "tool_call": "function_call",
}
_SPEECH_KEYS = frozenset(("role", "from", "content", "value", "text"))
# A round in one object: who asks and who answers.
_ROUNDS = (
    ("human", "assistant"),
    ("user", "assistant"),
    ("human", "bot"),
    ("user", "bot"),
    ("question", "answer"),
    ("prompt", "response"),
    ("query", "response"),
    ("input", "output"),
    ("instruction", "output"),
)
# Columns of dialogues that say nothing of who speaks; under other names a sentence without a speaker is a mistake.
_SENTENCES = ("data", "dialog", "dialogue", "conversation", "chat", "turns")
_BLOCKS = ("tool_use", "tool_result")
_KNOWN_ROLES = "system, user, assistant, tool"
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant|User|System): ?")


def turns_of(value: Any, column: str, role: str) -> list[Turn]:
    """Return a value as turns; a plain string becomes one turn of `role`.

    Raises:
        BadRow: the value is neither text nor turns; the turn at fault is named.
    """
    if isinstance(value, str):
        inner = _encoded_turns(value)
        if inner is None and value.startswith("[{'") and ("'role':" in value or "'from':" in value):
            raise BadRow("detect.python_turns", column, value=shown(value))
        return [{"role": role, "content": value}] if inner is None else turns_of(inner, column, role)
    if isinstance(value, dict):
        return turns_of(value["messages"], column, role) if _wraps(value) else _turns(value, column, 1)
    if isinstance(value, list):
        if not value:
            raise BadRow("data.empty_turns", column)
        turns: list[Turn] = []
        for number, item in enumerate(value, 1):
            if type(item) is dict and type(item.get("content")) is str and len(item) == 2 and "role" in item:
                turns.append(_turn(item, column, number))  # nearly all
            else:
                turns += _turns(item, column, number)
        return turns
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


def conversation_turns(value: Any, column: str) -> list[Turn]:
    """Return a whole conversation as turns, also one of rounds ([question, answer]) or of sentences said in turn.

    Raises:
        BadRow: the value is no conversation; the turn at fault is named.
    """
    if isinstance(value, list) and value:
        if isinstance(value[0], list):
            return history_turns(value, column)
        if column in _SENTENCES and len(value) > 1 and all(isinstance(said, str) for said in value):
            return [{"role": ("user", "assistant")[n % 2], "content": said} for n, said in enumerate(value)]
    elif isinstance(value, str) and (turns := transcript_turns(value)) is not None:
        return turns
    return turns_of(value, column, "user")


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
    """Warn of what many chat templates refuse: a late system turn, the same speaker twice, an answer to nothing."""
    before = ""
    for number, turn in enumerate(turns, 1):
        role = turn["role"]
        if role == "system" and number > 1:
            warn("data.late_system", column, turn=number)
            return
        if role == before and role != "tool":
            warn("data.same_speaker", column, turn=number, role=role)
            return
        if role == "assistant" and before in ("", "system"):
            warn("detect.answer_first", column, turn=number)
            return
        if role == "tool" and before not in ("assistant", "tool"):
            warn("detect.tool_uncalled", column, turn=number)
            return
        before = role


def _wraps(value: dict[str, Any]) -> bool:
    """Tell whether an object is not a turn but holds turns, as in OpenAI's preference data."""
    return "role" not in value and "from" not in value and isinstance(value.get("messages"), list)


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


def _turns(item: Any, column: str, number: int) -> list[Turn]:
    """Return what one item of a conversation says: mostly one turn; a round, or blocks of tools, are several."""
    if type(item) is not dict:
        raise BadRow("data.bad_turn", column, turn=number, value=shown(item))
    if "role" not in item and "from" not in item:
        return _round(item, column, number)
    content = item.get("content")
    if isinstance(content, list) and any(isinstance(p, dict) and p.get("type") in _BLOCKS for p in content):
        return _tool_blocks(item, content, column, number)
    return [_turn(item, column, number)]


def _round(item: dict[str, Any], column: str, number: int) -> list[Turn]:
    """Return a question and its answer that stand in one object, {"human": …, "assistant": …}."""
    keys = {key.lower(): key for key in item if isinstance(key, str)}
    asks, answers = next((r for r in _ROUNDS if r[0] in keys and r[1] in keys), ("", ""))
    if not asks:
        raise BadRow("data.turn_without_role", column, turn=number, keys=", ".join(map(str, item)))
    turns: list[Turn] = []
    for key, role in (("system", "system"), (asks, "user"), (answers, "assistant")):
        said = item.get(keys.get(key, key))
        if said is None and key == "system":
            continue
        if not isinstance(said, str):
            raise BadRow("data.turn_not_text", column, turn=number, value=shown(said), type=type_name(said))
        turns.append({"role": role, "content": said})
    return turns


def _tool_blocks(item: dict[str, Any], content: list[Any], column: str, number: int) -> list[Turn]:
    """Return the turns of Anthropic's blocks: text, calls of tools, and what tools gave back."""
    calls, results, rest = list[Any](), list[Turn](), list[Any]()
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "tool_use":
            function = {"name": part.get("name"), "arguments": part.get("input", {})}
            calls.append({"type": "function", "id": part.get("id"), "function": function})
        elif kind == "tool_result":
            said = part.get("content")
            said = said if isinstance(said, str) else text_of(said)
            results.append({"role": "tool", "content": said, "tool_call_id": part.get("tool_use_id")})
        else:
            rest.append(part)
    texts = [p.get("text") for p in rest if isinstance(p, dict) and p.get("type") == "text"]
    plain: Any = "\n".join(map(str, texts)) if len(texts) == len(rest) else rest
    turns = [_turn({**item, "content": plain}, column, number)] if rest or calls else []
    if calls:
        turns[0]["tool_calls"] = calls
    return [*results, *turns]


def _turn(item: dict[str, Any], column: str, number: int) -> Turn:
    given = item["role"] if "role" in item else item.get("from")
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
    if "parts" in rest and "content" not in item:
        del rest["parts"]
    if "tool_calls" in rest:
        rest["tool_calls"] = _tool_calls(rest["tool_calls"], column, number)
    elif "function_call" in rest:  # as OpenAI wrote calls at first
        rest["tool_calls"] = _function_call(rest.pop("function_call"), column, number)["tool_calls"]
    return {"role": role, "content": content, **rest}


def _tool_calls(calls: Any, column: str, number: int) -> list[Any]:
    """Return calls of tools as a list; databases hold it as JSON text."""
    if isinstance(calls, str):
        try:
            calls = json.loads(calls)
        except ValueError:
            raise BadRow("data.bad_function_call", column, turn=number, value=shown(calls)) from None
    if not isinstance(calls, list) or not all(isinstance(c, dict) and _names_function(c) for c in calls):
        raise BadRow("data.bad_function_call", column, turn=number, value=shown(calls))
    return calls


def _names_function(call: dict[str, Any]) -> bool:
    function = call.get("function", call)
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _content(content: Any, item: dict[str, Any], column: str, number: int) -> Any:
    """Check content that is no string: parts of a multimodal turn, or nothing beside tool calls."""
    if content is None and (item.get("tool_calls") or item.get("function_call")):
        return ""
    if content is None and isinstance(parts := item.get("parts"), list):  # Gemini
        texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
        plain = [text for text in texts if isinstance(text, str)]
        if texts and len(plain) == len(texts):
            return "\n".join(plain)
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
