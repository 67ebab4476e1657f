"""Say whether a TCP port can be listened on, and who holds it if not."""

from __future__ import annotations

import errno
import os
import socket
from dataclasses import dataclass
from pathlib import Path

TAKEN = os.strerror(errno.EADDRINUSE)
_LISTENING = "0A"  # state column of /proc/net/tcp


@dataclass(frozen=True)
class Holder:
    """A process of this user that listens on a port."""

    pid: int
    command: str


def is_free(host: str, port: int) -> bool:
    """Tell whether a server could listen there now. A connection that is winding down does not count as taken."""
    return not why_not(host, port)


def why_not(host: str, port: int) -> str:
    """Return why a server could not listen there now, in the system's words (`TAKEN` among them); empty if it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return error.strerror or str(error)
    return ""


def next_free(host: str, port: int) -> int:
    """Return the first free port above this one; 0 (any) if the next hundred are taken."""
    return next((p for p in range(port + 1, min(port + 101, 65536)) if is_free(host, p)), 0)


def holder(port: int) -> Holder | None:
    """Return the process of this user that listens on a port, or None: another user's, or none."""
    inodes = _listening_inodes(port)
    if not inodes:
        return None
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and inodes & _socket_inodes(folder):
            return Holder(int(folder.name), _command(folder))
    return None


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for name in ("tcp", "tcp6"):
        try:
            lines = Path("/proc/net", name).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in (line.split() for line in lines):
            if fields[3] == _LISTENING and int(fields[1].rsplit(":", 1)[1], 16) == port:
                found.add(fields[9])
    return found


def _socket_inodes(process: Path) -> set[str]:
    found = set()
    try:
        for entry in (process / "fd").iterdir():
            target = os.readlink(entry)
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass  # another user's process, or one that just ended
    return found


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return "?"
    text = " ".join(w for w in words if w)
    return text if len(text) <= 80 else text[:79] + "…"
