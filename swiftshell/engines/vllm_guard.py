"""Hold a server process so that it never outlives the worker that started it. Standard library only; run as a file.

    python vllm_guard.py COMMAND…

The worker holds the other end of standard input. When that closes (the worker ended, in whatever way) or on SIGTERM, the
command gets SIGTERM, and after a grace period its whole process group SIGKILL. The exit code is the command's.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

GRACE_S = 20.0
_PR_SET_PDEATHSIG = 1


def main(command: list[str]) -> int:
    """Run the command until it ends or standard input closes."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A group of its own, so that its children can be ended with it; and should this guard be killed, the server is told.
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, process_group=0, preexec_fn=_end_with_parent)  # noqa: PLW1509 - no threads here
    while server.poll() is None and not asked:
        if select.select([0], [], [], 0.5)[0] and not os.read(0, 4096):
            break
    if server.poll() is None:
        server.terminate()
        _wait(server)
    _kill_group(server.pid)
    code = server.wait()
    return code if code >= 0 else 128 - code


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))


def _wait(server: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + GRACE_S
    while server.poll() is None and time.monotonic() < end:
        time.sleep(0.05)


def _kill_group(group: int) -> None:
    """Kill what is left of the server's processes; usually nothing."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
