"""What an administrator does once for everyone on a machine."""

from __future__ import annotations

import grp
import os
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from swiftshell.claims.area import DEFAULT, VARIABLE, filesystem, is_network, make_shared
from swiftshell.errors import EXIT_NO_RESOURCES, fail
from swiftshell.machine.gpu import gpus


def init_shared(group: str, path: str | None = None) -> dict[str, Any]:
    """Make the area in which all users of a group reserve GPUs; safe to run again, for example after a GPU was added.

    Raises:
        SwiftshellError: not root, no such group, a network's disk, a driver that does not answer, or no space.
    """
    root = Path(path or os.environ.get(VARIABLE) or DEFAULT).absolute()
    if os.geteuid() != 0:
        raise fail("gpus.not_root", exit_code=EXIT_NO_RESOURCES, group=group)
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        near = get_close_matches(group, [g.gr_name for g in grp.getgrall()], n=1, cutoff=0.3)
        raise fail("gpus.group_unknown", group=group, nearest=near[0] if near else "-") from None
    if is_network(root):
        raise fail("gpus.area_not_local", exit_code=EXIT_NO_RESOURCES, path=str(root), filesystem=filesystem(root))
    found = gpus()
    if found is None:
        raise fail("gpus.no_driver", exit_code=EXIT_NO_RESOURCES)
    try:
        make_shared(root, gid, [gpu.uuid for gpu in found])
    except OSError as error:
        raise fail("gpus.area_unwritable", exit_code=EXIT_NO_RESOURCES, path=str(root),
                   reason=error.strerror or str(error)) from error  # fmt: skip
    return {"path": str(root), "group": group, "gpus": len(found)}
