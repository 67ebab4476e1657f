"""`SwiftApp(config).run()`: the same core as menu and command line, from Python and notebooks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swiftshell.errors import Problem, SwiftshellError


class SwiftApp:
    """One piece of work, from a configuration.

    Constructing reads and checks the configuration; it opens no connection, loads no model and starts nothing.

    Args:
        config: a mapping in the short form (`model_type`, `train_type`, `dataset`, …), a mapping in the recipe form
            (with `steps`), or the path of a recipe.
        workspace: the folder that holds the runs; default: the nearest one above the current folder, else that folder.

    Raises:
        SwiftshellError: what is wrong with the configuration, all of it, each with the nearest real name.

    Example:
        >>> SwiftApp({"model_type": "starter", "train_type": "sft", "dataset": "starter"}).plan()["steps"][0]["stage"]
        'download'
    """

    def __init__(self, config: Mapping[str, Any] | str | os.PathLike[str], *,
                 workspace: str | os.PathLike[str] | None = None) -> None:
        self.notes: list[Problem] = []
        self._workspace = workspace
        self._recipe = self._read(config)
        self.run_id: str | None = None

    def _read(self, config: Mapping[str, Any] | str | os.PathLike[str]) -> Any:
        from swiftshell.api.legacy import recipe_from_config
        from swiftshell.recipe.load import load_recipe, recipe_from_mapping

        if not isinstance(config, Mapping):
            return load_recipe(Path(config))
        data, notes = recipe_from_config(config)
        self.notes = list(notes)
        return recipe_from_mapping(data)

    @property
    def recipe(self) -> str:
        """Return the recipe this configuration stands for, as YAML."""
        return str(self._recipe.text)

    def plan(self) -> dict[str, Any]:
        """Return exactly what `run` would do; changes nothing.

        Raises:
            SwiftshellError: data or inputs are wrong.
        """
        plan: dict[str, Any] = self._plan().as_json()
        return plan

    def _plan(self) -> Any:
        from swiftshell.api.plans import plan_recipe
        from swiftshell.run.workspace import open_workspace

        workspace = open_workspace(None if self._workspace is None else Path(self._workspace))
        return plan_recipe(workspace, self._recipe, command="SwiftApp(config).run()  #", notes=self.notes)

    def run(self, *, wait: bool = True, show: bool = True) -> dict[str, Any]:
        """Start the work and, unless `wait` is false, follow it to its end.

        Interrupting (Ctrl-C, or the notebook's stop button) asks for a checkpoint and a stop; the job itself does not
        live in this process and survives it.

        Returns:
            The facts of the run: `status`, `result`, and per step `metrics`, `summary`, `outputs` (folders).

        Raises:
            SwiftshellError: the configuration cannot run, or a step failed (with what it said).
        """
        from swiftshell.api.runs import request_stop, run_facts, submit

        plan = self._plan()
        if show and plan.notes:
            from swiftshell.i18n import sentence

            print("\n".join(sentence(note) for note in plan.notes))
        handle = submit(plan)
        self.run_id = handle.id
        if not wait:
            return run_facts(handle)
        try:
            self._follow(handle, show)
        except KeyboardInterrupt:
            request_stop(handle, "checkpoint")
            raise
        facts = run_facts(handle)
        if facts["result"] != "succeeded":
            problems = [Problem.from_json(p) for step in facts["steps"] for p in step["problems"]]
            exit_code = next((s["exit_code"] for s in facts["steps"] if s["exit_code"]), 3)
            unsaid = Problem("run.not_succeeded", {"run": handle.id, "result": facts["result"]})
            raise SwiftshellError(problems or [unsaid], exit_code)
        return facts

    def _follow(self, handle: Any, show: bool) -> None:
        from swiftshell.jobs.control import wait

        if not show:
            wait(handle)
            return
        from swiftshell.render.live import follow

        follow(handle)
