"""From a file, a text or plain data to a checked recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swiftshell.recipe.document import parse_document, read_document, to_yaml
from swiftshell.recipe.model import Recipe
from swiftshell.recipe.schema import check_document


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and check a recipe file; `overrides` are `--set` arguments (`key=value`, `STEP.key=value`).

    Raises:
        SwiftshellError: with all problems, each with file, line, column and field.
    """
    path = Path(path)
    return check_document(read_document(path), path.absolute().parent, overrides)


def parse_recipe(text: str, file: str | Path | None = None, *, base_folder: Path | None = None,
                 overrides: Sequence[str] = ()) -> Recipe:
    """Check a recipe's text. Relative paths count from `base_folder`, else from the file's folder, else from here.

    Raises:
        SwiftshellError: with all problems.
    """
    folder = base_folder or (Path(file).parent if file is not None else Path())
    return check_document(parse_document(text, str(file) if file is not None else None), folder.absolute(), overrides)


def recipe_from_mapping(data: Mapping[str, Any], *, base_folder: Path | None = None,
                        overrides: Sequence[str] = ()) -> Recipe:
    """Check a recipe given as plain data; its `text` is the YAML it stands for.

    Raises:
        SwiftshellError: with all problems; their lines are those of that YAML.
    """
    return parse_recipe(to_yaml(data), base_folder=base_folder, overrides=overrides)
