"""Locks the kernel frees: held once, probed without harm, free the moment their holder dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from swiftshell.run import lock

HOLD = """
import sys, time; from pathlib import Path; from swiftshell.run import lock
held = lock.acquire(Path(sys.argv[1])); print("held" if held else "busy", flush=True); time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_one_holder(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert not lock.busy(path)
    held = lock.acquire(path)
    assert held is not None
    assert lock.busy(path)
    begun = time.monotonic()
    assert lock.acquire(path) is None
    assert 0.05 < time.monotonic() - begun < 2
    held.close()
    held.close()
    assert not lock.busy(path)
    assert path.exists(), "a lock file is never removed"


def test_free_when_the_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    process = holder(path)
    assert lock.busy(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = lock.acquire(path)
    assert held is not None
    held.close()


def test_an_owner_waits_for_a_probe(tmp_path: Path) -> None:
    """Views probe all the time; none of them may make a runner believe that another one holds its run."""
    path = tmp_path / "x.lock"
    path.touch()
    end = threading.Event()

    def probe() -> None:
        while not end.is_set():
            lock.busy(path)

    probes = [threading.Thread(target=probe) for _ in range(3)]
    for thread in probes:
        thread.start()
    try:
        for _ in range(100):
            held = lock.acquire(path, wait_s=2.0)
            assert held is not None
            held.close()
    finally:
        end.set()
        for thread in probes:
            thread.join()


def test_what_the_holder_says(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    assert lock.noted(path) == {}
    held = lock.acquire(path)
    assert held is not None
    held.note({"run": "first", "long": "x" * 100})
    held.note({"run": "a"})
    assert lock.noted(path) == {"run": "a"}
    held.close()
    path.write_text("{")
    assert lock.noted(path) == {}


def test_a_replaced_file_is_not_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    held = lock.acquire(path)
    assert held is not None
    path.unlink()
    other = lock.acquire(path)
    assert other is not None
    assert os.fstat(other.fd).st_ino == path.stat().st_ino
    other.close()
    held.close()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "x.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        lock.acquire(tmp_path / "x.lock")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="acting as another user needs root")
def test_another_user_can_ask_and_cannot_take_it() -> None:
    """Even where the holder's umask is closed: the forked child becomes nobody and asks."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.lock"
        os.chmod(name, 0o755)
        old = os.umask(0o077)
        held = lock.acquire(path)
        os.umask(old)
        assert held is not None
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(held.fd)
                os.setgid(65534)
                os.setuid(65534)
                code = 0 if lock.busy(path) and lock.acquire(path) is None else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        held.close()
