"""Rows with images: how they may name them, and everything that can be wrong with one, told by row and file."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swiftshell.data.images import look, open_picture
from swiftshell.data.load import check_rows, load_rows
from swiftshell.data.row import BadRow
from swiftshell.errors import SwiftshellError

# One white pixel, as PNG.
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4//8/AAX+Av4N70a4AAAAAElFTkSuQmCC"
)
IMAGE, ANSWER = {"type": "image"}, {"role": "assistant", "content": "White."}
Write = Callable[..., Path]


def text(said: str) -> dict[str, str]:
    return {"type": "text", "text": said}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes rows beside a folder `img` with the pictures a.png and b.png."""
    (tmp_path / "img").mkdir()
    for name in ("a.png", "b.png"):
        (tmp_path / "img" / name).write_bytes(PIXEL)

    def rows(*rows: dict[str, Any]) -> Path:
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
        return path

    return rows


def asked(content: Any, images: Any = None, **more: Any) -> dict[str, Any]:
    row = {"messages": [{"role": "user", "content": content}, ANSWER], **more}
    return row if images is None else {**row, "images": images}


def said(path: Path, purpose: str = "sft") -> str:
    with pytest.raises(SwiftshellError) as caught:
        load_rows(path, purpose)
    return str(caught.value)


@pytest.mark.parametrize(
    ("row", "parts"),
    [
        (asked("<image>What is it?", ["img/a.png"]), [IMAGE, text("What is it?")]),
        (asked("Is <image> like this?", ["img/a.png"]), [text("Is "), IMAGE, text(" like this?")]),
        (asked("What is it?", ["img/a.png"]), [IMAGE, text("What is it?")]),
        (asked("What is it?", "img/a.png"), [IMAGE, text("What is it?")]),
        (asked("What is it?", {"path": "img/a.png"}), [IMAGE, text("What is it?")]),
        (asked([text("What?"), IMAGE], ["img/a.png"]), [text("What?"), IMAGE]),
        (asked([{"type": "image", "image": "img/a.png"}, text("What?")]), [IMAGE, text("What?")]),
        (asked([{"type": "image_url", "image_url": {"url": "img/a.png"}}]), [IMAGE]),
    ],
)
def test_every_way_to_name_an_image_becomes_parts_and_a_path(
    write: Write, row: dict[str, Any], parts: list[Any]
) -> None:
    path = write(row)
    data = load_rows(path, "sft")[0].data
    assert data["messages"] == [
        {"role": "user", "content": parts},
        {"role": "assistant", "content": [text("White.")]},
    ]
    assert data["images"] == [str(path.parent / "img" / "a.png")]


def test_images_keep_the_order_of_their_places(write: Write) -> None:
    row = asked([{"type": "image", "image": "img/b.png"}, IMAGE, text("Which?")], ["img/a.png"])
    assert [Path(p).name for p in load_rows(write(row), "sft")[0].data["images"]] == ["b.png", "a.png"]


def test_the_column_may_have_any_name(write: Write) -> None:
    path = write({**asked("<image>What?"), "picture": "img/a.png"})
    row = load_rows(path, "sft", columns={"images": "picture"})[0]
    assert len(row.data["images"]) == 1


def test_absolute_paths_are_taken_as_they_are(write: Write, tmp_path: Path) -> None:
    path = write(asked("<image>What?", [str(tmp_path / "img" / "b.png")]))
    assert load_rows(path, "sft")[0].data["images"] == [str(tmp_path / "img" / "b.png")]


def test_a_row_without_images_stays_text_beside_rows_with_some(write: Write) -> None:
    path = write(asked("<image>What?", ["img/a.png"]), asked("Hello", []))
    with_one, without = load_rows(path, "sft")
    assert "images" in with_one.data
    assert without.data == {"messages": [{"role": "user", "content": "Hello"}, ANSWER]}
    assert check_rows(path, "sft").images == {"rows": 1, "files": 1}


def test_the_word_in_the_text_means_nothing_without_a_column(write: Write) -> None:
    row = load_rows(write(asked("Explain the HTML tag <image>")), "sft")[0]
    assert row.data["messages"][0]["content"] == "Explain the HTML tag <image>"


def test_pairs_and_thumbs_have_their_images_too(write: Write) -> None:
    pair = {
        "conversations": [{"from": "human", "value": "<image>What?"}],
        "chosen": {"from": "gpt", "value": "White."},
        "rejected": {"from": "gpt", "value": "Black."},
        "images": ["img/a.png"],
    }
    path = write(pair)
    row = load_rows(path, "dpo")[0].data
    assert row["prompt"] == [{"role": "user", "content": [IMAGE, text("What?")]}]
    assert row["rejected"] == [{"role": "assistant", "content": [text("Black.")]}]
    thumbs = load_rows(path, "kto")
    assert [t.data["label"] for t in thumbs] == [True, False]
    assert all(t.data["images"] == row["images"] for t in thumbs)


def test_rows_that_differ_in_their_image_only_are_no_copies(write: Write) -> None:
    rows = [asked("<image>What?", [f"img/{n}.png"], label=label) for n, label in (("a", True), ("b", False))]
    assert check_rows(write(*rows), "kto").problems == []


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (asked("<image>?", ["img/c.png"]), "there is no image img/c.png (looked for in "),
        (asked("<image>?", ["https://example.org/a.png"]), "https://example.org/a.png is an address"),
        (asked("<image><image>?", ["img/a.png"]), "1 images are named, and the text has places for 2"),
        (asked("<image>?", ["img/a.png", "img/b.png"]), "2 images are named, and the text has places for 1"),
        (asked("<image>?", []), "0 images are named, and the text has places for 1"),
        (asked("<image>?", [7]), "an image must be a path, found number: 7"),
        (asked("<image>?", ["img"]), "the image img cannot be read: Is a directory"),
        (asked("<image><|image_pad|>?", ["img/a.png"]), "the text holds <|image_pad|>"),
        (asked([IMAGE, {"type": "video"}], ["img/a.png"]), "a turn has a part of type 'video'"),
        (
            {
                "messages": [
                    {"role": "user", "content": "q"},
                    {"role": "assistant", "content": [IMAGE, text("a")]},
                ],
                "images": ["img/a.png"],
            },
            "an answer has an image in it",
        ),
        ({"text": "story", "images": ["img/a.png"]}, "a row with images needs a question and an answer"),
    ],
)
def test_what_is_wrong_is_told_with_row_and_file(write: Write, row: dict[str, Any], wanted: str) -> None:
    good = {"text": "story", "images": []} if "text" in row else asked("<image>fine", ["img/a.png"])
    message = said(write(good, row))
    assert wanted in message
    assert "rows.jsonl:2 (row 2)" in message
    assert "hint: " in message


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "is not an image, it begins with"),
        (b"<html>no</html>", "is not an image, it begins with b'<html>no</html>'"),
        (PIXEL[:40], "is damaged or cut off"),
    ],
)
def test_a_file_that_is_no_whole_image(write: Write, tmp_path: Path, content: bytes, wanted: str) -> None:
    pytest.importorskip("PIL")
    (tmp_path / "img" / "c.png").write_bytes(content)
    message = said(write(asked("<image>fine", ["img/a.png"]), asked("<image>?", ["img/c.png"])))
    assert wanted in message
    assert "row 2" in message


def test_a_jpeg_cut_off_in_its_pixels(write: Write, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    whole = tmp_path / "img" / "c.jpg"
    image.radial_gradient("L").save(whole, quality=95)
    assert look(str(whole)) == (256, 256)
    whole.write_bytes(whole.read_bytes()[:-200])
    assert "img/c.jpg is damaged or cut off" in said(write(asked("<image>?", ["img/c.jpg"])))


def test_sizes_that_cannot_be_used(write: Write, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (1000, 2)).save(tmp_path / "img" / "c.png")
    assert "img/c.png is 1000 by 2 pixels" in said(write(asked("<image>?", ["img/c.png"])))
    image.new("1", (10000, 9000)).save(tmp_path / "img" / "d.png")
    assert "img/d.png has more than 89478485 pixels" in said(write(asked("<image>?", ["img/d.png"])))


def test_a_picture_taken_with_the_camera_on_its_side_is_seen_upright(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    picture = image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert look(str(tmp_path / "a.jpg")) == open_picture(str(tmp_path / "a.jpg")).size == (20, 40)


def test_without_pillow_the_first_bytes_decide(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    real = builtins.__import__

    def none(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "PIL":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", none)
    assert look(str(write().parent / "img" / "a.png")) is None
    (tmp_path / "img" / "c.png").write_bytes(b"hello")
    with pytest.raises(BadRow) as caught:
        look(str(tmp_path / "img" / "c.png"))
    assert caught.value.code == "images.not_image"


@pytest.mark.parametrize("purpose", ["prompts", "heldout"])
def test_answering_and_evaluating_with_images_is_refused(write: Write, purpose: str) -> None:
    row = {"prompt": "<image>What?", "images": ["img/a.png"], "reference": "White."}
    assert "answering and evaluating with images is not possible yet" in said(write(row), purpose)


def test_bad_images_can_be_left_out_like_other_bad_rows(write: Write) -> None:
    path = write(asked("<image>?", ["img/c.png"]), asked("<image>?", ["img/a.png"]))
    assert [r.number for r in load_rows(path, "sft", drop_budget=1)] == [2]


def test_the_shared_rows_with_images(shared_testdata: Path) -> None:
    folder = shared_testdata / "real" / "images"
    report = check_rows(folder / "derived_kto.jsonl", "kto")
    assert report.ok
    assert report.images == {"rows": 100, "files": 10}
    assert check_rows(folder / "derived_dpo.json", "dpo").images == {"rows": 50, "files": 10}
