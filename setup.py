"""Ship the top-level recipes/ inside the package; everything else is declared in pyproject.toml."""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithRecipes(build_py):
    """Copy recipes/ to swiftshell/recipes_shipped/ in a wheel.

    An editable install has recipes/ beside the package, where a person edits them, so nothing is copied there.
    """

    def run(self) -> None:
        """Build as usual, then add the recipes."""
        super().run()
        if getattr(self, "editable_mode", False):
            return
        target = Path(self.build_lib) / "swiftshell" / "recipes_shipped"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(ROOT / "recipes", target)


setup(cmdclass={"build_py": BuildWithRecipes})
