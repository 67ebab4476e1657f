"""The end of a log, and what comes after it."""

from __future__ import annotations

import time
from pathlib import Path

from swiftshell.run.paths import RunPaths

_POLL_S = 0.2


def last_lines(path: Path, most: int) -> list[str]:
    """Return the last lines of a log."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-most:] if most else lines


def follow_log(path: Path, run: RunPaths) -> None:
    """Print what is appended until the run is over.

    Raises:
        KeyboardInterrupt: passed on; the run is not touched.
    """
    from swiftshell.jobs.reconcile import status

    with path.open(encoding="utf-8", errors="replace") as file:
        file.seek(0, 2)
        while True:
            chunk = file.read()
            if chunk:
                print(chunk, end="", flush=True)
            elif status(run).status == "over":
                return
            time.sleep(_POLL_S)
