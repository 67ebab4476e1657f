"""Detection and conversion: every common shape comes out in TRL's conversational form, with nothing lost."""

from __future__ import annotations

import json
from typing import Any

import pytest

from swiftshell.data.load import check_rows, load_rows, load_with_report
from tests.data.conftest import Write, assistant, system, user

Json = dict[str, Any]
QA: Json = {"prompt": [user("q")], "completion": [assistant("a")]}


def one(write: Write, row: Json, purpose: str, **options: Any) -> Json:
    rows = load_rows(write([row]), purpose, **options)
    assert len(rows) == 1
    return rows[0].data


@pytest.mark.parametrize(
    ("row", "wanted", "format_"),
    [
        ({"instruction": "q", "input": "", "output": "a"}, QA, "alpaca"),
        (
            {"instruction": "q", "input": "i", "output": "a", "system": "s", "history": [["q0", "a0"]]},
            {
                "prompt": [system("s"), user("q0"), assistant("a0"), user("q\ni")],
                "completion": [assistant("a")],
            },
            "alpaca",
        ),
        ({"query": "q", "response": "a", "history": []}, QA, "query_response"),
        ({"question": "q", "answer": "a", "source": "x"}, QA, "question_answer"),
        ({"prompt": "q", "completion": "a"}, QA, "prompt_completion"),
        ({"prompt": [user("q")], "completion": [assistant("a")]}, QA, "prompt_completion"),
        ({"prompt": "q", "response": "a", "output": "ignored"}, QA, "prompt_completion"),
        ({"input": "q", "output": "a"}, QA, "alpaca"),
        ({"messages": [user("q"), assistant("a")]}, {"messages": [user("q"), assistant("a")]}, "messages"),
        (
            {
                "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
                "system": "s",
            },
            {"messages": [system("s"), user("q"), assistant("a")]},
            "sharegpt",
        ),
        ({"messages": [user("q")], "response": "a"}, QA, "messages"),
        ({"text": "Once upon a time."}, {"text": "Once upon a time."}, "text"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, QA, "preference"),
    ],
)
def test_sft(write: Write, row: Json, wanted: Json, format_: str) -> None:
    assert one(write, row, "sft") == wanted
    assert check_rows(write([row]), "sft").format == format_


PAIR: Json = {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"instruction": "q", "input": "", "chosen": "a", "rejected": "b"},
        {"question": "q", "chosen": [assistant("a")], "rejected": [assistant("b")]},
        {"prompt": [user("q")], "chosen": [assistant("a")], "rejected": [assistant("b")]},
        {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]},
        {"prompt": "q", "chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("b")]},
        {"prompt": "q", "messages": [user("q"), assistant("a")], "chosen": "a", "rejected": "b"},
        {"messages": [user("q"), assistant("a")], "rejected_response": "b"},
        {"query": "q", "response": "a", "rejected_response": "b"},
        {
            "conversations": [{"from": "human", "value": "q"}],
            "chosen": {"from": "gpt", "value": "a"},
            "rejected": {"from": "gpt", "value": "b"},
        },
        {"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"},
        {
            "chosen": json.dumps([user("q"), assistant("a")]),
            "rejected": json.dumps([user("q"), assistant("b")]),
        },
    ],
)
def test_pairs(write: Write, row: Json) -> None:
    assert one(write, row, "dpo") == PAIR
    unpaired = load_rows(write([row]), "kto")
    assert [(r.number, r.data["completion"], r.data["label"]) for r in unpaired] == [
        (1, [assistant("a")], True),
        (1, [assistant("b")], False),
    ]


def test_whole_conversations_are_split_where_they_part(write: Write) -> None:
    start = [system("s"), user("q0"), assistant("a0"), user("q")]
    row = {"chosen": [*start, assistant("a")], "rejected": [*start, assistant("b")]}
    assert one(write, row, "dpo") == {
        "prompt": start,
        "chosen": [assistant("a")],
        "rejected": [assistant("b")],
    }
    same = {"chosen": [user("q"), assistant("a")], "rejected": [user("q"), assistant("a")]}
    rows, report = load_with_report(write([same]), "dpo")
    assert rows[0].data["prompt"] == [user("q")]
    assert report.counts == {"data.same_pair": 1}


UNPAIRED: Json = {"prompt": [user("q")], "completion": [assistant("a")], "label": True}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "q", "completion": "a", "label": True},
        {"instruction": "q", "output": "a", "kto_tag": True},
        {"instruction": "q", "input": "", "output": "a", "tag": True},
        {"messages": [user("q"), assistant("a")], "label": True},
        {"messages": [user("q")], "completion": "a", "label": True},
        {"messages": [user("q")], "completion": [user("q"), assistant("a")], "label": True},
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}], "kto_tag": True},
        {"question": "q", "answer": "a", "is_preferred": True},
    ],
)
def test_thumbs(write: Write, row: Json) -> None:
    other = {k: False if v is True else v for k, v in row.items()}
    rows = load_rows(write([row, other]), "kto")
    assert rows[0].data == UNPAIRED
    assert rows[1].data == {**UNPAIRED, "label": False}


def test_last_assistant_turn_is_the_answer(write: Write) -> None:
    turns = [user("q0"), assistant("a0"), user("q"), assistant("a")]
    rows = load_rows(
        write([{"messages": turns, "label": True}, {"messages": turns[:2], "label": False}]), "kto"
    )
    assert rows[0].data == {"prompt": turns[:3], "completion": turns[3:], "label": True}
    assert rows[1].data == {"prompt": turns[:1], "completion": turns[1:2], "label": False}


def test_columns_said_by_a_person_come_first(write: Write) -> None:
    rows = [
        {"prompt": "template", "frage": "q", "response": "a", "is_preferred": y, "label": "chat"}
        for y in (True, False)
    ]
    columns = {"prompt": "frage", "completion": "response", "label": "is_preferred"}
    loaded, report = load_with_report(write(rows), "kto", columns=columns)
    assert loaded[0].data == UNPAIRED
    assert loaded[0].extra == {"prompt": "template", "label": "chat"}
    assert report.columns == columns


def test_format_said_by_a_person_narrows(write: Write) -> None:
    row = {"prompt": "p", "instruction": "q", "output": "a", "completion": "c"}
    assert one(write, row, "sft", format="alpaca") == QA
    assert one(write, row, "sft") == {"prompt": [user("p")], "completion": [assistant("c")]}


def test_prompts(write: Write) -> None:
    wanted = {"prompt": [user("q")]}
    for row in (
        {"prompt": "q"},
        {"instruction": "q", "output": "a"},
        {"messages": [user("q")]},
        {"messages": [user("q"), assistant("a")]},
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"text": "q"},
    ):
        assert one(write, row, "prompts") == wanted
    assert [r.data for r in load_rows(write("q\n", "prompts.txt"), "prompts")] == [wanted]
    assert [r.data for r in load_rows(write('["q"]', "prompts.json"), "prompts")] == [wanted]
    row = load_rows(write([{"id": 7, "prompt": "q", "topic": "x"}]), "prompts")[0]
    assert (row.data["id"], row.extra) == (7, {"topic": "x"})


def test_heldout_keeps_what_can_be_measured(write: Write) -> None:
    full = {
        "prompt": [user("q")],
        "reference": "r",
        "chosen": [assistant("a")],
        "rejected": [assistant("b")],
        "rules": {"contains": ["x"]},
        "lang": "en",
        "id": "n1",
    }
    assert one(write, full, "heldout") == full
    assert one(write, {"question": "q", "answer": "a"}, "heldout") == {
        "prompt": [user("q")],
        "reference": "a",
    }
    assert one(write, {"messages": [user("q"), assistant("a")]}, "heldout") == {
        "prompt": [user("q")],
        "reference": "a",
    }
    assert one(write, {"prompt": "q", "completion": "a", "label": 1}, "heldout") == UNPAIRED
    assert one(write, {"prompt": "q", "rules": {"max_chars": 9}}, "heldout") == {
        "prompt": [user("q")],
        "rules": {"max_chars": 9},
    }
    assert one(write, {"text": "story"}, "heldout") == {"text": "story"}


def test_tools_ids_and_the_rest_pass_through(write: Write) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"x": None}}}
    call = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"type": "function", "function": {"name": "f"}}],
    }
    turns = [user("q"), call, {"role": "tool", "content": "1", "name": "f"}, assistant("a")]
    row = {
        "messages": turns,
        "tools": [tool],
        "id": 3,
        "model": "m",
        "difficulty": 0.5,
    }
    loaded = load_rows(write([row]), "sft")[0]
    assert json.loads(loaded.data.pop("tools")) == [tool]
    assert loaded.data == {
        "messages": [turns[0], {**call, "content": ""}, *turns[2:]],
        "id": 3,
    }
    assert loaded.extra == {"model": "m", "difficulty": 0.5}


def test_sharegpt_function_calls(write: Write) -> None:
    row = {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
            {"from": "observation", "value": "1"},
            {"from": "gpt", "value": "a"},
        ],
        "tools": "[]",
    }
    turns = one(write, row, "sft")["messages"]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "tool", "assistant"]
    assert turns[1]["tool_calls"] == [{"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]


def test_parts_of_text_stay(write: Write) -> None:
    content = [{"type": "text", "text": "Look:"}, {"type": "text", "text": "What is it?"}]
    row = {"messages": [{"role": "user", "content": content}, assistant("a cat")]}
    assert one(write, row, "sft")["messages"][0]["content"] == content


def test_two_system_prompts_are_joined(write: Write) -> None:
    row = {"system": "first", "messages": [system("second"), user("q"), assistant("a")]}
    assert one(write, row, "sft")["messages"][0] == system("first\n\nsecond")
    row = {"system": "same", "messages": [system("same"), user("q"), assistant("a")]}
    assert one(write, row, "sft")["messages"][0] == system("same")


def test_csv_with_everything(write: Write) -> None:
    text = 'prompt,completion,label,note\n"q, 1",a,是,x\nq2,b,否,\n'
    rows = load_rows(write(text, "rows.csv"), "kto")
    assert [r.data["label"] for r in rows] == [True, False]
    assert rows[0].data["prompt"] == [user("q, 1")]
    turns = json.dumps([user("q"), assistant("a")]).replace('"', '""')
    rows = load_rows(write(f'messages\n"{turns}"\n', "chat.csv"), "sft")
    assert rows[0].data == {"messages": [user("q"), assistant("a")]}


def test_columns_that_are_null_everywhere_are_absent(write: Write) -> None:
    row = {
        "prompt": "q",
        "completion": "a",
        "chosen": None,
        "rejected": None,
        "messages": None,
        "label": True,
    }
    assert load_rows(write([row, {**row, "label": False}]), "kto")[0].data == UNPAIRED


def test_plain_conversational_rows_come_out_as_they_went_in(write: Write) -> None:
    """The internal form is a fixed point."""
    for purpose, row in (
        ("kto", UNPAIRED),
        ("dpo", PAIR),
        ("sft", {"messages": [user("q"), assistant("a")]}),
    ):
        rows = [row, {**row, "label": False}] if purpose == "kto" else [row]
        once = [r.data for r in load_rows(write(rows), purpose)]
        assert once == rows
        assert [r.data for r in load_rows(write(once, "again.jsonl"), purpose)] == once
