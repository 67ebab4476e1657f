"""The ledger of what each user had: written when GPUs are given up, halved every week, read fairly."""

from __future__ import annotations

import json
import os
import time

import pytest

from swiftshell.claims.area import Area
from swiftshell.claims.claim import Claimer, Grant
from swiftshell.claims.usage import HALF_LIFE_S, Ledgers

from .bench import want


def write(area: Area, *entries: tuple[float, float], uid: int | None = None) -> None:
    lines = [json.dumps({"t": t, "gpu_s": s}) for t, s in entries]
    (area.usage / f"{os.getuid() if uid is None else uid}.jsonl").write_text("\n".join([*lines, "{torn"]))


def test_what_was_held_is_written_once(area: Area) -> None:
    grant = Claimer(area, want(2)).attempt()
    assert isinstance(grant, Grant)
    grant.since -= 1800
    grant.close()
    grant.close()
    lines = (area.usage / f"{os.getuid()}.jsonl").read_text().splitlines()
    assert len(lines) == 1
    assert json.loads(lines[0])["gpu_s"] == pytest.approx(3600, abs=30)
    assert Ledgers(area).hours([os.getuid(), 4711]) == {os.getuid(): pytest.approx(1.0, abs=0.01), 4711: 0}


def test_old_use_counts_half_every_week(area: Area) -> None:
    now = time.time()
    write(area, (now - HALF_LIFE_S, 7200.0), (now - 2 * HALF_LIFE_S, 7200.0))
    assert Ledgers(area).hours([os.getuid()])[os.getuid()] == pytest.approx(1.5, abs=0.01)


def test_a_ledger_is_read_again_when_it_grew(area: Area) -> None:
    ledgers = Ledgers(area)
    assert ledgers.hours([os.getuid()])[os.getuid()] == 0
    write(area, (time.time(), 3600.0))
    assert ledgers.hours([os.getuid()])[os.getuid()] == pytest.approx(1.0, abs=0.01)


def test_nobody_writes_for_somebody_else(area: Area) -> None:
    write(area, (time.time(), 1e9), uid=os.getuid() + 1)
    assert Ledgers(area).hours([os.getuid() + 1])[os.getuid() + 1] == 0
