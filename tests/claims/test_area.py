"""Where claims lie: what is refused, what an administrator makes, and who may do what in there."""

from __future__ import annotations

import grp
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from swiftshell.api.admin import init_shared
from swiftshell.api.doctor import examine
from swiftshell.api.gpus import gpus_facts
from swiftshell.claims import area as areas
from swiftshell.claims.area import VARIABLE, Area, find, make_shared
from swiftshell.claims.claim import Claimer, Grant
from swiftshell.errors import SwiftshellError
from swiftshell.i18n import hint_of, what

from .bench import Machine, uuid, want

ROOT = Path(__file__).resolve().parents[2]
OTHER, GROUP = 61_001, 61_000

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make an area for everyone")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> Iterator[Area]:
    """A shared area in a folder that others may enter."""
    folder = Path(tempfile.mkdtemp(prefix="swiftshell-area-"))
    folder.chmod(0o755)
    area = make_shared(folder / "shared", GROUP, [uuid(i) for i in range(4)])
    monkeypatch.setenv(VARIABLE, str(area.root))
    yield area
    shutil.rmtree(folder)


def refused() -> tuple[str, str]:
    with pytest.raises(SwiftshellError) as error:
        find()
    assert error.value.exit_code == 5
    problem = error.value.problems[0]
    return problem.code, what(problem)


def test_without_a_shared_area_it_is_the_users_own_and_private(machine: Machine, tmp_path: Path) -> None:
    before = find(create=False)
    assert not before.root.exists(), "looking makes nothing"
    area = find()
    assert area == Area(tmp_path / "state" / "swiftshell" / "claims", shared=False)
    assert area.root.stat().st_mode & 0o777 == 0o700
    area.root.chmod(0o777)
    assert refused()[0] == "gpus.area_own_unsafe"
    area.root.chmod(0o700)
    area.root.parent.chmod(0o770)
    assert "0770" in refused()[1]


@needs_root
def test_the_shared_area_is_used_where_it_is_named(shared: Area) -> None:
    assert find() == shared
    claimer = Claimer(shared, want())
    granted = claimer.attempt()
    assert isinstance(granted, Grant)
    granted.close()


@needs_root
@pytest.mark.parametrize(("damage", "code", "said"), [
    ("chmod 777 {area}/locks", "gpus.area_unsafe", "0777"),
    ("chown 61001 {area}", "gpus.area_unsafe", "uid 61001"),
    ("chmod 770 {area}/tickets", "gpus.area_unsafe", "2770"),
    ("rm -r {area}/claims", "gpus.area_broken", "claims"),
    ("rm {area}/host.json", "gpus.area_broken", "host.json"),
    ("echo nonsense > {area}/host.json", "gpus.area_broken", "host.json"),
    ("echo '{{\"v\": 99}}' > {area}/host.json", "gpus.area_newer", "99"),
])  # fmt: skip
def test_a_damaged_area_is_refused_by_what_was_found(shared: Area, damage: str, code: str, said: str) -> None:
    subprocess.run(damage.format(area=shared.root), shell=True, check=True)
    found = refused()
    assert found[0] == code
    assert said in found[1]


def test_a_networks_disk_is_refused(shared: Area, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(areas, "filesystem", lambda _path: "nfs4")
    code, said = refused()
    assert (code, "nfs4" in said) == ("gpus.area_not_local", True)
    monkeypatch.setenv(VARIABLE, "")
    area = areas._own_root({"HOME": "/home/somebody"})
    assert area == Path(f"/var/tmp/swiftshell-{os.getuid()}/claims"), "a home on a network does not hold locks"


def test_the_file_system_is_the_nearest_mount() -> None:
    assert areas.filesystem(Path("/proc/self")) == "proc"
    assert areas.filesystem(Path("/proc/no/such/thing")) == "proc"
    assert areas.filesystem(Path("/")) not in ("", "proc")


@needs_root
@pytest.mark.users
def test_another_user_can_join_and_cannot_tamper(shared: Area) -> None:
    claimer = Claimer(shared, want())
    ticket = next(shared.tickets.glob("*.json"))
    script = f"""
import os, fcntl
from swiftshell.claims.area import Area, find
from swiftshell.claims.claim import Claimer, Grant
from swiftshell.claims.tickets import Want
from pathlib import Path
area = find()
for attack in (lambda: os.unlink({str(ticket)!r}), lambda: open({str(ticket)!r}, "w"),
               lambda: os.rename({str(ticket)!r}, "/tmp/x"), lambda: os.unlink(area.gpu_lock({uuid(0)!r})),
               lambda: os.unlink(area.sched), lambda: open(area.sched, "w"), lambda: (area.root / "locks" / "new").touch()):
    try:
        attack()
    except OSError:
        continue
    raise SystemExit("an attack succeeded")
grant = Claimer(area, Want("run", "one", "echo", 1)).attempt()
print("GPU", grant.gpus[0].index if isinstance(grant, Grant) else grant)
"""
    user = ["setpriv", f"--reuid={OTHER}", f"--regid={GROUP}", "--clear-groups"]
    done = subprocess.run([*user, sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "SWIFTSHELL_GPUS_FILE": os.environ["SWIFTSHELL_GPUS_FILE"]})  # fmt: skip
    if "ModuleNotFoundError" in done.stderr or "Permission denied" in done.stderr.partition("swiftshell-area")[0][-200:]:
        pytest.skip(f"other users may not read {ROOT} or the test's files: {done.stderr[-200:]}")
    # its inventory lies in a folder that is private to this test: a driver that does not answer it, so it only waits
    assert "gpus.wait_driver" in done.stdout, done.stdout + done.stderr
    assert ticket.exists()
    granted = claimer.attempt()
    assert isinstance(granted, Grant)
    granted.close()


@needs_root
@pytest.mark.users
def test_who_is_not_in_the_group_is_told_which_group(shared: Area) -> None:
    code = "from swiftshell.claims.area import find; find()"
    user = ["setpriv", f"--reuid={OTHER}", "--regid=61999", "--clear-groups"]
    done = subprocess.run([*user, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    if "ModuleNotFoundError" in done.stderr:
        pytest.skip(f"other users may not read {ROOT}")
    assert "gpus.area_closed" in done.stderr or "may not write" in done.stderr
    assert str(GROUP) in done.stderr


@needs_root
def test_init_shared_makes_it_and_mends_it_without_replacing_locks(machine: Machine, tmp_path: Path,
                                                                  monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    group = grp.getgrgid(0).gr_name
    root = tmp_path / "shared"
    assert init_shared(group, str(root)) == {"path": str(root), "group": group, "gpus": 4}
    lock = Area(root, True).gpu_lock(uuid(2))
    before = lock.stat().st_ino
    (root / "locks").chmod(0o777)
    init_shared(group, str(root))
    assert lock.stat().st_ino == before
    monkeypatch.setenv(VARIABLE, str(root))
    assert find().shared
    lines = {f["check"]: f for f in examine()}
    assert lines["GPU reservations"]["verdict"] == "ok"
    machine.set(0, uuid="GPU-new")  # a card that was added later has no lock yet
    assert gpus_facts()["gpus"][0]["state"] == "unknown"
    init_shared(group, str(root))
    assert gpus_facts()["gpus"][0]["state"] == "free"


def test_init_shared_names_the_nearest_group(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SwiftshellError) as error:
        init_shared("rooot", "/nonexistent/shared")
    assert error.value.problems[0].values["nearest"] == "root"


def test_init_shared_needs_root(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SwiftshellError) as error:
        init_shared("root", "/nonexistent/shared")
    assert error.value.problems[0].code == "gpus.not_root"
    assert "sudo" in hint_of(error.value.problems[0])


def test_doctor_says_what_is_missing(machine: Machine) -> None:
    line = next(f for f in examine() if f["check"] == "GPU reservations")
    assert line["verdict"] == "warn"
    assert "init-shared" in line["todo"]
