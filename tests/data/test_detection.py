"""What people have is known without help: files of many forms, real ones among them, and shapes of rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.columns import look
from swiftshell.data.load import check_rows, fingerprint, load_rows
from tests.data.conftest import Write, assistant, system, user

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]


def shared() -> Path:
    """Return the folder of real files, or skip."""
    named = os.environ.get("SWIFTSHELL_SHARED_TESTDATA")
    for folder in (Path(named) if named else None, ROOT.parent / "shared", ROOT / "shared"):
        if folder is not None and (folder / "real" / "data").is_dir():
            return folder / "real"
    pytest.skip("no real files: neither ../shared nor shared/ nor $SWIFTSHELL_SHARED_TESTDATA has real/data")


REAL = [
    ("data/alpaca_en_demo.json", "sft", "alpaca", 999, 999),
    ("data/alpaca_zh_demo.json", "sft", "alpaca", 1000, 1000),
    ("data/arc_easy_test.json", "sft", "alpaca", 2376, 2376),
    ("data/dpo_en_demo.json", "dpo", "preference", 300, 300),
    ("data/dpo_zh_demo.json", "dpo", "preference", 300, 300),
    ("data/gsm8k_kto.jsonl", "kto", "prompt_completion", 5276, 5276),
    ("data/gsm8k_test.jsonl", "sft", "question_answer", 1319, 1319),
    ("data/identity.json", "sft", "alpaca", 91, 91),
    ("data/kto-mix-test.json", "kto", "alpaca", 1092, 1092),
    ("data/kto_en_demo.json", "kto", "messages", 300, 300),
    ("data/tinystories_2M_cased.txt", "sft", "text", 2317, 2317),
    ("images/annotations.jsonl", "sft", "captions", 10, 50),
    ("images/derived_dpo.json", "dpo", "preference", 50, 50),
    ("images/derived_kto.jsonl", "kto", "messages", 100, 100),
]


@pytest.mark.parametrize(("name", "purpose", "format_", "rows", "usable"), REAL)
def test_real_files(name: str, purpose: str, format_: str, rows: int, usable: int) -> None:
    path = shared() / name
    found = look(path)
    assert found.layout is not None
    assert (found.purpose, found.layout.format) == (purpose, format_)
    report = check_rows(path, found.purpose)
    assert report.errors == []
    assert (report.rows, report.usable, report.bad_rows) == (rows, usable, 0)


def test_no_real_file_is_left_out_of_the_list() -> None:
    folder = shared()
    there = {str(p.relative_to(folder)) for d in ("data", "images") for p in (folder / d).iterdir() if p.is_file()}
    assert there == {name for name, *_ in REAL}


# ------------------------------------------------------------------------------------------------- kinds of files

ROWS = [{"prompt": f"q{n}", "completion": f"a, \"{n}\"\nb", "label": n % 2 == 0} for n in range(4)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def packed_zst(data: bytes) -> bytes:
    import zstandard

    half = len(data) // 2  # two frames, as tools that append write them
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in (data[:half], data[half:]))


def table(delimiter: str) -> bytes:
    held = io.StringIO()
    writer = csv.DictWriter(held, ["prompt", "completion", "label"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(ROWS)
    return held.getvalue().encode()


def parquet() -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), held)
    return held.getvalue()


def arrow(*, stream: bool) -> bytes:
    import pyarrow as pa

    rows, held = pa.Table.from_pylist(ROWS), io.BytesIO()
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(held, rows.schema) as writer:
        writer.write_table(rows)
    return held.getvalue()


FILES: dict[str, Any] = {
    "rows.jsonl": lambda: LINES,
    "rows.json": lambda: json.dumps(ROWS, indent=1).encode(),
    "one_object.json": lambda: json.dumps({"version": "1", "license": {"name": "x"}, "data": ROWS}).encode(),
    "lines.json": lambda: LINES,
    "list.jsonl": lambda: json.dumps(ROWS).encode(),
    "rows.jsonl.gz": lambda: gzip.compress(LINES),
    "rows.jsonl.zst": lambda: packed_zst(LINES),
    "rows.csv": lambda: table(","),
    "rows.csv.zst": lambda: packed_zst(table(",")),
    "rows.tsv": lambda: table("\t"),
    "semicolons.csv": lambda: table(";"),
    "tabs.csv": lambda: table("\t"),
    "rows.parquet": parquet,
    "file.arrow": lambda: arrow(stream=False),
    "stream.arrow": lambda: arrow(stream=True),
    # The name says nothing, or something else.
    "rows": lambda: LINES,
    "rows.log": lambda: LINES,
    "rows.data": lambda: json.dumps(ROWS).encode(),
    "rows.txt": lambda: LINES,
    "packed": lambda: gzip.compress(LINES),
    "unpacked.jsonl.gz": lambda: LINES,
    "a_parquet.bin": parquet,
    "an_arrow": lambda: arrow(stream=False),
    "table.out": lambda: table("\t"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES[name]())
    assert look(tmp_path / name).purpose == "kto"
    rows = load_rows(tmp_path / name, "kto")
    assert [(r.data["prompt"][0]["content"], r.data["completion"][0]["content"], r.data["label"]) for r in rows] == [
        (row["prompt"], row["completion"], row["label"]) for row in ROWS]


def test_folders_and_patterns(tmp_path: Path) -> None:
    for part in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        (tmp_path / "set" / "data").mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / "data" / f"{part}.parquet").write_bytes(parquet())
    assert check_rows(tmp_path / "set", "kto").rows == 8  # the training files
    assert check_rows(tmp_path / "set", "kto", split="test").rows == 4
    assert check_rows(tmp_path / "set" / "data" / "*.parquet", "kto").rows == 12  # named by a person: all of them
    assert check_rows(tmp_path / "*" / "*" / "train*", "kto").rows == 8
    assert check_rows(tmp_path / "s[e]t", "kto").rows == 8
    first = fingerprint(tmp_path / "set" / "data" / "train*")
    (tmp_path / "set" / "data" / "train-2.parquet").write_bytes(parquet())
    assert fingerprint(tmp_path / "set" / "data" / "train*") != first


def test_a_name_with_brackets_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "rows [1].jsonl").write_bytes(LINES)
    assert check_rows(tmp_path / "rows [1].jsonl", "kto").usable == 4


def test_a_data_set_saved_by_datasets(tmp_path: Path) -> None:
    for name, content in {"data-00000-of-00001.arrow": arrow(stream=True), "cache-0123.arrow": arrow(stream=True),
                          "state.json": b"{}", "dataset_info.json": b"{}"}.items():
        (tmp_path / "saved").mkdir(exist_ok=True)
        (tmp_path / "saved" / name).write_bytes(content)
    assert check_rows(tmp_path / "saved", "kto").rows == 4


# ------------------------------------------------------------------------------------------------- shapes of rows

Q, A, B = user("q"), assistant("a"), assistant("b")
GPT = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]
ASKED = {"prompt": [Q], "completion": [A]}
PAIR = {"prompt": [Q], "chosen": [A], "rejected": [B]}
TALK = {"messages": [Q, A]}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "f", "arguments": {"x": 1}}}]}
TOOL = {"role": "tool", "content": "3"}


@pytest.mark.parametrize(
    ("row", "purpose", "wanted"),
    [
        ({"instruction": "q", "input": "", "output": "a"}, "sft", ASKED),
        ({"Instruction": "q", "Output": "a"}, "sft", ASKED),
        ({"instruction": "q", "input": "", "output": ["a", "b"]}, "dpo", PAIR),
        ({"query": "q", "response": "a", "history": [["u", "v"]], "system": "s"}, "sft",
         {"prompt": [system("s"), user("u"), assistant("v"), Q], "completion": [A]}),
        ({"problem": "q", "solution": "a"}, "sft", ASKED),
        ({"user": "q", "assistant": "a"}, "sft", ASKED),
        ({"conversations": GPT}, "sft", TALK),
        ({"conversation": [{"human": "q", "assistant": "a"}]}, "sft", TALK),
        ({"conversation": [["q", "a"]]}, "sft", TALK),
        ({"data": ["q", "a"], "id": "7"}, "sft", {**TALK, "id": "7"}),
        ({"messages": json.dumps([Q, A])}, "sft", TALK),
        ({"contents": [{"role": "user", "parts": [{"text": "q"}]}, {"role": "model", "parts": [{"text": "a"}]}]}, "sft", TALK),
        ({"body": {"messages": [Q, A]}}, "sft", TALK),
        ({"messages": [Q]}, "prompts", {"prompt": [Q]}),
        ({"prompt": "q"}, "prompts", {"prompt": [Q]}),
        ({"question": "q", "answer": "a"}, "sft", ASKED),
        ({"text": "Once."}, "sft", {"text": "Once."}),
        ({"user": "u17", "text": "Once."}, "sft", {"text": "Once."}),
        # pairs
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "dpo", PAIR),
        ({"chosen": [Q, A], "rejected": [Q, B]}, "dpo", PAIR),
        ({"prompt": [Q], "chosen": [A], "rejected": [B]}, "dpo", PAIR),
        ({"prompt": "q", "chosen": [Q, A], "rejected": [Q, B]}, "dpo", PAIR),
        ({"conversations": GPT[:1], "chosen": GPT[1], "rejected": {"from": "gpt", "value": "b"}}, "dpo", PAIR),
        ({"messages": [Q, A], "rejected_response": "b"}, "dpo", PAIR),
        ({"input": {"messages": [Q]}, "preferred_output": [A], "non_preferred_output": [B]}, "dpo", PAIR),
        ({"question": "q", "response_j": "a", "response_k": "b"}, "dpo", PAIR),
        ({"prompt": "q", "preferred": "a", "dispreferred": "b"}, "dpo", PAIR),
        ({"chosen": "\n\nHuman: q\n\nAssistant: a", "rejected": "\n\nHuman: q\n\nAssistant: b"}, "dpo", PAIR),
        # thumbs
        ({"prompt": "q", "completion": "a", "label": True}, "kto", {**ASKED, "label": True}),
        ({"messages": [Q, A], "kto_tag": True}, "kto", {**ASKED, "label": True}),
        ({"messages": [Q], "response": "a", "is_preferred": True}, "kto", {**ASKED, "label": True}),
        ({"conversations": GPT, "kto_tag": True}, "kto", {**ASKED, "label": True}),
        ({"instruction": "q", "output": "a", "tag": True}, "kto", {**ASKED, "label": True}),
        ({"instruction": "q", "output": "a", "tag": "maths"}, "sft", ASKED),
        ({"prompt": "q", "response": "a", "feedback": "👍"}, "kto", {**ASKED, "label": True}),
        ({"prompt": "q", "response": "a", "preferred": 1}, "kto", {**ASKED, "label": True}),
        ({"prompt": "q", "response": "a", "probability": 0.9}, "kto", {**ASKED, "label": True, "probability": 0.9}),
        # tools
        ({"messages": [Q, CALL, TOOL, A], "tools": [{"name": "f"}]}, "sft",
         {"messages": [Q, CALL, TOOL, A], "tools": '[{"name": "f"}]'}),
        ({"conversations": [GPT[0], {"from": "function_call", "value": '{"name": "f", "arguments": {"x": 1}}'},
                            {"from": "observation", "value": "3"}, GPT[1]], "tools": "[]"}, "sft",
         {"messages": [Q, CALL, TOOL, A], "tools": "[]"}),
        ({"messages": [Q, {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": {"x": 1}}},
                       {"role": "function", "name": "f", "content": "3"}, A]}, "sft",
         {"messages": [Q, CALL, {**TOOL, "name": "f"}, A]}),
        ({"messages": [Q, {"role": "assistant", "content": [{"type": "text", "text": "Wait."},
                                                            {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}]},
                       {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "3"}]}, A]}, "sft",
         {"messages": [Q, {"role": "assistant", "content": "Wait.", "tool_calls": [
             {"type": "function", "id": "1", "function": {"name": "f", "arguments": {"x": 1}}}]},
             {**TOOL, "tool_call_id": "1"}, A]}),
        ({"messages": [{**Q, "name": "Ann"}, {**A, "reasoning_content": "hm"}]}, "sft",
         {"messages": [{**Q, "name": "Ann"}, {**A, "reasoning_content": "hm"}]}),
    ],
)
def test_shapes_are_known_without_help(write: Write, row: Json, purpose: str, wanted: Json) -> None:
    path = write([row, _other(row)] if purpose == "kto" else [row])
    assert look(path).purpose == purpose
    assert load_rows(path, purpose)[0].data == wanted


def _other(row: Json) -> Json:
    """Return the row with its verdict turned round: a set of one class is refused."""
    turned = {True: False, "👍": "👎", 0.9: 0.1}
    return {k: turned[v] if not isinstance(v, list | dict) and v in turned and k != "prompt" else v for k, v in row.items()}


def test_columns_of_a_person_may_reach_into_others(write: Write) -> None:
    path = write([{"ask": {"text": ["x", "q"]}, "reply": {"best": "a"}, "n": 1}])
    columns = {"prompt": "ask.text[1]", "completion": "reply.best"}
    assert load_rows(path, "sft", columns=columns)[0].data == ASKED
    report = check_rows(path, "sft", columns={"prompt": "ask.txt", "completion": "reply.best"})
    assert [p.code for p in report.errors] == ["data.column_absent_near"] or report.errors[0].code == "data.column_absent"


def test_an_answer_to_nothing_is_a_text(write: Write) -> None:
    assert load_rows(write([{"text": "Once.", "answer": "what?"}]), "sft")[0].data == {"text": "Once."}


def test_captions_are_answers_to_a_picture(write: Write, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "img").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "img" / "a.png")
    path = write([{"file_name": "a.png", "captions": [{"caption": "a square"}, {"caption": "black"}]}])
    assert look(path).purpose == "sft"
    rows = load_rows(path, "sft")
    assert [r.data["completion"][0]["content"] for r in rows] == [[{"type": "text", "text": t}] for t in ("a square", "black")]
    assert rows[0].data["prompt"] == [{"role": "user", "content": [{"type": "image"}]}]
    assert rows[0].data["images"] == [str(tmp_path / "img" / "a.png")]
    (tmp_path / "other").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "other" / "a.png")  # now it is not certain which one is meant
    assert check_rows(path, "sft").counts["images.missing"] == 1


def test_what_only_late_rows_have_is_not_lost(write: Write) -> None:
    """Two hundred rows decide the layout; a system prompt or tools that come later must not vanish in silence."""
    rows: list[Json] = [{"prompt": f"q{n}", "completion": "a", "label": n % 2 == 0, "note": None} for n in range(300)]
    rows[250]["note"] = "late, but no part of training"
    report = check_rows(write(rows), "kto")
    assert report.ok
    for column, value in (("system", "be brief"), ("tools", [{"name": "f"}]), ("history", [["u", "v"]]), ("weight", 2)):
        bad = [{**row, column: value} if n in (260, 270) else row for n, row in enumerate(rows)]
        found = [p for p in check_rows(write(bad), "kto").errors if p.code == "detect.late_column"]
        assert [(p.row, p.field_name) for p in found] == [(261, column), (271, column)]
        early = [{**row, column: value} if n in (100, 270) else row for n, row in enumerate(rows)]
        assert check_rows(write(early), "kto").ok


def test_an_empty_column_does_not_slow_the_check(write: Write) -> None:
    """Only names that could matter once they are filled keep a row from being judged at a glance."""
    from swiftshell.data.convert import Converter

    found = look(write([{"prompt": "q", "completion": "a", "label": True, "url": None}]))
    assert found.layout is not None
    converter = Converter(found.layout, "kto", lambda *_, **__: None)
    converter.rows({"prompt": "q", "completion": "a", "label": True, "url": None, "system": None})
    assert "url" in converter.known
    assert "system" not in converter.known
