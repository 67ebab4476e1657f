"""A person at a terminal: the real command on a pseudo-terminal, its screen as characters, keys by name."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pexpect
import pyte

KEYS = {"Enter": "\r", "Esc": "\x1b", "Up": "\x1b[A", "Down": "\x1b[B", "Ctrl-C": "\x03", "Ctrl-D": "\x04", "Ctrl-U": "\x15",
        "Backspace": "\x7f", "Tab": "\t"}
PATIENCE_S = 60.0
_QUIET_S = 0.15
_SETTLED_S = 1.0


class Terminal:
    """`swiftshell` on a terminal of a given size; `raw` keeps every byte it wrote."""

    def __init__(self, cwd: Path, *argv: str, columns: int = 80, lines: int = 24,
                 env: Mapping[str, str] | None = None) -> None:
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self.screen)
        self.raw = b""
        whole = {**os.environ, "TERM": "xterm-256color", "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", **(env or {})}
        self.child = pexpect.spawn(sys.executable, ["-m", "swiftshell", *argv], cwd=str(cwd), env=whole,
                                   dimensions=(lines, columns), timeout=PATIENCE_S)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        """What is on the screen; a wide character's second cell, which pyte leaves empty, is left out."""
        return "\n".join(self.lines)

    def pump(self, for_s: float = 0.05) -> bool:
        """Read what was written; False at its end."""
        try:
            data = self.child.read_nonblocking(1 << 16, for_s)
        except pexpect.TIMEOUT:
            return True
        except pexpect.EOF:
            return False
        self.raw += data
        self._stream.feed(data)
        return True

    def until(self, what: str | Callable[[str], bool], patience_s: float = PATIENCE_S) -> str:
        """Wait until the screen shows something, and return the screen."""
        shows = what if callable(what) else (lambda text: what in text)
        end = time.monotonic() + patience_s
        while not shows(self.text):
            assert time.monotonic() < end, f"waited for {what!r}, and the screen is\n{self.text}"
            assert self.pump() or shows(self.text), f"ended before {what!r} was seen; the screen is\n{self.text}"
        self.settle()
        return self.text

    def settle(self) -> None:
        """Wait until nothing more is drawn for a moment; what moves all the time is not waited for."""
        end = time.monotonic() + _SETTLED_S
        while time.monotonic() < end:
            before = len(self.raw)
            if not self.pump(_QUIET_S) or len(self.raw) == before:
                return

    def press(self, *keys: str) -> Terminal:
        """Press keys by name; anything else is typed as it is. After Esc the terminal needs a moment to be sure of it."""
        for key in keys:
            self.child.send(KEYS.get(key, key))
            if key == "Esc":
                time.sleep(0.6)
            self.settle()
        return self

    def here(self) -> str:
        """Return the line the pointer is on."""
        return next((line for line in self.lines if line.startswith((" »", " >"))), "")

    def point_at(self, text: str) -> Terminal:
        """Go down until the pointer is on a line with this text."""
        for _ in range(60):
            if text in self.here():
                return self
            self.press("Down")
        raise AssertionError(f"no row {text!r}:\n{self.text}")

    def choose(self, text: str) -> Terminal:
        """Point at a row and press Enter."""
        return self.point_at(text).press("Enter")

    def ended(self) -> int:
        """Wait for the end and return the exit code (128 + signal for one)."""
        end = time.monotonic() + PATIENCE_S
        while self.pump(0.1):
            assert time.monotonic() < end, f"still there; the screen is\n{self.text}"
        self.child.close()
        return self.child.exitstatus if self.child.exitstatus is not None else 128 + int(self.child.signalstatus or 0)

    def close(self) -> None:
        """Close the window: the terminal goes away under whatever runs on it."""
        self.child.close(force=True)
