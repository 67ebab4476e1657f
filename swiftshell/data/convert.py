"""Turn a source row into TRL's conversational form for a purpose.

| purpose | result |
|---|---|
| sft | `messages` for a conversation, `prompt` + `completion` where they are told apart, or `text`; `label` if any |
| kto | `prompt`, `completion`, `label` (raw here; `labels` decides over the whole column), `probability`, `weight` |
| dpo | `prompt`, `chosen`, `rejected`; thumbs as for kto, which `pairs` then puts together |
| prompts | `prompt` |
| heldout | `prompt` and what can be measured: reference, chosen, rejected, completion, label, rules, lang |

`prompt`, `completion`, `chosen` and `rejected` are lists of turns. `tools` (JSON text, which TRL reads and
Arrow can store), `images` (placed by `swiftshell.data.images`) and `id` pass through; so do columns without a part,
in `Row.extra`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from swiftshell.data import inside
from swiftshell.data.detect import Layout, may_come_late, overlooked
from swiftshell.data.labels import read_probability, read_weight
from swiftshell.data.row import BadRow, Purpose, Turn, shown, text_of, type_name
from swiftshell.data.rules import check_rules
from swiftshell.data.turns import (
    check_order,
    conversation_turns,
    history_turns,
    transcript_turns,
    turns_of,
    with_system,
)
from swiftshell.errors import Problem

Data = dict[str, Any]
Warn = Callable[..., None]  # (code, column, **values)


class Converter:
    """Convert the rows of one data set, whose layout is decided."""

    def __init__(self, layout: Layout, purpose: Purpose, warn: Warn) -> None:
        self._columns = dict(layout.columns)
        self._used = frozenset(layout.columns.values())
        self._paths = tuple(column for column in self._used if inside.is_path(column))
        self._captions = not {"prompt", "messages"} & set(layout.columns) and {"images", "completion"} <= set(layout.columns)
        self._layout, self._purpose, self._warn = layout, purpose, warn
        self.known = set(layout.known)
        makers: dict[str, Callable[[Data], list[Data]]] = {
            "sft": self._sft,
            "kto": self._kto,
            "dpo": self._dpo,
            "prompts": self._prompts,
            "heldout": self._heldout,
        }
        self._make = makers[purpose]

    def rows(self, source: Data) -> list[Data]:
        """Return the rows that a source row becomes (two for a pair that is read for KTO).

        Raises:
            BadRow: the row cannot be used.
        """
        if not source.keys() <= self.known:
            self._look_anew(source)
        if self._paths:
            source = {**source, **{path: inside.value(source, path) for path in self._paths}}
        made = self._make(source)
        passed = self._passed(source)
        return [{**row, **passed} for row in made] if passed else made

    def _look_anew(self, source: Data) -> None:
        """Refuse a row that is the first with a column that would be lost; other new columns are only remembered."""
        late = overlooked(self._layout, source, self._purpose) if self._layout.known else None
        if late is not None:
            raise BadRow("detect.late_column", late[0], part=late[1])
        self.known.update(name for name, value in source.items() if value not in (None, "", []) or not may_come_late(name))

    def extra(self, source: Data) -> Data:
        """Return the columns that play no part, as they are."""
        return {key: value for key, value in source.items() if key not in self._used}

    # --- one method for each purpose ---

    def _sft(self, source: Data) -> list[Data]:
        if "rejected" in self._columns or "chosen" in self._columns:
            prompt, chosen = self._chosen(source)
            return [{"prompt": prompt, "completion": chosen}]
        if self._captions:
            return [{"prompt": [_picture_alone()], "completion": said} for said in self._said_of_picture(source)]
        if "completion" in self._columns:
            prompt, answer = self._prompt_and_answer(source)
            return [{"prompt": prompt, "completion": answer, **self._judged(source)}]
        if "messages" in self._columns:
            turns = self._conversation(source)
            self._require_answer(turns, self._columns["messages"])
            return [{"messages": turns, **self._judged(source)}]
        return [{"text": self._text(source)}]

    def _kto(self, source: Data) -> list[Data]:
        if "rejected" in self._columns:
            prompt, chosen, rejected = self._pair(source)
            weight = self._weight(source)
            return [
                {"prompt": prompt, "completion": chosen, "label": True, **weight},
                {"prompt": prompt, "completion": rejected, "label": False, **weight},
            ]
        prompt, answer = self._prompt_and_answer(source)
        return [{"prompt": prompt, "completion": answer, **self._thumb(source), **self._weight(source)}]

    def _dpo(self, source: Data) -> list[Data]:
        if "rejected" not in self._columns:
            return self._kto(source)  # `pairs` finds each answer its partner
        prompt, chosen, rejected = self._pair(source)
        return [{"prompt": prompt, "chosen": chosen, "rejected": rejected}]

    def _prompts(self, source: Data) -> list[Data]:
        return [{"prompt": self._prompt_only(source), **self._kept(source)}]

    def _heldout(self, source: Data) -> list[Data]:
        kept = self._kept(source)
        if "rejected" in self._columns:
            prompt, chosen, rejected = self._pair(source)
            return [{"prompt": prompt, "chosen": chosen, "rejected": rejected, **kept}]
        if "text" in self._columns:
            return [{"text": self._text(source), **kept}]
        prompt = self._prompt_only(source)
        if not self._has_answer(source):
            return [{"prompt": prompt, **kept}]
        prompt, answer = self._prompt_and_answer(source)
        if {"label", "probability"} & self._columns.keys():
            return [{"prompt": prompt, "completion": answer, **self._thumb(source), **kept}]
        return [{"prompt": prompt, "reference": text_of(answer[-1]["content"]), **kept}]

    # --- parts of a row ---

    def _value(self, source: Data, part: str) -> tuple[Any, str]:
        column = self._columns[part]
        value = source.get(column)
        if value is None:
            raise BadRow("data.field_missing", column, part=part, found=", ".join(source))
        return value, column

    def _text(self, source: Data) -> str:
        value, column = self._value(source, "text")
        if not isinstance(value, str):
            raise BadRow("data.not_text", column, value=shown(value), type=type_name(value))
        if not value.strip():
            raise BadRow("data.empty_text", column)
        return value

    def _conversation(self, source: Data) -> list[Turn]:
        """Return all turns of the row's conversation, system prompt and earlier rounds in front."""
        value, column = self._value(source, "messages")
        turns = self._with_context(conversation_turns(value, column), source)
        check_order(turns, column, self._warn)
        return turns

    def _with_context(self, turns: list[Turn], source: Data) -> list[Turn]:
        if (history := self._columns.get("history")) is not None:
            turns = [*history_turns(source.get(history), history), *turns]
        if (system := self._columns.get("system")) is not None:
            turns = with_system(turns, source.get(system), system)
        return turns

    def _asked(self, source: Data) -> list[Turn]:
        """Return the turns up to the answer from a prompt column, `input` appended to an instruction."""
        value, column = self._value(source, "prompt")
        given = source.get(self._columns["input"]) if "input" in self._columns else None
        if isinstance(value, str) and given not in (None, ""):
            if not isinstance(given, str):
                column = self._columns["input"]
                raise BadRow("data.not_text", column, value=shown(given), type=type_name(given))
            value = f"{value}\n{given}" if value else given
        turns = self._with_context(turns_of(value, column, "user"), source)
        said = turns[-1]["content"]  # a list of parts may be a picture and nothing else
        if isinstance(said, str) and not said.strip() and turns[-1]["role"] == "user":
            raise BadRow("data.empty_prompt", column)
        if len(turns) > 1:
            check_order(turns, column, self._warn)
        return turns

    def _prompt_only(self, source: Data) -> list[Turn]:
        if "prompt" in self._columns:
            return self._asked(source)
        if "messages" in self._columns:
            turns = self._conversation(source)
            return turns[:-1] if turns[-1]["role"] == "assistant" and len(turns) > 1 else turns
        if "text" in self._columns:
            return [{"role": "user", "content": self._text(source)}]
        return self._chosen(source)[0]

    def _has_answer(self, source: Data) -> bool:
        if "completion" in self._columns:
            return source.get(self._columns["completion"]) is not None
        return "messages" in self._columns and self._conversation(source)[-1]["role"] == "assistant"

    def _prompt_and_answer(self, source: Data) -> tuple[list[Turn], list[Turn]]:
        """Split a row before its answer: the answer's column, or the conversation's last assistant turn."""
        if self._captions:
            return [_picture_alone()], self._said_of_picture(source)[0]
        if "completion" in self._columns:
            prompt = self._asked(source) if "prompt" in self._columns else self._conversation(source)
            return self._answer(source, "completion", prompt)
        turns = self._conversation(source)
        column = self._columns["messages"]
        self._require_answer(turns, column)
        if len(turns) < 2:
            raise BadRow("data.no_question", column)
        return turns[:-1], turns[-1:]

    def _answer(self, source: Data, part: str, prompt: list[Turn]) -> tuple[list[Turn], list[Turn]]:
        """Return prompt and answer; an answer that repeats the prompt (a whole conversation) is cut."""
        value, column = self._value(source, part)
        turns = turns_of(value, column, "assistant")
        if len(turns) > len(prompt) and _same(turns[: len(prompt)], prompt):
            turns = turns[len(prompt) :]
        if turns[0]["role"] != "assistant" or turns[-1]["role"] != "assistant":
            wrong = next(turn["role"] for turn in (turns[0], turns[-1]) if turn["role"] != "assistant")
            raise BadRow("data.answer_role", column, role=wrong)
        if prompt[-1]["role"] == "assistant":
            self._warn("data.same_speaker", column, turn=len(prompt) + 1, role="assistant")
        self._require_text(turns, column)
        return prompt, turns

    def _said_of_picture(self, source: Data) -> list[list[Turn]]:
        """Return what is said of a row's picture: one answer for every caption."""
        value, column = self._value(source, "completion")
        texts = [_caption(item) for item in (value if isinstance(value, list) else [value])]
        if not texts or not all(isinstance(text, str) for text in texts):
            raise BadRow("detect.bad_caption", column, value=shown(value))
        answers: list[list[Turn]] = [[{"role": "assistant", "content": text}] for text in texts]
        for answer in answers:
            self._require_text(answer, column)
        return answers

    def _require_answer(self, turns: list[Turn], column: str) -> None:
        if turns[-1]["role"] != "assistant":
            raise BadRow("data.no_answer", column, role=turns[-1]["role"])
        self._require_text(turns, column)

    def _require_text(self, turns: list[Turn], column: str) -> None:
        last = turns[-1]
        if not last.get("tool_calls") and not text_of(last["content"]).strip():
            raise BadRow("data.empty_answer", column)

    # --- what was said of the answer ---

    def _thumb(self, source: Data) -> Data:
        """Return the raw label, and the probability of being desirable where the row gives one."""
        found: Data = {"label": source.get(self._columns["label"]) if "label" in self._columns else None}
        if (column := self._columns.get("probability")) is None:
            return found
        probability = read_probability(source.get(column))
        if isinstance(probability, Problem):
            raise BadRow(probability.code, column, **probability.values)
        if probability is not None:
            return {**found, "probability": probability}
        if found["label"] is None:
            raise BadRow("data.probability_missing", column)
        return found

    def _judged(self, source: Data) -> Data:
        """Return a label that SFT chooses rows by, if there is one."""
        return self._thumb(source) if {"label", "probability"} & self._columns.keys() else {}

    def _weight(self, source: Data) -> Data:
        if (column := self._columns.get("weight")) is None:
            return {}
        weight = read_weight(source.get(column))
        if isinstance(weight, Problem):
            raise BadRow(weight.code, column, **weight.values)
        if weight is None:
            self._warn("data.weight_missing", column)
        return {"weight": 1.0 if weight is None else weight}

    # --- pairs ---

    def _pair(self, source: Data) -> tuple[list[Turn], list[Turn], list[Turn]]:
        column = self._columns["rejected"]
        if {"prompt", "messages"} & set(self._columns):
            prompt, chosen = self._chosen(source)
            _, rejected = self._answer(source, "rejected", prompt)
        else:
            prompt, chosen, rejected = _split_common(*self._sides(source), column)
            prompt = self._with_context(prompt, source)
            self._require_text(chosen, self._columns["chosen"])
            self._require_text(rejected, column)
        if _same(chosen, rejected):
            self._warn("data.same_pair", column)
        return prompt, chosen, rejected

    def _chosen(self, source: Data) -> tuple[list[Turn], list[Turn]]:
        """Return prompt and preferred answer (without a `chosen` column: the answer that the row gives)."""
        if "chosen" not in self._columns:
            return self._prompt_and_answer(source)
        if "prompt" in self._columns:
            return self._answer(source, "chosen", self._asked(source))
        if "messages" in self._columns:
            turns = self._conversation(source)
            # A conversation that ends with the preferred answer holds the prompt and that answer's copy.
            prompt = turns[:-1] if turns[-1]["role"] == "assistant" and len(turns) > 1 else turns
            return self._answer(source, "chosen", prompt)
        value, column = self._value(source, "chosen")
        turns = self._side(value, column)
        if len(turns) < 2:
            raise BadRow("data.no_question", column)
        self._require_answer(turns, column)
        return self._with_context(turns[:-1], source), turns[-1:]

    def _sides(self, source: Data) -> tuple[list[Turn], list[Turn]]:
        chosen, chosen_column = self._value(source, "chosen")
        rejected, rejected_column = self._value(source, "rejected")
        return self._side(chosen, chosen_column), self._side(rejected, rejected_column)

    def _side(self, value: Any, column: str) -> list[Turn]:
        turns = transcript_turns(value) if isinstance(value, str) else None
        return turns or turns_of(value, column, "assistant")

    # --- what passes through ---

    def _passed(self, source: Data) -> Data:
        passed: Data = {}
        if (column := self._columns.get("tools")) is not None and source.get(column):
            tools = source[column]
            passed["tools"] = _tools(tools, column)
        for part in ("images", "id"):
            if (column := self._columns.get(part)) is not None and source.get(column) is not None:
                passed[part] = source[column]
        return passed

    def _kept(self, source: Data) -> Data:
        kept: Data = {}
        for part in ("reference", "rules", "lang"):
            if (column := self._columns.get(part)) is not None and source.get(column) is not None:
                kept[part] = source[column]
        if "rules" in kept:
            kept["rules"] = _rules(kept["rules"], self._columns["rules"])
        return kept


def _picture_alone() -> Turn:
    """Return the question of a caption: a picture and no words, which nobody wrote."""
    return {"role": "user", "content": ""}


def _caption(item: Any) -> Any:
    if isinstance(item, Mapping):
        return next((item[key] for key in ("caption", "text", "value", "raw", "content") if key in item), None)
    return item


def _tools(tools: Any, column: str) -> str:
    """Return the tools of a row as JSON text, which every row of a data set can hold alike."""
    held = tools
    if isinstance(tools, str):
        try:
            held = json.loads(tools)
        except ValueError:
            raise BadRow("detect.bad_tools", column, value=shown(tools)) from None
    if not isinstance(held, list) or not all(isinstance(tool, Mapping) for tool in held):
        raise BadRow("detect.bad_tools", column, value=shown(tools))
    return tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)


def _rules(value: Any, column: str) -> Data:
    """Return rules that can be judged by (Parquet gives every row every rule, null where it has none)."""
    if not isinstance(value, Mapping):
        raise BadRow("data.bad_rules", column, reason=shown(value))
    rules = {key: wanted for key, wanted in value.items() if wanted is not None}
    try:
        check_rules(rules)
    except ValueError as error:
        raise BadRow("data.bad_rules", column, reason=str(error)) from None
    return rules


def _same(one: list[Turn], other: list[Turn]) -> bool:
    return [(t["role"], t["content"]) for t in one] == [(t["role"], t["content"]) for t in other]


def _split_common(
    chosen: list[Turn], rejected: list[Turn], column: str
) -> tuple[list[Turn], list[Turn], list[Turn]]:
    """Split two whole conversations into their common prompt and the two answers.

    Identical conversations share everything: then the last turn is the answer of both.
    """
    shared = 0
    most = min(len(chosen), len(rejected)) - 1
    while shared < most and _same(chosen[shared : shared + 1], rejected[shared : shared + 1]):
        shared += 1
    if shared == 0:
        raise BadRow("data.no_common_prompt", column)
    answers = chosen[shared:], rejected[shared:]
    for turns in answers:
        if turns[0]["role"] != "assistant" or turns[-1]["role"] != "assistant":
            raise BadRow("data.answer_role", column, role=turns[-1]["role"])
    return chosen[:shared], *answers
