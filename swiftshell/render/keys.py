"""Keep the keyboard quiet while something moves on the screen: no echo, nothing left over for the next question."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_ESCAPE = b"\x1b"


@contextmanager
def quiet_keys(*, escape_interrupts: bool = False) -> Iterator[None]:
    """Hide what is typed, and forget it at the end; Ctrl-C works as ever.

    Args:
        escape_interrupts: Esc raises KeyboardInterrupt too. The terminal itself is asked to send it as a signal, so
            nobody has to read the keyboard meanwhile.
    """
    try:
        import termios

        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
    except (ImportError, ValueError, OSError, AttributeError, termios.error):  # no terminal
        yield
        return
    handler = signal.getsignal(signal.SIGQUIT)
    changed = [*before[:3], before[3] & ~termios.ECHO, *before[4:6], list(before[6])]
    if escape_interrupts:
        changed[6][termios.VQUIT] = _ESCAPE
        signal.signal(signal.SIGQUIT, _interrupt)
    try:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, changed)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSAFLUSH, before)  # flush: what was typed meanwhile answers nothing
        signal.signal(signal.SIGQUIT, handler if handler is not None else signal.SIG_DFL)


def _interrupt(_number: int, _frame: Any) -> None:
    raise KeyboardInterrupt
