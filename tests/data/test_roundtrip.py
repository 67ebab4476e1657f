"""Nothing is lost: rows of any kind, written in any form and read again, say the same."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swiftshell.data.export import Exporter, write_rows
from swiftshell.data.load import load_rows
from swiftshell.data.row import Row
from tests.data.conftest import Write, assistant, user

Json = dict[str, Any]

TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=30).filter(lambda s: s.strip())
JSON = st.recursive(st.none() | st.booleans() | st.integers(-5, 5) | TEXT,
                    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2), max_leaves=4)
CALL = st.builds(lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
                 TEXT, st.dictionaries(TEXT, JSON, max_size=2))
TOOL = st.builds(lambda name, about: {"type": "function", "function": {"name": name, "description": about}}, TEXT, TEXT)
EXTRA = st.dictionaries(st.sampled_from(["source", "answer", "tag", "score", "model", "text", "来源", "output", "w", "id2"]),
                        JSON.filter(lambda v: v is not None), max_size=3)


def turn(role: str, text: str, **more: Any) -> Json:
    return {"role": role, "content": text, **more}


@st.composite
def rounds(draw: st.DrawFn, *, rich: bool) -> list[Json]:
    """Return what comes before the last answer."""
    turns = [turn("system", draw(TEXT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        turns += [turn("user", draw(TEXT)), turn("assistant", draw(TEXT))]
    named = {"name": draw(TEXT)} if rich and draw(st.booleans()) else {}
    turns.append(turn("user", draw(TEXT), **named))
    if rich and draw(st.booleans()):
        said = draw(st.just("") | TEXT)
        turns += [turn("assistant", said, tool_calls=draw(st.lists(CALL, min_size=1, max_size=2))), turn("tool", draw(TEXT))]
    return turns


@st.composite
def dataset(draw: st.DrawFn, purpose: str) -> list[Json]:
    """Return rows with ids; a weight and a probability have all of them or none, as where they were read from."""
    weighed, probable, rows = draw(st.booleans()), draw(st.booleans()), []
    for number in range(draw(st.integers(1, 3))):
        rich = draw(st.booleans())
        prompt, answer = draw(rounds(rich=rich)), [turn("assistant", draw(TEXT))]
        data: Json = {"id": f"row {number}"}
        if rich and draw(st.booleans()):
            data["tools"] = json.dumps(draw(st.lists(TOOL, min_size=1, max_size=2)), ensure_ascii=False)
        if purpose == "dpo":
            data |= {"prompt": prompt, "chosen": answer, "rejected": [turn("assistant", draw(TEXT))]}
        elif purpose == "sft":
            data["messages"] = [*prompt, *answer]
        else:
            data |= {"prompt": prompt, "completion": answer, "label": True}
            data |= {"weight": draw(st.floats(0.125, 8))} if weighed else {}
            data |= {"probability": 0.75} if probable else {}
        rows.append(data)
    return rows


def is_rich(data: Json) -> bool:
    """Tell whether turns say more than text; then a form may have no place for the row."""
    return any(set(t) != {"role", "content"} or t["role"] == "tool" for t in data.get("messages") or data["prompt"])


def plain(data: Json) -> Json:
    """Return a row with its tools as objects (how their JSON is spaced says nothing) and, for SFT, as a conversation."""
    data = {**data, "tools": json.loads(data["tools"])} if "tools" in data else dict(data)
    if "completion" in data and "label" not in data:
        data["messages"] = [*data.pop("prompt"), *data.pop("completion")]
    return data


def written_and_read(rows: list[Json], extras: list[Json], form: str, purpose: Any, folder: Path) -> tuple[list[Row], int]:
    source = [Row(n, n, data, "rows.jsonl", extra) for n, (data, extra) in enumerate(zip(rows, extras, strict=True), 1)]
    exporter = Exporter(form, purpose, folder)
    made = exporter.rows(source)
    assert len(made) + len(exporter.problems) == len(rows)
    if not made:
        return [], len(exporter.problems)
    write_rows(made, folder / "out.jsonl")
    return load_rows(folder / "out.jsonl", purpose), len(exporter.problems)


@pytest.mark.parametrize(("form", "purpose"), [("messages", "sft"), ("sharegpt", "sft"), ("alpaca", "sft"), ("kto", "kto"),
                                               ("messages", "kto"), ("sharegpt", "kto"), ("alpaca", "kto"), ("dpo", "dpo"),
                                               ("messages", "dpo"), ("sharegpt", "dpo"), ("alpaca", "dpo")])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_what_is_written_says_the_same(form: str, purpose: str, data: st.DataObject) -> None:
    rows = data.draw(dataset(purpose))
    extras = data.draw(st.lists(EXTRA, min_size=len(rows), max_size=len(rows)))
    if purpose == "kto":  # a set of one class is refused as a whole
        soft = {"probability": 0.25} if "probability" in rows[0] else {}
        heavy = {"weight": 1.0} if "weight" in rows[0] else {}
        asked = {"prompt": [user("q")], "completion": [assistant("a")]}
        rows += [{"id": "no", **asked, "label": False, **soft, **heavy}, {"id": "yes", **asked, "label": True, **heavy}]
        rows[-1] |= {"probability": 1.0} if soft else {}
        extras += [{}, {}]
    with tempfile.TemporaryDirectory() as folder:
        read, refused = written_and_read(rows, extras, form, purpose, Path(folder))
    assert len(read) == len(rows) - refused
    holds_all = form in ("messages", "kto", "dpo")
    assert refused <= (0 if holds_all else sum(map(is_rich, rows)))
    wanted = {data["id"]: (plain(data), extra) for data, extra in zip(rows, extras, strict=True)}
    for one in read:
        same, extra = wanted[one.data["id"]]
        assert plain(one.data) == same
        assert sorted(map(repr, one.extra.values())) == sorted(map(repr, extra.values()))


@pytest.mark.parametrize(("form", "what"), [("alpaca", "tool_calls"), ("sharegpt", "name")])
def test_what_has_no_place_refuses_the_row(tmp_path: Path, form: str, what: str) -> None:
    turns = [turn("user", "q", name="Ann"), turn("assistant", "a")]
    if form == "alpaca":
        called = turn("assistant", "", tool_calls=[{"function": {"name": "f"}}])
        turns = [turn("user", "q"), called, turn("tool", "3"), turn("assistant", "a")]
    exporter = Exporter(form, "sft", tmp_path)
    assert exporter.rows([Row(7, 9, {"messages": turns}, "f.jsonl")]) == []
    problem = exporter.problems[0]
    assert (problem.code, problem.row, problem.line) == ("detect.no_place", 7, 9)
    assert what in str(problem.values["what"])


def test_images_keep_their_places(write: Write, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "img").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / "img" / name)
    source = [{"messages": [user("<image>left, right:<image>which?"), assistant("left")], "images": ["img/a.png", "img/b.png"],
               "label": label} for label in (True, False)]
    rows = load_rows(write(source), "kto")
    for form in ("messages", "sharegpt", "alpaca", "kto"):
        exporter = Exporter(form, "kto", tmp_path)
        made = exporter.rows(rows)
        assert exporter.problems == []
        assert made[0]["images"] == ["img/a.png", "img/b.png"]
        write_rows(made, tmp_path / f"{form}.json")
        again = load_rows(tmp_path / f"{form}.json", "kto")
        assert [r.data for r in again] == [r.data for r in rows]
