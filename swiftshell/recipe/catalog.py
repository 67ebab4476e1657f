"""The shipped recipes: list, find and copy them. They are files to read and copy; nothing imports them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from swiftshell.errors import fail
from swiftshell.recipe.document import read_document
from swiftshell.recipe.suggest import nearest

_PACKAGE = Path(__file__).resolve().parent.parent
# A checkout (and an editable install) has recipes/ beside the package, a wheel inside it.
PLACES = (_PACKAGE.parent / "recipes", _PACKAGE / "recipes_shipped")
_HAN = re.compile(r"[\u3400-\u9fff]")


@dataclass(frozen=True)
class Shipped:
    """One shipped recipe.

    Attributes:
        name: what `swiftshell recipes copy` takes, e.g. "kto/qwen2.5-7b-qlora-kto".
        summaries: the header's first sentence by language.
        stages: the stages of its steps, in order, each once.
    """

    name: str
    path: Path
    summaries: dict[str, str]
    stages: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Return the header's first sentence in the language in force."""
        from swiftshell.i18n import language

        return self.summaries.get(language()) or self.summaries.get("en", "")


def folder() -> Path:
    """Return where the shipped recipes lie.

    Raises:
        SwiftshellError: this installation has none.
    """
    for place in PLACES:
        if (place / "starter").is_dir():
            return place
    raise fail("recipe.shipped_absent", places=", ".join(str(place) for place in PLACES))


@cache
def shipped() -> tuple[Shipped, ...]:
    """Return every shipped recipe: the starter's first, then by name."""
    home = folder()
    found = [_describe(path, home) for path in home.rglob("*.yaml")]
    return tuple(sorted(found, key=lambda recipe: (not recipe.name.startswith("starter/"), recipe.name)))


def find(name_or_path: str) -> Path | None:
    """Return the recipe a person names: a file, a shipped recipe's name, or the last part of it; None if there is none.

    `recipes/<name>.yaml`, as it is written in a checkout, is found from any folder.

    Raises:
        SwiftshellError: the name fits several.
    """
    path = Path(name_or_path).expanduser()
    if path.is_file():
        return path
    wanted = name_or_path.removeprefix("recipes/").removesuffix(".yaml").removesuffix(".yml").strip("/")
    everything = {recipe.name: recipe.path for recipe in shipped()}
    if wanted in everything:
        return everything[wanted]
    fitting = [name for name in everything if name.rpartition("/")[2] == wanted]
    if len(fitting) == 1:
        return everything[fitting[0]]
    if fitting:
        raise fail("recipe.shipped_several", name=name_or_path, choices=", ".join(fitting))
    return None


def closest(name: str) -> str:
    """Return the shipped recipe whose name, or last part, looks most like this one; empty if none does."""
    names = [recipe.name for recipe in shipped()]
    wanted = name.removeprefix("recipes/").removesuffix(".yaml")
    tails = {known.rpartition("/")[2]: known for known in names}
    return nearest(wanted, names) or tails.get(nearest(wanted.rpartition("/")[2], tails), "")


def copy(name: str, target: str | Path) -> Path:
    """Copy a shipped recipe to a file (or into a folder), and return where it is now.

    Raises:
        SwiftshellError: there is no such recipe, the target exists, or it cannot be written.
    """
    source = find(name)
    if source is None:
        near = closest(name)
        raise fail("recipe.shipped_unknown" if near else "recipe.shipped_unknown_far", name=name, nearest=near)
    destination = Path(target).expanduser()
    if destination.is_dir():
        destination = destination / source.name
    if destination.exists():
        raise fail("recipe.copy_exists", target=str(destination))
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with destination.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except OSError as error:
        raise fail("recipe.copy_failed", target=str(destination), reason=error.strerror or str(error)) from None
    return destination


def _describe(path: Path, home: Path) -> Shipped:
    document = read_document(path)
    steps = document.data.get("steps", []) if isinstance(document.data, dict) else []
    stages = dict.fromkeys(str(step["stage"]) for step in steps if isinstance(step, dict) and "stage" in step)
    return Shipped(str(path.relative_to(home).with_suffix("")), path, _summaries(document.text), tuple(stages))


def _summaries(text: str) -> dict[str, str]:
    """Return the first English and the first Chinese line of the comment a recipe begins with."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        said = line.lstrip("# ").strip()
        if said:
            found.setdefault("zh" if _HAN.search(said) else "en", said)
    return found

