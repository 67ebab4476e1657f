"""Rows with pictures: find them, put them where the text names them, and check the files without decoding pixels.

A picture is named by an `images` (or `image`) column with paths, by `<image>` in a user's text, or by a content part
{"type": "image"}; paths are absolute, or relative to the folder of the data file (a bare file name may lie one folder
below). A row that has pictures leaves here with content parts in every turn and `images`: absolute paths in the order of
the placeholders, which is what TRL's collators for vision-language models take.
"""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftshell.data.row import BadRow, Purpose, Turn, shown, type_name

PLACEHOLDER = "<image>"
_ANSWERS = ("completion", "chosen", "rejected")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|data:", re.ASCII)
# What models write for a picture internally: in the rows' text it would be taken for a picture that is not there.
_INTERNAL = (
    "<|image_pad|>",
    "<|vision_start|>",
    "<|image|>",
    "<start_of_image>",
    "<image_soft_token>",
    "[IMG]",
)
_PAYLOADS = ("image", "image_url", "path", "url")
_MOST_PIXELS = 89_478_485  # Pillow warns of a decompression bomb from here on
_MOST_ELONGATED = 200  # Qwen-VL's image processor refuses a longer side of more than 200 times the shorter
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"BM", b"RIFF", b"II*\x00", b"MM\x00*")


class Pictures:
    """Place the pictures of a data set's rows; every file is looked at once.

    Attributes:
        column: the column with paths, if the data set has one.
        rows: rows with pictures so far.
        files: absolute path → (width, height) in pixels, None where Pillow is not installed to tell.
    """

    def __init__(self, column: str | None, purpose: Purpose) -> None:
        self.column = column
        self.purpose = purpose
        self.rows = 0
        self.files: dict[str, tuple[int, int] | None] = {}
        self._wrong: dict[str, tuple[str, dict[str, Any]]] = {}
        self._folders: dict[Path, list[str]] = {}  # folder of a data file → the folders in it

    def place(self, data: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Return a converted row with its pictures in place; a row without any as it is, `images` left out.

        Args:
            data: a row in conversational form, `images` as the source gave it.
            folder: where relative paths start.

        Raises:
            BadRow: pictures and placeholders do not match, or a picture cannot be used.
        """
        given = _listed(data.get("images"), self.column)
        rest = {k: v for k, v in data.items() if k != "images"}
        asked = "messages" if "messages" in rest else "prompt"
        turns = rest.get(asked)
        if not given and not _mentions(turns, text_too=self.column is not None):
            return rest
        if not isinstance(turns, list):
            raise BadRow("images.not_turns", self.column)
        if self.purpose in ("prompts", "heldout"):
            raise BadRow("images.not_here", self.column, count=len(given) or 1)
        placed, used = self._fill(turns, given)
        rest[asked] = placed
        for answer in _ANSWERS:
            if answer in rest:
                rest[answer] = [_as_parts(turn, self.column) for turn in rest[answer]]
        self.rows += 1
        return {**rest, "images": [self._checked(name, folder) for name in used]}

    def mark(self) -> str:
        """Return a digest that changes when a file does: paths, sizes and times, since reading them all takes long."""
        total = hashlib.sha256()
        for path in sorted(self.files):
            facts = os.stat(path)
            total.update(f"{path}\0{facts.st_size}\0{facts.st_mtime_ns}\n".encode())
        return total.hexdigest()

    def _fill(self, turns: list[Turn], given: list[str]) -> tuple[list[Turn], list[str]]:
        """Return the turns as parts, and the pictures' names in the order of the placeholders."""
        parted = [_as_parts(turn, self.column, pictures=turn["role"] != "assistant") for turn in turns]
        holes = [part for turn in parted for part in turn["content"] if part["type"] == "image"]
        empty = [part for part in holes if "image" not in part]
        if not holes and given:  # no placeholder at all: in front of the first question, as TRL does
            first = next((t for t in parted if t["role"] == "user"), parted[0])
            empty = [{"type": "image"} for _ in given]
            first["content"][:0] = empty
            holes = empty
        if len(empty) != len(given):
            raise BadRow("images.count", self.column, images=len(given), placeholders=len(empty))
        names = iter(given)
        used = [part.pop("image") if "image" in part else next(names) for part in holes]
        return parted, used

    def _checked(self, name: str, folder: Path) -> str:
        """Return a picture's absolute path once its file has been looked at."""
        if _URL.match(name):
            raise BadRow("images.url", self.column, path=shown(name))
        path = self._place_of(name, folder)
        if path not in self.files and path not in self._wrong:
            try:
                self.files[path] = look(path)
            except BadRow as bad:
                self._wrong[path] = (bad.code, dict(bad.values))
        if path in self._wrong:
            code, values = self._wrong[path]
            raise BadRow(code, self.column, **{"path": name, "folder": str(folder), **values})
        return path


    def _place_of(self, name: str, folder: Path) -> str:
        """Return where a picture lies; a bare name may stand for the one folder beside the data file that has it."""
        path = os.path.normpath(folder / name)
        if os.path.basename(name) != name or path in self.files or os.path.lexists(path):
            return path
        if folder not in self._folders:
            try:
                self._folders[folder] = [p.path for p in os.scandir(folder) if p.is_dir()]
            except OSError:
                self._folders[folder] = []
        below = [os.path.join(f, name) for f in self._folders[folder] if os.path.lexists(os.path.join(f, name))]
        return below[0] if len(below) == 1 else path


def _listed(value: Any, column: str | None) -> list[str]:
    """Return the pictures a row names: a path, a list of them, or Hugging Face's {"path": …}."""
    if value in (None, "", []):
        return []
    return [_name(item, column) for item in (value if isinstance(value, list) else [value])]


def _name(item: Any, column: str | None) -> str:
    if isinstance(item, Mapping):
        if item.get("bytes"):
            raise BadRow("images.embedded", column)
        item = item.get("path", item.get("url"))
    if not isinstance(item, str) or not item.strip():
        raise BadRow("images.not_path", column, value=shown(item), type=type_name(item))
    return item.removeprefix("file://")


def _mentions(turns: Any, *, text_too: bool) -> bool:
    """Tell whether a row without named pictures asks for some: by parts, or by `<image>` where a column could name them."""
    for turn in turns if isinstance(turns, list) else []:
        content = turn.get("content")
        if isinstance(content, list) and any(_is_picture(part) for part in content):
            return True
        if text_too and turn.get("role") == "user" and isinstance(content, str) and PLACEHOLDER in content:
            return True
    return False


def _is_picture(part: Mapping[str, Any]) -> bool:
    return part.get("type") in ("image", "image_url", "input_image")


def _as_parts(turn: Turn, column: str | None, *, pictures: bool = False) -> Turn:
    """Return a turn whose content is a list of parts of its own; `pictures`: they may stand in it."""
    content = turn.get("content") or ""
    if isinstance(content, str):
        whole = _split(content, column) if pictures else [{"type": "text", "text": content}]
        return {**turn, "content": whole if content else []}
    parts: list[dict[str, Any]] = []
    for part in content:
        if _is_picture(part):
            if not pictures:
                raise BadRow("images.in_answer", column)
            parts.append(_picture_part(part, column))
        elif part.get("type") == "text":
            parts.append({"type": "text", "text": str(part.get("text") or "")})
        else:
            raise BadRow("images.other_part", column, type=shown(part.get("type")))
    return {**turn, "content": parts}


def _split(text: str, column: str | None) -> list[dict[str, Any]]:
    """Split text at `<image>` into parts."""
    for internal in _INTERNAL:
        if internal in text:
            raise BadRow("images.internal_token", column, token=internal)
    parts: list[dict[str, Any]] = []
    for number, piece in enumerate(text.split(PLACEHOLDER)):
        parts += [{"type": "image"}] if number else []
        parts += [{"type": "text", "text": piece}] if piece else []
    return parts


def _picture_part(part: Mapping[str, Any], column: str | None) -> dict[str, Any]:
    payload = next((part[k] for k in _PAYLOADS if part.get(k) is not None), None)
    if isinstance(payload, Mapping):
        payload = payload.get("url", payload.get("path"))
    if payload is None:
        return {"type": "image"}
    return {"type": "image", "image": _name(payload, column)}


def look(path: str) -> tuple[int, int] | None:
    """Return a picture's width and height as it is shown, from its header; None without Pillow.

    Raises:
        BadRow: no such file, not a picture, cut off, or of a size that cannot be used.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise BadRow("images.missing") from None
    except OSError as error:
        raise BadRow("images.unreadable", reason=error.strerror or str(error)) from None
    try:
        from PIL import Image
    except ImportError:
        if not head.startswith(_MAGIC):
            raise BadRow("images.not_image", found=shown(ascii(head))) from None
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            with Image.open(path) as picture:
                width, height = picture.size
                turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)  # orientation: lying on its side
                _refuse_size(width, height)
                if not _ends_well(path, head):
                    picture.load()
        except Image.DecompressionBombError:
            raise BadRow("images.too_large", most=_MOST_PIXELS) from None
        except (OSError, SyntaxError, ValueError) as error:
            if head.startswith(_MAGIC):
                raise BadRow("images.broken", reason=shown(str(error), 100)) from None
            raise BadRow("images.not_image", found=shown(ascii(head))) from None
    return (height, width) if turned else (width, height)


def _refuse_size(width: int, height: int) -> None:
    if width * height > _MOST_PIXELS:
        raise BadRow("images.too_large", most=_MOST_PIXELS)
    if not min(width, height) or max(width, height) / min(width, height) > _MOST_ELONGATED:
        raise BadRow("images.too_narrow", width=width, height=height)


def _ends_well(path: str, head: bytes) -> bool:
    """Tell whether a file ends as its format says, so that its pixels need not be decoded to know it is whole."""
    with open(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 16))
        tail = file.read()
    if head.startswith(b"\x89PNG"):
        return b"IEND" in tail
    if head.startswith(b"\xff\xd8"):
        return tail.rstrip(b"\0").endswith(b"\xff\xd9")
    return head.startswith(b"RIFF") and int.from_bytes(head[4:8], "little") + 8 <= size


def open_picture(path: str) -> Any:
    """Return a picture's pixels as a PIL image in RGB, upright.

    Raises:
        OSError: it is gone or broken since it was checked.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture)
        return upright.convert("RGB")
