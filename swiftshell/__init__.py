"""Align a language model with your own feedback, from menus or from one command.

Importing this package costs a few milliseconds: the public names below are resolved on first use, and no engine
(torch, transformers, trl, …) is imported in the process that imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["SwiftApp", "SwiftshellError", "__version__"]

if TYPE_CHECKING:
    from swiftshell.app import SwiftApp
    from swiftshell.errors import SwiftshellError

_LAZY = {"SwiftApp": "swiftshell.app", "SwiftshellError": "swiftshell.errors"}


def __getattr__(name: str) -> Any:
    """Resolve a public name on first use (PEP 562)."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
