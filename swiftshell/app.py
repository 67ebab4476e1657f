"""`SwiftApp(config).run()`: the same core as menu and command line, from Python and notebooks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from swiftshell.errors import Problem, SwiftshellError


class SwiftApp:
    """One piece of work, from a configuration.

    Constructing reads and checks the configuration; it opens no connection, loads no model and starts nothing.

    Args:
        config: a mapping in the short form (`model_type`, `train_type`, `dataset`, …), a mapping in the recipe form
            (with `steps`), or the path of a recipe.
        workspace: the folder that holds the runs; default: the nearest one above the current folder, else that folder.
        gpus: how many each step that uses GPUs is given; default: one where the machine has any.
        priority: place among those who wait for GPUs: interactive, normal or low.

    Raises:
        SwiftshellError: what is wrong with the configuration, all of it, each with the nearest real name.

    Example:
        >>> SwiftApp({"model_type": "starter", "train_type": "sft", "dataset": "starter"}).plan()["steps"][0]["stage"]
        'download'
    """

    def __init__(self, config: Mapping[str, Any] | str | os.PathLike[str], *,
                 workspace: str | os.PathLike[str] | None = None, gpus: int | None = None,
                 priority: Literal["interactive", "normal", "low"] = "normal") -> None:
        self.notes: list[Problem] = []
        self._whys: dict[str, Any] = {}
        self._lineage = ""
        self._workspace, self._gpus, self._priority = workspace, gpus, priority
        self._recipe = self._read(config)
        self.run_id: str | None = None

    @classmethod
    def next_round(cls, stage: str = "kto", *, data: str | os.PathLike[str] | None = None,
                   eval_data: str | os.PathLike[str] | None = None, replay: bool | str | os.PathLike[str] = False,
                   columns: Mapping[str, str] | None = None, params: Mapping[str, Any] | None = None,
                   lineage: str | None = None, workspace: str | os.PathLike[str] | None = None) -> SwiftApp:
        """Return the next round of KTO or DPO: it starts from the last one and keeps its reference.

        Args:
            stage: `kto` or `dpo`.
            data: the new rows; default: the starter's on the starter's lineage.
            eval_data: held-out rows; default: those of the last round, so that both are compared on the same.
            replay: true for rows that earlier rounds were trained on, or a file of rows (KTO).
            columns: our names of columns to those in `data`.
            params: settings of the stage.
            lineage: default: the one worked on last.
            workspace: the folder that holds the runs.

        Raises:
            SwiftshellError: there is no round to go on from.
        """
        from swiftshell.plan import board as boards
        from swiftshell.plan.quick import ROUNDS, Options, build
        from swiftshell.run.workspace import open_workspace

        def text(path: str | os.PathLike[str] | None) -> str | None:
            return None if path is None else os.fspath(path)

        again = ROUNDS if replay is True else text(replay) if replay else None
        options = Options(continue_=True, data=text(data), eval_data=text(eval_data), replay=again, lineage=lineage,
                          columns=dict(columns or {}), params=dict(params or {}))
        place = open_workspace(None if workspace is None else Path(workspace), create=False)
        quick = build(stage, boards.read(place.runs), options)
        app = cls(quick.recipe, workspace=workspace)
        app._whys, app._lineage = quick.whys, quick.lineage
        return app

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

        workspace = open_workspace(None if self._workspace is None else Path(self._workspace), create=False)
        return plan_recipe(workspace, self._recipe, command="SwiftApp(config).run()  #", notes=self.notes,
                           gpus=self._gpus, priority=self._priority,
                           whys=self._whys, lineage=self._lineage)

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

    def report(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write the report of the run as one HTML page and return its path.

        Args:
            path: where to; default: `report.html` in the run's folder.

        Raises:
            SwiftshellError: nothing was run yet.
            OSError: it cannot be written.
        """
        from swiftshell.api.report import report_facts
        from swiftshell.api.runs import find_run
        from swiftshell.errors import fail
        from swiftshell.render.report import write_report
        from swiftshell.run.workspace import open_workspace

        if self.run_id is None:
            raise fail("report.nothing_run")
        run = find_run(open_workspace(None if self._workspace is None else Path(self._workspace)), self.run_id)
        target = Path(path).expanduser().absolute() if path is not None else run.root / "report.html"
        write_report(report_facts(run), target)
        return str(target)

    def _follow(self, handle: Any, show: bool) -> None:
        from swiftshell.jobs.control import wait

        if not show:
            wait(handle)
            return
        from swiftshell.render.live import follow

        follow(handle)
