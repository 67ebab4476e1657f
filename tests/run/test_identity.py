"""A process is its number, its start and its boot."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys

import pytest

from swiftshell.run import identity
from swiftshell.run.identity import Identity


@pytest.fixture
def process() -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sleep", "60"], start_new_session=True)


def test_alive_until_it_is_not(process: subprocess.Popen[bytes]) -> None:
    who = identity.of(process.pid)
    assert who is not None
    assert Identity.from_json(who.as_json()) == who
    assert identity.alive(who)
    assert identity.send(who, signal.SIGTERM)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.alive(who), "a zombie works no more"
    assert identity.open_verified(who) is None
    assert not identity.send(who, signal.SIGTERM)
    assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize("change", [{"starttime": 1}, {"boot_id": "another"}, {"pid": 0}, {"pid": -1}])
def test_anything_else_is_someone_else(process: subprocess.Popen[bytes], change: dict[str, object]) -> None:
    who = identity.of(process.pid)
    assert who is not None
    other = dataclasses.replace(who, **change)  # type: ignore[arg-type]
    try:
        assert not identity.alive(other)
        assert not identity.send(other, signal.SIGKILL)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("data", [{}, {"pid": 1}, {"pid": None, "starttime": 1, "boot_id": "x"},
                                  {"pid": "x", "starttime": 1, "boot_id": "x"}])
def test_a_record_that_names_nobody(data: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Identity.from_json(data)


def test_a_name_with_parentheses_and_spaces() -> None:
    code = "import ctypes, time; ctypes.CDLL(None).prctl(15, b') Z 1 (', 0, 0, 0)\n"
    code += "print('x', flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    who = identity.of(process.pid)
    process.kill()
    process.wait()
    assert who is not None
    assert who.starttime > 1000


def test_members_of_a_group_and_nobody_else() -> None:
    script = "sleep 60 & sleep 60 & echo ready; wait"
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    who = identity.of(process.pid)
    assert who is not None
    members = identity.group_members(process.pid, who.starttime)
    assert len(members) == 3
    assert who in members
    assert identity.group_members(process.pid, who.starttime + 10**9) == []
    for member in members:
        identity.send(member, signal.SIGKILL)
    process.wait()
    assert os.getpid() not in [m.pid for m in members]
