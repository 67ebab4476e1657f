"""Files as people have them when something is wrong, made on the spot, each with what must be said of it and where.

A case is written into an empty folder by its `make`, which returns the path to check. `code` is what must be said, `row`
and `line` where (None: of the file as a whole), `says` a word that the message must hold beside what its code says.
"""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Make = Callable[[Path], Path]


@dataclass(frozen=True)
class Case:
    """One broken file; `severity` of a warning lets training go on, of an error refuses it."""

    name: str
    purpose: str
    make: Make
    code: str
    row: int | None = None
    line: int | None = None
    says: str = ""
    severity: str = "error"


def thumb(number: int, label: Any = None, **more: Any) -> Json:
    """Return a good row for KTO, of alternating classes."""
    return {
        "prompt": f"question {number}",
        "completion": f"answer {number}",
        "label": number % 2 == 0 if label is None else label,
        **more,
    }


def talk(*turns: tuple[str, Any]) -> Json:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


GOOD_TALK = talk(("user", "q"), ("assistant", "a"))
THUMBS = [thumb(n) for n in range(6)]


def jsonl(*rows: Any) -> bytes:
    return b"".join(
        (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)).encode() + b"\n"
        for row in rows
    )


def file(content: bytes, name: str = "rows.jsonl") -> Make:
    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content)
        return path

    return make


def rows(*given: Any) -> Make:
    return file(jsonl(*given))


def among(*bad: Any) -> Make:
    """Put rows behind six good rows for KTO: the first bad one is row 7."""
    return rows(*THUMBS, *bad)


def talks(*bad: Any) -> Make:
    """Put rows behind two good conversations: the first bad one is row 3."""
    return rows(GOOD_TALK, talk(("user", "q2"), ("assistant", "a2")), *bad)


def pairs(*bad: Any) -> Make:
    """Put rows behind a good pair: the first bad one is row 2."""
    return rows({"prompt": "q", "chosen": "a", "rejected": "b"}, *bad)


def zipped(folder: Path) -> Path:
    path = folder / "rows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("rows.jsonl", jsonl(*THUMBS))
    return path


def workbook(folder: Path) -> Path:
    path = folder / "rows.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("xl/workbook.xml", "<workbook/>")
    return path


def database(folder: Path) -> Path:
    path = folder / "rows.db"
    with sqlite3.connect(path) as link:
        link.execute("create table thumbs (prompt text)")
    link.close()
    return path


def zstd_cut(folder: Path) -> Path:
    import zstandard

    packed = zstandard.ZstdCompressor(level=1).compress(
        jsonl(*(thumb(n, text="xyz" * (n % 7)) for n in range(40000)))
    )
    path = folder / "rows.jsonl.zst"
    path.write_bytes(packed[: len(packed) * 2 // 3])
    return path


def parquet_cut(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    held = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(THUMBS), held)
    return file(held.getvalue()[:-20], "rows.parquet")(folder)


def empty_folder(folder: Path) -> Path:
    (folder / "data").mkdir()
    (folder / "data" / "README.md").write_text("nothing here\n", encoding="utf-8")
    return folder / "data"


def misspelt(folder: Path) -> Path:
    file(jsonl(*THUMBS), "thumbs.jsonl")(folder)
    return folder / "thumb.jsonl"


def pattern(folder: Path) -> Path:
    file(jsonl(*THUMBS), "thumbs.jsonl")(folder)
    return folder / "*.csv"


def picture(content: bytes | None, *, given: Any = "p.png", text: str = "<image>what?") -> Make:
    def make(folder: Path) -> Path:
        from PIL import Image

        Image.new("RGB", (4, 4)).save(folder / "good.png")
        if content is not None:
            (folder / "p.png").write_bytes(content)
        good = {**talk(("user", "<image>what?"), ("assistant", "a")), "images": ["good.png"]}
        bad = {
            **talk(("user", text), ("assistant", "a")),
            "images": [given] if isinstance(given, str) else given,
        }
        return rows(good, bad)(folder)

    return make


def cut_png() -> bytes:
    from PIL import Image

    held = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(held, "PNG")
    return held.getvalue()[:-300]


PACKED = gzip.compress(jsonl(*(thumb(n) for n in range(3000))), mtime=0)
CASES = [
    # --- bytes that are no text, or another text
    Case(
        "utf-16 with a mark",
        "kto",
        file(jsonl(*THUMBS).decode().encode("utf-16")),
        "data.encoding",
        None,
        1,
        "UTF-16",
    ),
    Case(
        "utf-16 without a mark",
        "kto",
        file(jsonl(*THUMBS).decode().encode("utf-16-le")),
        "data.encoding",
        None,
        1,
        "UTF-16LE",
    ),
    Case(
        "utf-16, other order",
        "kto",
        file(jsonl(*THUMBS).decode().encode("utf-16-be")),
        "data.encoding",
        None,
        1,
        "UTF-16BE",
    ),
    Case(
        "gb18030",
        "kto",
        file(
            jsonl(*THUMBS) + json.dumps(thumb(1, x="中文内容"), ensure_ascii=False).encode("gb18030") + b"\n"
        ),
        "data.encoding",
        None,
        7,
        "GB18030",
    ),
    Case(
        "latin-1 in a table",
        "kto",
        file("prompt,completion,label\nq,b,1\ncaf\u00e9,a,0\n".encode("latin-1"), "rows.csv"),
        "data.encoding",
        None,
        3,
    ),
    Case(
        "cut inside a character",
        "kto",
        file(jsonl(*THUMBS) + '{"prompt": "问'.encode()[:-1]),
        "data.encoding",
        None,
        7,
    ),
    Case(
        "a zero byte in a line",
        "kto",
        among('{"prompt": "a\0b", "completion": "c", "label": true}'),
        "data.bad_json",
        7,
        7,
    ),
    Case("random bytes", "kto", file(bytes(range(256)) * 40), "data.binary", None, None),
    Case(
        "half an emoji",
        "kto",
        among('{"prompt": "\\ud83d", "completion": "c", "label": true}'),
        "data.bad_character",
        7,
        7,
        "ud83d",
    ),
    Case(
        "a mark inside", "kto", file(jsonl(*THUMBS) + b"\xef\xbb\xbf" + jsonl(*THUMBS)), "data.bad_json", 7, 7
    ),
    # --- files that are something else, or not whole
    Case("gzip cut off", "kto", file(PACKED[: len(PACKED) // 2], "rows.jsonl.gz"), "data.truncated"),
    Case("gzip with a wrong sum", "kto", file(PACKED[:-8] + bytes(8), "rows.jsonl.gz"), "data.truncated"),
    Case("zstd cut off", "kto", zstd_cut, "data.truncated"),
    Case("parquet cut off", "kto", parquet_cut, "data.unreadable"),
    Case("zip", "kto", zipped, "detect.foreign", says="zip"),
    Case("a workbook", "kto", workbook, "detect.foreign", says="zip"),
    Case(
        "an old workbook",
        "kto",
        file(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "rows.xls"),
        "detect.foreign",
        says="Excel",
    ),
    Case("a database", "kto", database, "detect.foreign", says="SQLite"),
    Case("a pickle", "kto", file(b"\x80\x04\x95" + bytes(30), "rows.pkl"), "detect.foreign", says="pickle"),
    Case(
        "a page that says not found",
        "kto",
        file(b"<!DOCTYPE html><html><body>404</body></html>"),
        "detect.foreign",
        says="HTML",
    ),
    Case(
        "a pointer of git lfs",
        "kto",
        file(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n"),
        "detect.lfs_pointer",
        None,
        1,
    ),
    Case(
        "yaml", "kto", file(b"- prompt: a\n  completion: b\n", "rows.yaml"), "data.unknown_type", says=".yaml"
    ),
    Case("nothing in it", "kto", file(b""), "data.empty"),
    Case("blank lines only", "kto", file(b"\n  \n\n"), "data.empty"),
    Case("an empty list", "kto", file(b"[]", "rows.json"), "data.empty"),
    Case("a header and no rows", "kto", file(b"prompt,completion,label\n", "rows.csv"), "data.empty"),
    Case("a folder without data", "kto", empty_folder, "data.no_files"),
    Case("a name misspelt", "kto", misspelt, "data.not_found_near", says="thumbs.jsonl"),
    Case("a pattern that fits nothing", "kto", pattern, "detect.pattern_empty", says="thumbs.jsonl"),
    # --- JSON and tables that are none
    Case(
        "single quotes",
        "kto",
        among("{'prompt': 'a', 'completion': 'b', 'label': True}"),
        "data.bad_json",
        7,
        7,
    ),
    Case("a line that ends early", "kto", among('{"prompt": "a", "completion": "b'), "data.bad_json", 7, 7),
    Case(
        "two rows in a line", "kto", among(json.dumps(thumb(7)) + json.dumps(thumb(8))), "data.bad_json", 7, 7
    ),
    Case("a comment", "kto", file(b"// thumbs\n" + jsonl(*THUMBS)), "data.bad_json", 1, 1),
    Case(
        "a comma too many",
        "kto",
        file(b'[\n{"prompt": "a", "completion": "b", "label": true},\n]', "rows.json"),
        "data.bad_json",
        2,
        3,
    ),
    Case(
        "a list cut off",
        "kto",
        file(json.dumps(THUMBS, indent=0).encode()[:-30], "rows.json"),
        "data.bad_json",
        6,
        None,
    ),
    Case("two lists", "kto", file(json.dumps(THUMBS).encode() * 2, "rows.json"), "data.bad_json", None, 1),
    Case("a row that is a list", "kto", among(["a", "b", True]), "data.row_not_object", 7, 7, "array"),
    Case("a row that is a number", "kto", among(5), "data.row_not_object", 7, 7, "number"),
    Case(
        "a key twice",
        "kto",
        among('{"prompt": "a", "label": true, "completion": "b", "label": false}'),
        "scan.key_twice",
        7,
        7,
        "label",
    ),
    Case(
        "nested without end",
        "kto",
        among('{"prompt": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        "data.bad_json",
        7,
        7,
    ),
    Case(
        "a cell missing",
        "kto",
        file(b"prompt,completion,label\na,b,1\nc,d\ne,f,0\n", "rows.csv"),
        "data.csv_cells",
        2,
        3,
    ),
    Case(
        "a comma without quotes",
        "kto",
        file(b"prompt,completion,label\na,b,1\nhi, you,d,0\n", "rows.csv"),
        "data.csv_cells",
        2,
        3,
    ),
    Case(
        "a quote that never ends",
        "kto",
        file(b'prompt,completion,label\na,b,1\n"c,d,0\n', "rows.csv"),
        "data.bad_csv",
        None,
        None,
    ),
    Case(
        "a column twice",
        "kto",
        file(b"prompt,completion,prompt\na,b,c\n", "rows.csv"),
        "data.csv_header",
        None,
        1,
    ),
    Case(
        "no header",
        "kto",
        file(b"what is it?,a cat,1\nand that?,a dog,0\n", "rows.csv"),
        "data.no_answer_column",
        says="a cat",
    ),
    # --- columns
    Case(
        "no label column",
        "kto",
        rows({"prompt": "a", "completion": "b"}),
        "data.no_label_column",
        says="prompt, completion",
    ),
    Case("no answers", "sft", rows({"prompt": "a"}, {"prompt": "b"}), "data.no_answer_column"),
    Case("no pair", "dpo", rows({"prompt": "a", "completion": "b"}), "data.no_pair"),
    Case(
        "rows of two kinds",
        "sft",
        talks({"prompt": "a", "completion": "b"}),
        "data.field_missing",
        3,
        3,
        "messages",
    ),
    Case(
        "label and answer swapped",
        "kto",
        rows(*({**thumb(n), "completion": n % 2 == 0, "label": f"answer {n}"} for n in range(4))),
        "data.not_text",
        1,
        1,
        "boolean",
    ),
    Case(
        "question and answer swapped",
        "kto",
        rows(
            *(
                {
                    "prompt": [{"role": "assistant", "content": "a"}],
                    "label": n % 2 == 0,
                    "completion": [{"role": "user", "content": f"q{n}"}],
                }
                for n in range(4)
            )
        ),
        "data.answer_role",
        1,
        1,
        "user",
    ),
    # --- turns
    Case("messages null", "sft", talks({"messages": None}), "data.field_missing", 3, 3),
    Case(
        "a turn null",
        "sft",
        talks({"messages": [None, {"role": "assistant", "content": "a"}]}),
        "data.bad_turn",
        3,
        3,
        "turn 1",
    ),
    Case(
        "content null",
        "sft",
        talks(talk(("user", None), ("assistant", "a"))),
        "data.turn_without_content",
        3,
        3,
        "turn 1",
    ),
    Case(
        "a null deep inside",
        "sft",
        talks(talk(("user", [{"type": "text", "text": None}, None]), ("assistant", "a"))),
        "data.turn_not_text",
        3,
        3,
        "turn 1",
    ),
    Case(
        "a number for content",
        "sft",
        talks(talk(("user", 5), ("assistant", "a"))),
        "data.turn_not_text",
        3,
        3,
        "number",
    ),
    Case(
        "no role",
        "sft",
        talks({"messages": [{"content": "q"}, {"role": "assistant", "content": "a"}]}),
        "data.turn_without_role",
        3,
        3,
    ),
    Case(
        "a role nobody knows",
        "sft",
        talks(talk(("narrator", "q"), ("assistant", "a"))),
        "data.unknown_role",
        3,
        3,
        "narrator",
    ),
    Case("no turns", "sft", talks({"messages": []}), "data.empty_turns", 3, 3),
    Case(
        "ends with the question",
        "sft",
        talks(talk(("user", "q"), ("assistant", "a"), ("user", "q"))),
        "data.no_answer",
        3,
        3,
        "user",
    ),
    Case(
        "the answer first",
        "sft",
        talks(talk(("assistant", "a"), ("user", "q"), ("assistant", "b"))),
        "detect.answer_first",
        3,
        3,
        severity="warning",
    ),
    Case(
        "the same speaker twice",
        "sft",
        talks(talk(("user", "q"), ("user", "r"), ("assistant", "b"))),
        "data.same_speaker",
        3,
        3,
        severity="warning",
    ),
    Case(
        "a late system turn",
        "sft",
        talks(talk(("user", "q"), ("system", "s"), ("assistant", "b"))),
        "data.late_system",
        3,
        3,
        severity="warning",
    ),
    Case(
        "a tool nobody called",
        "sft",
        talks(talk(("user", "q"), ("tool", "3"), ("assistant", "b"))),
        "detect.tool_uncalled",
        3,
        3,
        severity="warning",
    ),
    Case("an empty answer", "sft", talks(talk(("user", "q"), ("assistant", ""))), "data.empty_answer", 3, 3),
    Case("an answer of spaces", "kto", among(thumb(7, completion=" \n\t")), "data.empty_answer", 7, 7),
    Case("an empty question", "kto", among({**thumb(7), "prompt": "  "}), "data.empty_prompt", 7, 7),
    Case(
        "turns as Python prints them",
        "sft",
        file(b"messages\n\"[{'role': 'user', 'content': 'q'}]\"\n", "rows.csv"),
        "detect.python_turns",
        1,
        2,
    ),
    Case(
        "a call that is none",
        "sft",
        talks(
            {
                "conversations": None,
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": None, "tool_calls": ["add"]},
                ],
            }
        ),
        "data.bad_function_call",
        3,
        3,
    ),
    Case(
        "a function call cut off",
        "sft",
        talks(
            {
                "messages": [
                    {"from": "human", "value": "q"},
                    {"from": "function_call", "value": '{"name": "f", "argu'},
                ]
            }
        ),
        "data.bad_function_call",
        3,
        3,
    ),
    Case(
        "tools that are no JSON",
        "sft",
        rows({**GOOD_TALK, "tools": "[{'name': 'f'}]"}),
        "detect.bad_tools",
        1,
        1,
    ),
    Case(
        "a history of three",
        "sft",
        rows({"query": "q", "response": "a", "history": [["a", "b", "c"]]}),
        "data.bad_history",
        1,
        1,
    ),
    # --- labels, weights, pairs
    Case("a label missing", "kto", among({"prompt": "a", "completion": "b"}), "data.label_missing", 7, 7),
    Case("a label null", "kto", among({**thumb(7), "label": None}), "data.label_missing", 7, 7),
    Case("a label nobody knows", "kto", among(thumb(7, "maybe")), "data.label_unknown", 7, 7, "maybe"),
    Case(
        "a label of stars", "kto", rows(*(thumb(n, n % 5 + 1) for n in range(10))), "data.label_score", 2, 2
    ),
    Case(
        "zero between one and minus one",
        "kto",
        rows(thumb(1, 1), thumb(2, -1), thumb(3, 0)),
        "data.label_neither",
        3,
        3,
    ),
    Case("a label that is a list", "kto", among(thumb(7, [True])), "data.label_unknown", 7, 7),
    Case(
        "only good ones",
        "kto",
        rows(*(thumb(n, True) for n in range(5))),
        "data.one_class_desirable",
        says="5",
    ),
    Case(
        "only bad ones",
        "kto",
        rows(*(thumb(n, False) for n in range(5))),
        "data.one_class_undesirable",
        says="5",
    ),
    Case(
        "sorted by label",
        "kto",
        rows(*(thumb(n, n < 40) for n in range(80))),
        "scan.sorted_by_label",
        severity="note",
    ),
    Case(
        "a weight as a word",
        "kto",
        rows(thumb(1, weight=1), thumb(2, weight="heavy")),
        "data.weight_not_number",
        2,
        2,
        "heavy",
    ),
    Case(
        "a weight below zero",
        "kto",
        rows(thumb(1, weight=1), thumb(2, weight=-1)),
        "data.weight_negative",
        2,
        2,
    ),
    Case(
        "a weight that is no number",
        "kto",
        rows(thumb(1, weight=1), json.dumps(thumb(2, weight=float("nan")))),
        "data.weight_not_number",
        2,
        2,
    ),
    Case("all weights zero", "kto", rows(thumb(1, weight=0), thumb(2, weight=0)), "data.weights_all_zero"),
    Case(
        "a probability above one",
        "kto",
        rows(thumb(1, probability=0.5), thumb(2, probability=1.7)),
        "data.probability_percent",
        2,
        2,
    ),
    Case(
        "a probability below zero",
        "kto",
        rows(thumb(1, probability=0.5), thumb(2, probability=-0.1)),
        "data.probability_range",
        2,
        2,
    ),
    Case(
        "both labels for one answer",
        "kto",
        among({**THUMBS[0], "label": False}),
        "data.contradiction",
        7,
        7,
        "row 1",
        severity="warning",
    ),
    Case("a row twice", "kto", among(THUMBS[0]), "data.duplicate", 7, 7, "row 1", severity="warning"),
    Case(
        "chosen null",
        "dpo",
        pairs({"prompt": "q", "chosen": None, "rejected": "b"}),
        "data.field_missing",
        2,
        2,
        "chosen",
    ),
    Case(
        "twice the same answer",
        "dpo",
        pairs({"prompt": "q", "chosen": "a", "rejected": "a"}),
        "data.same_pair",
        2,
        2,
        severity="warning",
    ),
    Case(
        "two questions",
        "dpo",
        rows(
            {
                "chosen": talk(("user", "q"), ("assistant", "a"))["messages"],
                "rejected": talk(("user", "r"), ("assistant", "b"))["messages"],
            }
        ),
        "data.no_common_prompt",
        1,
        1,
    ),
    Case(
        "numbers for answers",
        "dpo",
        pairs({"prompt": "q", "chosen": 1, "rejected": 2}),
        "data.not_text",
        2,
        2,
        "number",
    ),
    Case(
        "rules nobody knows",
        "heldout",
        rows({"prompt": "q", "rules": {"at_least": "x"}}),
        "data.bad_rules",
        1,
        1,
    ),
    # --- pictures
    Case("a picture missing", "sft", picture(None), "images.missing", 2, 2, "p.png"),
    Case("a picture that is text", "sft", picture(b"no picture"), "images.not_image", 2, 2),
    Case("a picture cut off", "sft", picture(cut_png()), "images.broken", 2, 2),
    Case("a picture on the web", "sft", picture(None, given="https://example.org/p.png"), "images.url", 2, 2),
    Case(
        "more pictures than places",
        "sft",
        picture(None, given=["good.png", "good.png"]),
        "images.count",
        2,
        2,
    ),
]
