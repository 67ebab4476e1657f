"""Run the real command in a process of its own, as a script or a person would."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TIMEOUT_S = 60.0


def swiftshell(*argv: str, cwd: Path, env: dict[str, str] | None = None,
               stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `swiftshell ARGV` in a folder and return what it printed; stdin is empty unless given."""
    return subprocess.run([sys.executable, "-m", "swiftshell", *argv], cwd=cwd, capture_output=True, text=True,
                          timeout=TIMEOUT_S, input=stdin or "", env={**os.environ, **(env or {})}, check=False)


def as_json(done: subprocess.CompletedProcess[str]) -> Any:
    """Return the one object `--json` prints; anything else on stdout fails the test."""
    return json.loads(done.stdout)
