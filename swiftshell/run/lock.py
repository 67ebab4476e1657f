"""Hold and probe locks that the kernel frees when their holder dies. Standard library only.

The lock is `flock` on an open file, never the file's existence: SIGKILL of the holder frees it within a millisecond,
and a file left behind means nothing. It is given up by closing and in no other way (LOCK_UN would free it for everyone
who inherited it), and lock files are never removed (a second file under the same name would be a second lock).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# A probe takes the lock shared for some microseconds; an owner that meets one tries again before it believes "busy".
_PROBE_PATIENCE_S = 0.1
_MODE = 0o664


class Lock:
    """A held lock. It is free again when every process that has the descriptor closed it or died."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.fd = fd

    def note(self, facts: dict[str, Any]) -> None:
        """Write who holds the lock into the file, for people; the kernel's lock alone decides.

        A file that belongs to someone else may be read-only for us, and a disk may be full: neither is an error here.
        """
        try:
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, (json.dumps(facts, ensure_ascii=False) + "\n").encode(), 0)
        except OSError:
            return

    def close(self) -> None:
        """Give the lock up."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def acquire(path: Path, *, wait_s: float = _PROBE_PATIENCE_S) -> Lock | None:
    """Take a lock, or return None if someone holds it for longer than a probe does.

    Raises:
        OSError: the file cannot be made or opened.
    """
    end = time.monotonic() + wait_s
    while True:
        fd = _open(path)
        if _take(fd, fcntl.LOCK_EX):
            if _is_at(fd, path):
                return Lock(path, fd)
            os.close(fd)  # the file was replaced while we waited: lock the one others see
            continue
        os.close(fd)
        if time.monotonic() >= end:
            return None
        time.sleep(0.005)


def busy(path: Path) -> bool:
    """Tell whether someone holds the lock; changes nothing. A missing file is a free lock.

    Raises:
        OSError: the file cannot be opened (another user's private run).
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return False
    try:
        return not _take(fd, fcntl.LOCK_SH)
    finally:
        os.close(fd)


def noted(path: Path) -> dict[str, Any]:
    """Return what the last holder wrote about itself, or nothing."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _open(path: Path) -> int:
    """Open a lock file for locking, writable where that is allowed, made if it does not exist.

    Without O_CREAT first: on a shared, sticky folder Linux refuses O_CREAT on a file that belongs to someone else.
    """
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    for mode in (os.O_RDWR, os.O_RDONLY):
        try:
            return os.open(path, mode | flags)
        except FileNotFoundError:
            break
        except PermissionError:
            if mode == os.O_RDONLY:
                raise
    fd = os.open(path, os.O_RDWR | os.O_CREAT | flags, _MODE)
    with suppress(OSError):
        os.fchmod(fd, _MODE)  # the umask must not keep colleagues from asking whether it is held
    return fd


def _take(fd: int, kind: int) -> bool:
    try:
        fcntl.flock(fd, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        raise
    return True


def _is_at(fd: int, path: Path) -> bool:
    """Tell whether the open file is still the one under this name."""
    try:
        named, held = os.stat(path), os.fstat(fd)
    except FileNotFoundError:
        return False
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)
