"""Reading: every format, with row numbers and lines, and every way a file can be broken."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
from pathlib import Path

import pytest

from swiftshell.data.jsonfile import _CHUNK_CHARS
from swiftshell.data.read import read_rows
from swiftshell.data.row import Row
from swiftshell.errors import Problem
from tests.data.conftest import Write


def read(path: Path, split: str | None = None) -> tuple[list[Row], list[Problem]]:
    problems: list[Problem] = []
    return list(read_rows(path, problems.append, split=split)), problems


def places(rows: list[Row]) -> list[tuple[int, int | None, object]]:
    return [(row.number, row.line, row.data) for row in rows]


def test_json_lines_with_blank_lines(write: Write) -> None:
    rows, problems = read(write('{"a": 1}\n\n  \n{"a": 2}\r\n{"a": 3}'))
    assert problems == []
    assert places(rows) == [(1, 1, {"a": 1}), (2, 4, {"a": 2}), (3, 5, {"a": 3})]


def test_byte_order_mark(write: Write) -> None:
    for name in ("rows.jsonl", "rows.json", "rows.csv"):
        text = "a\n1\n" if name.endswith("csv") else '{"a": "1"}'
        rows, problems = read(write(b"\xef\xbb\xbf" + text.encode(), name))
        assert (problems, [row.data for row in rows]) == ([], [{"a": "1"}])


def test_json_array_knows_its_lines(write: Write) -> None:
    rows, problems = read(write('\n[\n {"a": 1},\n\n {"a":\n 2}, {"a": 3}\n]\n', "rows.json"))
    assert problems == []
    assert places(rows) == [(1, 3, {"a": 1}), (2, 5, {"a": 2}), (3, 6, {"a": 3})]


def test_json_array_larger_than_one_chunk(write: Write) -> None:
    big = "x" * (_CHUNK_CHARS // 3)
    data = [{"n": n, "text": big, "number": n * 1000 + 7} for n in range(10)]
    rows, problems = read(write(json.dumps(data, indent=1), "rows.json"))
    assert problems == []
    assert [row.data for row in rows] == data
    assert [row.line for row in rows] == [2 + 5 * n for n in range(10)]


def test_number_cut_by_a_chunk_is_whole(write: Write) -> None:
    for shift in range(12):
        text = '[{"a": "' + "x" * (_CHUNK_CHARS - 20 + shift) + '"}, 123456789, {"a": "y"}]'
        rows, problems = read(write(text, "rows.json"))
        assert [p.values["value"] for p in problems] == ["123456789"]
        assert rows[1].data == {"a": "y"}


@pytest.mark.parametrize("key", ["data", "rows", "train"])
def test_array_inside_an_object(write: Write, key: str) -> None:
    text = json.dumps({"version": "1", "about": {"x": [1]}, key: [{"a": 1}, {"a": 2}], "end": None}, indent=1)
    rows, problems = read(write(text, "rows.json"))
    assert problems == []
    assert [row.data for row in rows] == [{"a": 1}, {"a": 2}]
    assert rows[0].line == 9


def test_single_object_is_one_row(write: Write) -> None:
    rows, _ = read(write('{\n "messages": [1],\n "b": 2\n}', "rows.json"))
    assert places(rows) == [(1, 1, {"messages": [1], "b": 2})]


def test_json_lines_under_the_name_json_and_an_array_under_jsonl(write: Write) -> None:
    rows, problems = read(write([{"a": 1}, {"a": 2}], "rows.json"))
    assert (problems, len(rows), rows[1].line) == ([], 2, 2)
    rows, problems = read(write('[{"a": 1},\n{"a": 2}]', "rows.jsonl"))
    assert (problems, len(rows), rows[1].line) == ([], 2, 2)


def test_gzip(write: Write) -> None:
    rows, problems = read(write(gzip.compress(b'{"a": 1}\n{"a": 2}\n'), "rows.jsonl.gz"))
    assert (problems, len(rows)) == ([], 2)
    rows, problems = read(write(gzip.compress(b"a,b\n1,2\n"), "rows.csv.gz"))
    assert (problems, rows[0].data) == ([], {"a": "1", "b": "2"})


def test_truncated_gzip(write: Write) -> None:
    whole = gzip.compress("\n".join(json.dumps({"a": os.urandom(40).hex()}) for _ in range(500)).encode())
    rows, problems = read(write(whole[: len(whole) // 2], "rows.jsonl.gz"))
    assert problems[-1].code == "data.truncated"
    assert len(rows) > 100  # what could be read was read
    rows, problems = read(write(b'{"a": 1}\n', "rows.jsonl.gz"))  # packed in name only
    assert (len(rows), problems) == (1, [])


def test_csv_with_line_breaks_in_cells(write: Write) -> None:
    rows, problems = read(write('a,b\n"x\ny",1\n\n"p, ""q""",2\n', "rows.csv"))
    assert problems == []
    assert places(rows) == [(1, 2, {"a": "x\ny", "b": "1"}), (2, 5, {"a": 'p, "q"', "b": "2"})]


def test_tsv(write: Write) -> None:
    rows, problems = read(write("a\tb\r\n1\t2, 3\r\n", "rows.tsv"))
    assert (problems, rows[0].data) == ([], {"a": "1", "b": "2, 3"})


def test_csv_with_wrong_number_of_cells(write: Write) -> None:
    rows, problems = read(write("a,b\n1,2\n1,2,3\n4\n5,6\n", "rows.csv"))
    assert [row.number for row in rows] == [1, 4]
    assert [(p.code, p.line, p.row, p.values["found"]) for p in problems] == [
        ("data.csv_cells", 3, 2, 3),
        ("data.csv_cells", 4, 3, 1),
    ]


@pytest.mark.parametrize(("text", "bad"), [("a,a\n1,2\n", "a"), ("a,\n1,2\n", '""')])
def test_csv_header_that_cannot_be_used(write: Write, text: str, bad: str) -> None:
    rows, problems = read(write(text, "rows.csv"))
    assert (rows, problems[0].code, problems[0].values["bad"]) == ([], "data.csv_header", bad)


def test_csv_with_an_open_quote(write: Write) -> None:
    _, problems = read(write('a,b\n"x,1\n2,3\n', "rows.csv"))
    assert [p.code for p in problems] == ["data.bad_csv"]


def test_stories(write: Write) -> None:
    text = "One.\nTwo.\n<|endoftext|>\nThree.\n<|endoftext|>\n\nFour."
    rows, _ = read(write(text, "stories.txt"))
    assert places(rows) == [
        (1, 1, {"text": "One.\nTwo."}),
        (2, 4, {"text": "Three."}),
        (3, 7, {"text": "Four."}),
    ]
    rows, _ = read(write("first\n\nsecond\n", "prompts.txt"))
    assert places(rows) == [(1, 1, {"text": "first"}), (2, 3, {"text": "second"})]


def test_parquet_and_arrow(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    data = [{"prompt": f"p{n}", "messages": [{"role": "user", "content": "x"}]} for n in range(2500)]
    table = arrow.Table.from_pylist(data)
    parquet.write_table(table, tmp_path / "rows.parquet")
    with (
        arrow.OSFile(str(tmp_path / "file.arrow"), "wb") as sink,
        arrow.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    with (
        arrow.OSFile(str(tmp_path / "stream.arrow"), "wb") as sink,
        arrow.ipc.new_stream(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    for name in ("rows.parquet", "file.arrow", "stream.arrow"):
        rows, problems = read(tmp_path / name)
        assert problems == []
        assert [row.data for row in rows] == data
        assert (rows[-1].number, rows[-1].line) == (2500, None)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1 nothing of the kind")
    assert [p.code for p in read(tmp_path / "rows.parquet")[1]] == ["data.unreadable"]


def test_bad_lines_do_not_hide_the_good_ones(write: Write) -> None:
    rows, problems = read(write('{"a": 1}\n{"a": \n[1, 2]\n"text"\n{"a": 2}\n'))
    assert [row.number for row in rows] == [1, 5]
    assert [(p.code, p.line, p.row) for p in problems] == [
        ("data.bad_json", 2, 2),
        ("data.row_not_object", 3, 3),
        ("data.row_not_object", 4, 4),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[\n{"a": 1},\n{"a": 2}\n{"a": 3}\n]', 4),  # a comma is missing
        ('[\n{"a": 1},\n{"a": tru}\n]', 3),
        ('[\n{"a": 1},\n{"a": "open', 3),
        ('[\n{"a": 1}\n] []', 3),
        ('{"data": [{"a": 1}]\n"b": 2}', 2),
    ],
)
def test_broken_json_says_where(write: Write, text: str, line: int) -> None:
    rows, problems = read(write(text, "rows.json"))
    assert [(p.code, p.line) for p in problems] == [("data.bad_json", line)]
    assert rows[0].data == {"a": 1}


def test_deep_nesting_is_no_crash(write: Write) -> None:
    for name in ("rows.json", "rows.jsonl"):
        _, problems = read(write("[" * 200_000 if name == "rows.json" else '{"a":' + "[" * 200_000, name))
        assert [p.code for p in problems] == ["data.bad_json"]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_other_encodings_are_named(write: Write, name: str) -> None:
    head = b"a\n" if name == "rows.csv" else b'{"a": "x"}\n' if name == "rows.jsonl" else b"["
    body = "你好" if name == "rows.csv" else '{"a": "你好"}'
    tail = b"\n" if name != "rows.json" else b"]"
    _, problems = read(write(head + body.encode("gb18030") + tail, name))
    found = next(p for p in problems if p.code == "data.encoding")
    assert (found.line, found.values["guess"]) == (1 if name == "rows.json" else 2, "GB18030")
    _, problems = read(write((head.decode() + body).encode("utf-16"), name))
    assert next(p for p in problems if p.code == "data.encoding").values["guess"] == "UTF-16"


def test_nul_bytes(write: Write) -> None:
    rows, problems = read(write(b'{"a": 1}\n\0\0\0\n{"a": 2}\n'))
    assert len(rows) == 2
    assert [(p.code, p.line) for p in problems] == [("data.bad_json", 2)]


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("rows.jsonl", "", "data.empty"),
        ("rows.json", "[]", "data.empty"),
        ("rows.json", "  \n", "data.empty"),
        ("rows.csv", "a,b\n", "data.empty"),
        ("rows.xlsx", "x", "data.unknown_type"),
        ("rows", "x", "data.unknown_type"),
        ("rows.parquet.gz", "x", "data.unknown_type"),
    ],
)
def test_nothing_to_read(write: Write, name: str, content: str, code: str) -> None:
    rows, problems = read(write(content, name))
    assert rows == []
    assert [p.code for p in problems] == [code]


def test_missing_file_names_the_nearest(write: Write) -> None:
    path = write([{"a": 1}], "thumbs.jsonl")
    _, problems = read(path.with_name("thumb.jsonl"))
    assert (problems[0].code, problems[0].values["near"]) == ("data.not_found_near", "thumbs.jsonl")
    _, problems = read(path.parent / "nowhere" / "x.jsonl")
    assert [p.code for p in problems] == ["data.not_found"]


def test_unreadable_file() -> None:
    """Root may read everything, so root reads as nobody here."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "rows.jsonl"
        path.write_text('{"a": 1}\n', encoding="utf-8")
        path.chmod(0)
        is_root = os.geteuid() == 0
        if is_root:
            os.seteuid(65534)
        try:
            problems = read(path)[1]
        finally:
            if is_root:
                os.seteuid(0)
        assert [p.code for p in problems] == ["data.unreadable"]


def test_folder_reads_its_files_in_order(write: Write) -> None:
    folder = write([{"a": 1}, {"a": 2}], "set/b.jsonl").parent
    write([{"a": 0}], "set/a.json")
    write("# a card\n", "set/README.md")
    write({"splits": 1}, "set/dataset_info.json")
    write([{"a": 9}], "set/.cache/x.jsonl")
    rows, problems = read(folder)
    assert problems == []
    assert [(Path(r.file).name, r.number, r.data["a"]) for r in rows] == [
        ("a.json", 1, 0),
        ("b.jsonl", 1, 1),
        ("b.jsonl", 2, 2),
    ]


def test_folder_with_splits(write: Write) -> None:
    folder = write([{"a": "train"}], "set/data/train-00000-of-00001.jsonl").parents[1]
    write([{"a": "test"}], "set/data/test-00000-of-00001.jsonl")
    assert [r.data["a"] for r in read(folder)[0]] == ["train"]
    assert [r.data["a"] for r in read(folder, "test")[0]] == ["test"]
    _, problems = read(folder, "validation")
    assert problems[0].code == "data.no_split"
    assert "train-00000" in problems[0].values["files"]


def test_artifact_folder_names_its_files(write: Write) -> None:
    folder = write([{"a": 1}], "set/x.jsonl").parent
    write([{"a": 2}], "set/y.jsonl")
    (folder / "ARTIFACT.json").write_text(json.dumps({"v": 1, "data_files": ["y.jsonl"]}), encoding="utf-8")
    assert [r.data["a"] for r in read(folder)[0]] == [2]


def test_folder_without_data(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("x")
    assert [p.code for p in read(tmp_path)[1]] == ["data.no_files"]


def test_reading_is_streaming(write: Write) -> None:
    """The first row is there before the broken end of the file was looked at."""
    path = write(
        "[" + ",\n".join(json.dumps({"a": "x" * 1000}) for _ in range(5000)) + ", {oops", "rows.json"
    )
    problems: list[Problem] = []
    first = next(iter(read_rows(path, problems.append)))
    assert (first.number, problems) == (1, [])
