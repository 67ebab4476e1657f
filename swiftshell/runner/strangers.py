"""Notice while a job runs that somebody else computes on its GPUs. It is said, once each; nobody is ever killed for it."""

from __future__ import annotations

import threading
import time
from typing import Any

from swiftshell.claims import holders, view
from swiftshell.claims.claim import Grant
from swiftshell.machine import processes
from swiftshell.machine.gpu import gpus
from swiftshell.run.events import EventWriter
from swiftshell.run.paths import StepPaths
from swiftshell.runner.records import say


class Strangers:
    """Asks the driver now and then, in a thread: a driver that hangs must not keep a stop request waiting."""

    def __init__(self, step: StepPaths, grant: Grant | None, every_s: float) -> None:
        self._step, self._grant, self._every_s = step, grant, every_s
        self._next = time.monotonic() + every_s
        self._asking: threading.Thread | None = None
        self._told: set[tuple[int, int]] = set()

    def look(self) -> None:
        """Ask if it is time to and the last question was answered. Returns at once."""
        if self._grant is None or time.monotonic() < self._next:
            return
        if self._asking is not None and self._asking.is_alive():
            return
        self._next = time.monotonic() + self._every_s
        self._asking = threading.Thread(target=self._ask, args=(self._grant,), daemon=True, name="strangers")
        self._asking.start()

    def _ask(self, grant: Grant) -> None:
        mine = {gpu.uuid for gpu in grant.gpus}
        for gpu in gpus() or ():
            if gpu.uuid not in mine:
                continue
            for process in view.strangers(gpu, holders.of(grant.area, gpu.uuid)):
                if (gpu.index, process.pid) not in self._told:
                    self._told.add((gpu.index, process.pid))
                    self._tell(gpu.index, process.pid)

    def _tell(self, index: int, pid: int) -> None:
        who = processes.look(pid)
        values: dict[str, Any] = {"gpu": index, "pid": pid, "user": who.user if who else "?",
                                  "command": who.command if who else "?"}  # fmt: skip
        say(f"step {self._step.id}: not alone on its GPU: {values}")
        try:
            events = EventWriter(self._step.events)
        except OSError:
            return
        events.write("warning", code="gpus.stranger", values=values)
        events.close()
