"""Find the folder that holds locks, tickets and records of claims, and refuse one that could not keep its promises.

The shared one (`/var/lib/swiftshell`, or SWIFTSHELL_SHARED) is made once by an administrator and is for everyone in a
group. Without it each user has one of their own: their own jobs never meet, other users' are known by the driver only.

```
AREA/                        root:lab 0755          (a user's own: 0700 throughout)
├── host.json                format version
├── locks/                   root:lab 0755          nobody but root can add, delete or replace a lock
│   ├── sched.lock           0644, empty            held while somebody chooses, for milliseconds
│   └── gpu-<UUID>.lock      0644, empty            held by the runner and by its job
├── tickets/                 root:lab 3770          who waits
├── claims/                  root:lab 3770          who holds what, for people: the lock decides
└── usage/                   root:lab 3770          what each user had lately
```
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swiftshell.errors import EXIT_NO_RESOURCES, SwiftshellError, fail
from swiftshell.run.files import read_json, write_json

VARIABLE = "SWIFTSHELL_SHARED"
DEFAULT = Path("/var/lib/swiftshell")
VERSION = 1
# On these, flock is emulated by byte ranges, needs a writable descriptor, or is lost with the connection.
_NETWORK = frozenset(("afs", "beegfs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "gpfs", "lustre",
                      "ncpfs", "nfs", "nfs4", "smb3", "smbfs"))  # fmt: skip


@dataclass(frozen=True)
class Area:
    """A folder of claims; `shared` by all users of the machine, or one user's own."""

    root: Path
    shared: bool

    @property
    def sched(self) -> Path:
        return self.root / "locks" / "sched.lock"

    @property
    def tickets(self) -> Path:
        return self.root / "tickets"

    @property
    def claims(self) -> Path:
        return self.root / "claims"

    @property
    def usage(self) -> Path:
        return self.root / "usage"

    @property
    def host(self) -> Path:
        return self.root / "host.json"

    def gpu_lock(self, uuid: str) -> Path:
        return self.root / "locks" / f"gpu-{uuid}.lock"


def find(environ: Mapping[str, str] | None = None, *, create: bool = True) -> Area:
    """Return the area in force, fit for use; a user's own is made if need be (`create`).

    An empty SWIFTSHELL_SHARED means: no shared area, whatever lies at the usual place.

    Raises:
        SwiftshellError: it lies on a network file system, others could replace its locks, this user may not write
            into it, a newer version made it, or it cannot be made.
    """
    env = os.environ if environ is None else environ
    named = env.get(VARIABLE)
    if named or (named is None and DEFAULT.is_dir()):
        area = Area(Path(named) if named else DEFAULT, shared=True)
        _check_shared(area)
        return area
    area = Area(_own_root(env), shared=False)
    if not create and not area.root.exists():
        return area
    try:
        for folder in (area.root, area.sched.parent, area.tickets, area.claims, area.usage):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable("gpus.area_unwritable", area, reason=error.strerror or str(error)) from error
    _check_own(area)
    return area


def _own_root(env: Mapping[str, str]) -> Path:
    """Return the user's own folder: in their state folder, or in /var/tmp where that is a network's or cannot be written."""
    state = env.get("XDG_STATE_HOME", "")
    home = Path(state) if state.startswith("/") else Path(env.get("HOME") or "~").expanduser() / ".local" / "state"
    root = home / "swiftshell" / "claims"
    there = next(p for p in (root, *root.parents) if p.exists())
    if is_network(root) or (there.is_dir() and not os.access(there, os.W_OK | os.X_OK)):
        return Path(f"/var/tmp/swiftshell-{os.getuid()}/claims")
    return root


def _check_own(area: Area) -> None:
    for folder in (area.root, area.root.parent):  # in /var/tmp somebody else may have been first
        facts = folder.stat()
        if facts.st_uid != os.geteuid() or folder.is_symlink() or stat.S_IMODE(facts.st_mode) & 0o022:
            raise _unusable("gpus.area_own_unsafe", area, found=_modes(folder))
    _check_local(area)


def _check_shared(area: Area) -> None:
    locks = area.sched.parent
    try:
        for folder in (area.root, locks):
            facts = folder.stat()
            if facts.st_uid != 0 or stat.S_IMODE(facts.st_mode) & 0o022:
                raise _unusable("gpus.area_unsafe", area, found=_modes(folder))
        for folder in (area.tickets, area.claims, area.usage):
            if not folder.stat().st_mode & stat.S_ISVTX:
                raise _unusable("gpus.area_unsafe", area, found=_modes(folder))
    except OSError as error:
        raise _unusable("gpus.area_broken", area, reason=f"{error.filename}: {error.strerror}") from error
    _check_local(area)
    if not all(os.access(folder, os.W_OK | os.X_OK) for folder in (area.tickets, area.claims, area.usage)):
        raise _unusable("gpus.area_closed", area, group=_group(area.tickets))
    _check_version(area)


def _check_version(area: Area) -> None:
    try:
        found = read_json(area.host)
    except (OSError, ValueError) as error:
        raise _unusable("gpus.area_broken", area, reason=f"{area.host}: {error}") from error
    version = found.get("v") if isinstance(found, dict) else None
    if not isinstance(version, int):
        raise _unusable("gpus.area_broken", area, reason=f"{area.host}: v: {version!r}")
    if version > VERSION:
        raise _unusable("gpus.area_newer", area, found=version, known=VERSION)


def _check_local(area: Area) -> None:
    if is_network(area.root):
        raise _unusable("gpus.area_not_local", area, filesystem=filesystem(area.root))


def is_network(path: Path) -> bool:
    """Tell whether a path lies where locks do not hold."""
    return filesystem(path) in _NETWORK


def _unusable(code: str, area: Area, **values: Any) -> SwiftshellError:
    return fail(code, exit_code=EXIT_NO_RESOURCES, path=str(area.root), **values)


def _modes(path: Path) -> str:
    """Return owner and mode of a path the way `stat` prints them."""
    facts = path.stat()
    return f"{path} uid {facts.st_uid} {stat.S_IMODE(facts.st_mode):04o}"


def _group(path: Path) -> str:
    import grp

    gid = path.stat().st_gid
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def filesystem(path: Path) -> str:
    """Return the type of the file system a path lies on or will lie on; empty if the system does not say."""
    there = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    there = there.resolve()
    best, kind = -1, ""
    try:
        lines = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        before, _, after = line.partition(" - ")
        point = Path(before.split()[4].replace("\\040", " "))
        if (point == there or point in there.parents) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def make_shared(root: Path, gid: int, uuids: list[str]) -> Area:
    """Make or mend the shared area for a group; only root can. Locks that are there stay the files they are.

    Raises:
        OSError: no permission, no space.
    """
    area = Area(root, shared=True)
    everybodys = (area.tickets, area.claims, area.usage)
    for folder, mode in ((root, 0o755), (area.sched.parent, 0o755), *((folder, 0o3770) for folder in everybodys)):
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, 0, gid)
        os.chmod(folder, mode)
    for path in (area.sched, *(area.gpu_lock(uuid) for uuid in uuids)):
        fd = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        os.fchown(fd, 0, gid)
        os.fchmod(fd, 0o644)
        os.close(fd)
    write_json(area.host, {"v": VERSION}, mode=0o644)
    return area
