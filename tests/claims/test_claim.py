"""One claimer at a time: what is taken, what is refused, and the sentence that says why."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from swiftshell.claims import holders, tickets
from swiftshell.claims.area import Area
from swiftshell.claims.claim import Claimer, Grant, allowed_gpus
from swiftshell.claims.tickets import Queue
from swiftshell.errors import Problem, SwiftshellError
from swiftshell.i18n import set_language, what
from swiftshell.machine.gpu import gpus
from swiftshell.machine.processes import user_name
from swiftshell.run import identity
from swiftshell.run.identity import Identity

from .bench import Machine, uuid, want


def take(area: Area, count: int = 1, **fields: object) -> Grant:
    claimer = Claimer(area, want(count, **fields))
    found = claimer.attempt()
    claimer.close()
    assert isinstance(found, Grant), found
    return found


def wait(claimer: Claimer) -> Problem:
    found = claimer.attempt()
    assert isinstance(found, Problem), found
    return found


def test_gpus_are_taken_in_order_and_the_environment_confines_to_them(area: Area) -> None:
    first, second = take(area), take(area, 2)
    assert first.env == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0"}
    assert second.env["CUDA_VISIBLE_DEVICES"] == "1,2"
    first.close()
    assert take(area).env["CUDA_VISIBLE_DEVICES"] == "0"
    second.close()


def test_a_held_gpu_is_waited_for_by_name(area: Area) -> None:
    grant = take(area, 4, run="2026-01-01-dpo-bbbb", expected_s=3600.0)
    claimer = Claimer(area, want())
    why = wait(claimer)
    assert why.code == "gpus.wait_held_until"
    named = (why.values["user"], why.values["stage"], why.values["run"])
    assert named == (user_name(os.getuid()), "echo", "2026-01-01-dpo-bbbb")
    assert time.strftime("%H:%M", time.localtime(grant.since + 3600)) in str(why.values["until"])
    assert "GPU 0" in what(why)
    set_language("zh")
    try:
        assert "正在等待 GPU 0" in what(why)
    finally:
        set_language("auto")
    grant.close()
    assert isinstance(claimer.attempt(), Grant)


def test_a_foreign_process_is_named_and_its_arguments_are_not(area: Area, machine: Machine) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "hf_secret_token"])
    try:
        for index in range(4):
            machine.appear(index, stranger.pid)
        claimer = Claimer(area, want())
        why = wait(claimer)
        assert why.code == "gpus.wait_foreign"
        assert why.values["pid"] == stranger.pid
        assert str(why.values["command"]).startswith("python")
        assert "hf_secret" not in what(why)
        machine.vanish(2, stranger.pid)
        granted = claimer.attempt()
        assert isinstance(granted, Grant)
        assert granted.env["CUDA_VISIBLE_DEVICES"] == "2"
        granted.close()
    finally:
        stranger.kill()
        stranger.wait()


@pytest.mark.parametrize(("fields", "code"), [
    ({"used_gib": 6.0}, "gpus.wait_memory"),
    ({"fault": "GPU is lost"}, "gpus.wait_unknown"),
    ({"mig": True}, "gpus.wait_unknown"),
    ({"processes": [{"pid": 999_999_999}]}, "gpus.wait_foreign_hidden"),
])  # fmt: skip
def test_what_the_driver_does_not_call_free_is_not_free(area: Area, machine: Machine, fields: dict[str, object],
                                                        code: str) -> None:  # fmt: skip
    for index in range(4):
        machine.set(index, **fields)
    claimer = Claimer(area, want())
    assert wait(claimer).code == code
    claimer.close()


def test_a_desktop_does_not_make_a_gpu_busy(area: Area, machine: Machine) -> None:
    machine.set(0, used_gib=0.9, processes=[{"pid": 1, "used_gib": 0.8, "kind": "graphics"}])
    grant = take(area)
    assert grant.env["CUDA_VISIBLE_DEVICES"] == "0"
    grant.close()


def test_a_driver_that_does_not_answer_is_not_a_machine_without_gpus(area: Area, machine: Machine) -> None:
    machine.hang()
    assert gpus() is None
    claimer = Claimer(area, want())
    assert wait(claimer).code == "gpus.wait_driver"
    claimer.close()


def test_a_process_that_appears_between_look_and_start_is_seen(area: Area, machine: Machine) -> None:
    looks = 0

    def reading() -> object:
        nonlocal looks
        looks += 1
        if looks == 2:  # the look inside, after the locks were taken
            machine.appear(0, os.getppid())
        return machine.gpus()

    claimer = Claimer(area, want(), read_gpus=reading)  # type: ignore[arg-type]
    assert wait(claimer).code == "gpus.wait_foreign"
    assert not holders.is_taken(area, uuid(0)), "the lock was given back"
    granted = claimer.attempt()
    assert isinstance(granted, Grant)
    assert granted.env["CUDA_VISIBLE_DEVICES"] == "1"
    granted.close()


def test_a_lock_replaced_under_its_holder_is_no_free_gpu(area: Area, machine: Machine) -> None:
    held = [take(area) for _ in range(4)]
    area.gpu_lock(uuid(1)).unlink()
    claimer = Claimer(area, want())
    assert isinstance(claimer.attempt(), Problem)
    area.gpu_lock(uuid(1)).touch()
    for grant in (held[0], held[2], held[3]):
        machine.appear(grant.gpus[0].index, os.getppid())
        grant.close()
    codes = {wait(claimer).code}
    assert codes <= {"gpus.wait_replaced", "gpus.wait_foreign"}
    narrow = Claimer(area, want(allowed=(uuid(1),)))
    claimer.close()
    assert wait(narrow).code == "gpus.wait_replaced"
    held[1].close()
    granted = narrow.attempt()
    assert isinstance(granted, Grant)
    granted.close()


def test_a_lock_that_is_a_link_is_refused(area: Area, tmp_path: Path) -> None:
    area.gpu_lock(uuid(0)).symlink_to(tmp_path / "elsewhere")
    grant = take(area)
    assert grant.env["CUDA_VISIBLE_DEVICES"] == "1"
    grant.close()
    assert not (tmp_path / "elsewhere").exists()


def test_a_job_that_inherited_the_lock_keeps_the_gpu(area: Area) -> None:
    grant = take(area)
    for fd in grant.fds:
        os.set_inheritable(fd, True)
    job = subprocess.Popen(["sleep", "60"], pass_fds=grant.fds)
    who = identity.of(job.pid)
    assert who is not None
    grant.note(who)
    for held in grant.locks:
        os.close(held.fd)  # as when the runner dies: nothing is said, nothing is removed
    try:
        claimer = Claimer(area, want(allowed=(uuid(0),)))
        assert wait(claimer).code == "gpus.wait_held"
        job.kill()
        job.wait()
        granted = claimer.attempt()
        assert isinstance(granted, Grant)
        granted.close()
    finally:
        job.kill()


def test_a_ticket_of_the_dead_counts_for_nothing_whoever_has_its_number(area: Area) -> None:
    script = ("import os, sys; sys.path.insert(0, sys.argv[2]); from swiftshell.claims import tickets;"
              "from swiftshell.claims.area import Area; from pathlib import Path;"
              "tickets.write(Area(Path(sys.argv[1]), False), tickets.Want('r', 's', 'echo', 4)); os._exit(0)")
    subprocess.run([sys.executable, "-c", script, str(area.root), os.getcwd()], check=True,
                   env={**os.environ, "PYTHONPATH": str(Path(tickets.__file__).parents[2])})  # fmt: skip
    left = list(area.tickets.iterdir())
    assert len(left) == 1
    text = left[0].read_text().replace('"pid": ', f'"pid": {os.getpid()}, "was": ')
    left[0].write_text(text)  # the number is somebody else's by now
    assert Queue(area).alive() == []
    grant = take(area)
    assert not left[0].exists(), "its owner's next ticket sweeps it away"
    grant.close()


def test_garbage_among_tickets_and_records_stops_nobody(area: Area) -> None:
    (area.tickets / "00000000000000000001-0-ffff.json").write_text("{not json")
    (area.tickets / "00000000000000000002-0-ffff.json").symlink_to("/etc/passwd")
    os.mkfifo(area.tickets / "00000000000000000003-0-ffff.json")
    (area.claims / f"gpu-{uuid(0)}.0.json").write_text("[]")
    grant = take(area)
    assert grant.env["CUDA_VISIBLE_DEVICES"] == "0"
    grant.close()


def test_who_may_use_which_gpus(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpus()
    assert found is not None
    assert allowed_gpus(found, 4) == ()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert allowed_gpus(found, 2) == (uuid(3), uuid(1))
    for value, count, code in (("3,1", 3, "gpus.too_many_visible"), ("9", 1, "gpus.no_such_gpu")):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
        with pytest.raises(SwiftshellError) as error:
            allowed_gpus(found, count)
        assert error.value.problems[0].code == code
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    with pytest.raises(SwiftshellError) as error:
        allowed_gpus(found, 5)
    assert error.value.problems[0].code == "gpus.too_many"


def test_a_record_names_processes_by_more_than_their_number(area: Area) -> None:
    grant = take(area)
    holder = holders.of(area, uuid(0))
    assert holder is not None
    assert holder.is_alive
    assert holder.owns(os.getpid())
    assert not holder.owns(1)
    me = identity.mine()
    grant.note()
    stale = Identity(me.pid, me.starttime - 1, me.boot_id)
    holders.record(area, uuid(0), grant.locks[0], grant.want, grant.since, [stale])
    reused = holders.of(area, uuid(0))
    assert reused is not None
    assert not reused.is_alive
    assert not reused.owns(os.getpid())
    grant.close()
