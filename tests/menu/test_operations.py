"""No front has a feature that the others lack: every command has its screen."""

from __future__ import annotations

from importlib import import_module

import pytest

from swiftshell.cli.main import VERBS

SCREENS = {
    "run": "stage.show", "resume": "start.resume", "stop": "jobs.act", "jobs": "jobs.show",
    "logs": "start.show_log", "attach": "start.attach", "runs": "runs.show", "report": "runs.report",
    "chat": "chat.show", "infer": "stage.show", "serve": "stage.show", "data": "data.show",
    "recipes": "recipes.show", "doctor": "doctor.show", "admin": "doctor.show", "gpus": "gpus.show",
    "queue": "gpus.show", "explain": "stage.about",
}


def test_every_command_has_a_screen() -> None:
    assert set(SCREENS) == set(VERBS)


@pytest.mark.parametrize("screen", sorted(set(SCREENS.values())))
def test_the_screen_is_there(screen: str) -> None:
    module, _, function = screen.partition(".")
    assert callable(getattr(import_module(f"swiftshell.menu.screens.{module}"), function))
