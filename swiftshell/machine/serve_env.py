"""Find the Python of the serving environment (vLLM), which is apart from the training one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FOLDER = ".venv-serve"
STAMP = "swiftshell-stamp"  # written last by the installer: without it the environment is half made


def serve_python() -> Path | None:
    """Return SWIFTSHELL_SERVE_PYTHON, else the python of `.venv-serve` beside this environment or checkout."""
    named = os.environ.get("SWIFTSHELL_SERVE_PYTHON")
    places = [Path(named)] if named else [
        root / FOLDER / "bin" / "python"
        for root in (Path(sys.prefix).parent, Path(__file__).resolve().parent.parent.parent)
    ]
    whole = [p for p in places if named or (p.parent.parent / STAMP).is_file()]
    return next((p for p in whole if p.is_file() and os.access(p, os.X_OK)), None)
