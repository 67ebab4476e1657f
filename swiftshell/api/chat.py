"""Chat: find the model a person means and open a conversation with it in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swiftshell.errors import fail
from swiftshell.plan import board as boards
from swiftshell.plan.outside import wrong_with
from swiftshell.plan.quick import STARTER, STARTER_FOLDER, newest_model
from swiftshell.run import artifact
from swiftshell.run.workspace import Workspace


def chat_model(workspace: Workspace, model: str | None, lineage: str | None) -> tuple[str, Path]:
    """Return the name and folder of the model to talk to: the named one, else the newest of the lineage.

    Raises:
        SwiftshellError: there is none, or the name fits nothing.
    """
    board = boards.read(workspace.runs)
    if model == STARTER:
        return STARTER, STARTER_FOLDER / "model"
    if model:
        entry = board.by_id(model)
        if entry is not None:
            return entry.id, entry.path
        path = Path(model).expanduser()
        if not path.is_dir():
            import os

            raise fail("plan.model_not_found", name=model, cwd=os.getcwd())
        _refuse_broken(path.absolute())
        return path.name, path.absolute()
    lineages = board.lineages()
    chosen = lineage or (lineages[0] if lineages else "")
    if lineage and lineage not in lineages:
        raise fail("plan.lineage_unknown", lineage=lineage, lineages=", ".join(lineages) or "-")
    entry = newest_model(board, chosen)
    if entry is None:
        raise fail("plan.no_model_to_ask")
    return entry.id, entry.path


def _refuse_broken(path: Path) -> None:
    """Refuse a model folder from elsewhere that lacks a part before a process is started on it."""
    if (path / artifact.NAME).is_file():  # made by a run, which recorded what it is; the engine checks that
        return
    if wrong := wrong_with(path, is_adapter=(path / "adapter_config.json").is_file()):
        raise fail("plan.model_folder_bad", path=str(path), why=", ".join(wrong[:3]))


class Conversation:
    """An open model: `ask` yields pieces of text; `last` holds tokens, seconds and why the answer ended."""

    def __init__(self, name: str, process: Any) -> None:
        self.name, self._process = name, process

    def ask(self, messages: list[dict[str, str]], **generation: Any) -> Iterator[str]:
        """Yield the answer as it is generated."""
        yield from self._process.ask(messages, **generation)

    def cancel(self) -> None:
        """End the answer that is being generated."""
        self._process.cancel()

    @property
    def last(self) -> dict[str, Any]:
        """Return facts about the last answer."""
        return dict(getattr(self._process, "last", {}) or {})


@contextmanager
def open_chat(workspace: Workspace, model: str | None, lineage: str | None) -> Iterator[Conversation]:
    """Open a conversation; its process ends with the block."""
    from swiftshell.jobs.chat_process import ChatProcess

    name, folder = chat_model(workspace, model, lineage)
    process = ChatProcess.start(folder)
    try:
        yield Conversation(name, process)
    finally:
        process.close()
