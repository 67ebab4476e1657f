"""From a want to held GPUs: a ticket, then a look every second until it is this ticket's turn and the GPUs are free.

Choosing happens under one lock and takes milliseconds: the driver is asked before it, and inside it once more about what
was chosen, after the GPUs' own locks are held. Whatever changed in between shows there, and the locks are given back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from swiftshell.claims import decide, holders, reason, tickets, usage, view
from swiftshell.claims.area import Area, find
from swiftshell.claims.decide import Decision
from swiftshell.claims.tickets import OwnTicket, Queue, Ticket, Want
from swiftshell.claims.usage import Ledgers
from swiftshell.claims.view import GpuView
from swiftshell.errors import EXIT_NO_RESOURCES, Problem, fail
from swiftshell.machine import gpu as inventory
from swiftshell.machine.gpu import Gpu
from swiftshell.run import identity, lock
from swiftshell.run.crash import crash_point
from swiftshell.run.identity import Identity
from swiftshell.run.lock import Lock

POLL_S = 1.0
STOPPED_AFTER_S = 30.0  # a ticket that could start for so long and does not is passed over
_SCHED_PATIENCE_S = 5.0
_STALE_AFTER_S = 10.0

ReadGpus = Callable[[], list[Gpu] | None]


@dataclass
class Grant:
    """Held GPUs. Descriptors in `fds` go to the job, so that the locks live as long as it does."""

    area: Area
    want: Want
    gpus: tuple[Gpu, ...]
    locks: tuple[Lock, ...]
    since: float = field(default_factory=time.time)

    @property
    def fds(self) -> tuple[int, ...]:
        return tuple(held.fd for held in self.locks)

    @property
    def env(self) -> dict[str, str]:
        """Return what confines a process to these GPUs: indices, which every library takes, in the driver's order."""
        return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(str(g.index) for g in self.gpus)}

    def note(self, *others: Identity) -> None:
        """Write down who holds the GPUs: this process, and the job once it runs."""
        for gpu, held in zip(self.gpus, self.locks, strict=True):
            holders.record(self.area, gpu.uuid, held, self.want, self.since, (identity.mine(), *others))

    def facts(self) -> list[dict[str, object]]:
        """Return the GPUs as records hold them."""
        return [{"index": gpu.index, "uuid": gpu.uuid} for gpu in self.gpus]

    def close(self) -> None:
        """Give the GPUs up as far as this process is concerned; a job that still lives keeps its share of the locks."""
        if any(held.fd >= 0 for held in self.locks):
            usage.record(self.area, self.want, len(self.gpus), self.since)
        for gpu, held in zip(self.gpus, self.locks, strict=True):
            if held.fd >= 0:
                holders.forget(self.area, gpu.uuid)
                held.close()


class Claimer:
    """One want in the queue. `attempt` looks once; `close` leaves the queue."""

    def __init__(self, area: Area, want: Want, read_gpus: ReadGpus = inventory.gpus,
                 stopped_after_s: float = STOPPED_AFTER_S) -> None:  # fmt: skip
        self._area = area
        self._read_gpus = read_gpus
        self._queue, self._ledgers = Queue(area), Ledgers(area)
        self._own: OwnTicket = tickets.write(area, want)
        self._stopped_after_s = stopped_after_s
        self._ready_since: dict[str, float] = {}
        self._found: list[Gpu] | None = None
        self._found_at = 0.0
        crash_point("claim.ticketed")

    @property
    def ticket(self) -> Ticket:
        return self._own.ticket

    def close(self) -> None:
        """Leave the queue."""
        self._own.close()

    def attempt(self) -> Grant | Problem:
        """Return held GPUs, or why there are none yet.

        Raises:
            OSError: the area cannot be read or written.
        """
        found = self._snapshot()
        if found is None:
            return Problem("gpus.wait_driver", severity="note")
        decision, seen = self._decide(found)
        if not decision.take:
            return reason.why(self.ticket, decision, seen)
        held = lock.acquire(self._area.sched, wait_s=_SCHED_PATIENCE_S)
        if held is None:
            return Problem("gpus.wait_chooser", {"path": str(self._area.sched)}, severity="note")
        try:
            return self._choose(found)
        finally:
            held.close()

    def _snapshot(self) -> list[Gpu] | None:
        """Ask the driver; while too few locks are free for it to matter, what it said a moment ago will do."""
        old = self._found
        if old is not None and time.monotonic() - self._found_at < _STALE_AFTER_S and not self._may_fit(old):
            return old
        self._found, self._found_at = self._read_gpus(), time.monotonic()
        return self._found

    def _may_fit(self, found: Sequence[Gpu]) -> bool:
        try:
            free = [g for g in found if self.ticket.may_use(g.uuid) and not holders.is_taken(self._area, g.uuid)]
        except OSError:
            return True
        return len(free) >= self.ticket.want.gpus

    def _choose(self, found: Sequence[Gpu]) -> Grant | Problem:
        """Decide again, now alone, and take what that gives."""
        decision, seen = self._decide(found)
        chosen = [g for g in found if g.uuid in decision.take]
        if not chosen:
            return reason.why(self.ticket, decision, seen)
        grant = self._take(chosen)
        if isinstance(grant, Problem):
            return grant
        crash_point("claim.locked")
        try:
            grant.note()
        except OSError:
            grant.close()
            raise
        self.close()
        crash_point("claim.recorded")
        return grant

    def _decide(self, found: Sequence[Gpu]) -> tuple[Decision, list[GpuView]]:
        seen = view.look(self._area, found)
        alive = self._queue.alive(self._own)
        used_h = self._ledgers.hours(t.uid for t in alive)
        decision = decide.decide(self.ticket, alive, seen, tickets.now_s(), used_h, self._stopped())
        now = time.monotonic()
        self._ready_since = {name: self._ready_since.get(name, now) for name in decision.ready | self._stopped()}
        return decision, seen

    def _stopped(self) -> frozenset[str]:
        """Return the tickets that could have started for a while and have not."""
        limit = time.monotonic() - self._stopped_after_s
        return frozenset(name for name, since in self._ready_since.items() if since < limit)

    def _take(self, chosen: Sequence[Gpu]) -> Grant | Problem:
        """Take the locks in the order of the UUIDs, all or none, and ask the driver once more about just these."""
        locks: dict[str, Lock] = {}
        try:
            for uuid in sorted(g.uuid for g in chosen):
                held = holders.take(self._area, uuid)
                if held is None:  # somebody who does not ask for the choosing lock
                    return _given_back(locks, Problem("gpus.wait_moment", severity="note"))
                locks[uuid] = held
                if (other := holders.of_another_file(self._area, uuid, held.fd)) is not None:
                    gpu = next(g for g in chosen if g.uuid == uuid)
                    return _given_back(locks, reason.about(GpuView(gpu, "unknown", other)))
        except BaseException:
            _give_back(locks)
            raise
        again = {g.uuid: g for g in self._read_gpus() or ()}
        for gpu in chosen:
            now = view.use(again[gpu.uuid]) if gpu.uuid in again else GpuView(gpu, "unknown", fault="-")
            if now.state != "free":
                return _given_back(locks, reason.about(now))
        return Grant(self._area, self.ticket.want, tuple(chosen), tuple(locks[g.uuid] for g in chosen))


def _give_back(locks: dict[str, Lock]) -> None:
    for held in locks.values():
        held.close()


def _given_back(locks: dict[str, Lock], why: Problem) -> Problem:
    _give_back(locks)
    return why


def allowed_gpus(found: Sequence[Gpu], count: int) -> tuple[str, ...]:
    """Return the UUIDs a want may be given: all (empty), or those that CUDA_VISIBLE_DEVICES leaves.

    Raises:
        SwiftshellError: it names a GPU that this machine does not have, or more are wanted than there are.
    """
    if wrong := inventory.unknown_names(found):
        raise fail("gpus.no_such_gpu", exit_code=EXIT_NO_RESOURCES, found=wrong[0], variable=inventory.VISIBLE_VARIABLE,
                   known=", ".join(str(g.index) for g in found) or "-")  # fmt: skip
    left = inventory.visible(found)
    if count > len(left):
        code = "gpus.too_many" if len(left) == len(found) else "gpus.too_many_visible"
        raise fail(code, exit_code=EXIT_NO_RESOURCES, wanted=count, count=len(left), variable=inventory.VISIBLE_VARIABLE)
    return () if len(left) == len(found) else tuple(g.uuid for g in left)


def at_once(want: Want, patience_s: float = 1.5) -> Grant | Problem:
    """Claim without queueing, for a person who sits and waits: a GPU that is changing hands may take a moment.

    Raises:
        SwiftshellError: there is no area fit for claims.
        OSError: the area cannot be read or written.
    """
    claimer, end = Claimer(find(), want), time.monotonic() + patience_s
    try:
        while True:
            answer = claimer.attempt()
            if isinstance(answer, Grant) or answer.code != "gpus.wait_moment" or time.monotonic() >= end:
                return answer
            time.sleep(0.1)
    finally:
        claimer.close()


def hidden_gpus() -> dict[str, str]:
    """Return what keeps a step that asked for no GPU off all of them."""
    return {inventory.VISIBLE_VARIABLE: ""}
