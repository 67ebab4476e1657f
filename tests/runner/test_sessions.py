"""What a terminal does to a run: nothing. And what two runs do to each other: nothing."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

from swiftshell.jobs import control, reconcile
from swiftshell.run import identity

from . import lab


def test_hangup_stops_neither_runner_nor_worker(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 60, "tick_s": 0.02}})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 1)
    os.kill(lab.runner_pid(run), signal.SIGHUP)
    os.kill(lab.worker(one).pid, signal.SIGHUP)
    os.kill(lab.runner_pid(run), signal.SIGINT)
    assert control.wait(run, 60).result == "succeeded"
    assert lab.ticks(one) == list(range(1, 61))


def test_a_closed_terminal_stops_nothing(workspace: Path) -> None:
    """The starter is a terminal's session leader; closing the terminal hangs its whole session up."""
    run = lab.make(workspace, {"one": {"ticks": 60, "tick_s": 0.02}})
    (one,) = run.steps()
    code = "import sys, time; from pathlib import Path; from swiftshell.jobs import launch\n"
    code += "launch.start(Path(sys.argv[1])); print('started', flush=True); time.sleep(60)"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", code, str(run.root)])
    said = b""
    while b"started" not in said:
        said += os.read(terminal, 1024)
    lab.ticked(one, 1)
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the starter itself dies of the hangup"
    assert os.WTERMSIG(status) == signal.SIGHUP
    assert control.wait(run, 60).result == "succeeded"
    assert lab.ticks(one) == list(range(1, 61))


def test_the_runner_is_nobodys_child_and_has_no_terminal(workspace: Path) -> None:
    run = lab.make(workspace, {"one": {"ticks": 200, "tick_s": 0.02}})
    (one,) = run.steps()
    lab.start(run)
    runner, worker = lab.runner_pid(run), lab.worker(one).pid
    lab.ticked(one, 1)
    fields = {pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in (runner, worker)}
    assert int(fields[runner][1]) != os.getpid()
    assert [f[4] for f in fields.values()] == ["0", "0"], "neither has a controlling terminal"
    assert os.getsid(runner) != os.getsid(0)
    assert os.getpgid(worker) == worker, "the worker leads a group of its own"
    for pid in (runner, worker):
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        assert os.readlink(f"/proc/{pid}/cwd") == str(workspace)
    assert os.readlink(f"/proc/{worker}/fd/1") == str(one.attempt(1).log)
    held = [os.readlink(f"/proc/{worker}/fd/{fd}") for fd in os.listdir(f"/proc/{worker}/fd")]
    assert str(run.lock) not in held, "a worker that holds the run's lock would hide its runner's death"
    control.stop(run, "kill")
    lab.settled(run)


def test_helpers_of_the_worker_do_not_outlive_it(workspace: Path, tmp_path: Path) -> None:
    """A stage's own helpers, one in its group and one that left it, are ended with the step."""
    package = tmp_path / "plugins"
    package.mkdir()
    (package / "sitecustomize.py").write_text(
        "import os, subprocess, sys\n"
        "if any('swiftshell.worker' in a for a in sys.orig_argv):\n"
        "    os.environ.pop('PYTHONPATH', None)\n"
        "    for session in (False, True):\n"
        "        p = subprocess.Popen(['sleep', '300'], start_new_session=session)\n"
        f"        open({str(tmp_path / 'helpers')!r}, 'a').write(f'{{p.pid}}\\n')\n")
    run = lab.make(workspace, {"one": {"ticks": 2, "env": {"PYTHONPATH": str(package)}}})
    lab.start(run)
    assert control.wait(run, 60).result == "succeeded"
    helpers = [int(line) for line in (tmp_path / "helpers").read_text().split()]
    assert len(helpers) == 2
    lab.until(lambda: all(identity.of(pid) is None for pid in helpers), 5)


def test_two_runs_in_one_workspace_at_once(workspace: Path) -> None:
    runs = [lab.make(workspace, {"one": {"ticks": 20, "tick_s": 0.02, "text": name}}, name) for name in ("a", "b")]
    for run in runs:
        lab.start(run)
    assert [reconcile.status(run).status for run in runs] == ["running", "running"] or \
        {reconcile.status(run).status for run in runs} <= {"starting", "running"}
    for run, name in zip(runs, "ab", strict=True):
        assert control.wait(run, 60).result == "succeeded"
        assert (run.steps()[0].out / "note" / "note.txt").read_text() == name + "\n"


def test_a_file_in_the_workspace_does_not_shadow_a_module(workspace: Path) -> None:
    (workspace / "json.py").write_text("raise SystemExit('shadowed')\n")
    (workspace / "swiftshell").mkdir()
    (workspace / "swiftshell" / "__init__.py").write_text("raise SystemExit('shadowed')\n")
    run = lab.make(workspace, {"one": {"ticks": 1}})
    lab.start(run)
    assert control.wait(run, 60).result == "succeeded"


def test_the_runner_is_light(workspace: Path) -> None:
    """At most 30 MiB and no CPU worth the name while a step works."""
    run = lab.make(workspace, {"one": {"ticks": 150, "tick_s": 0.02}})
    (one,) = run.steps()
    lab.start(run)
    lab.ticked(one, 5)
    pid = lab.runner_pid(run)

    def cpu_s() -> float:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    before, begun = cpu_s(), time.monotonic()
    lab.ticked(one, 80)
    used = (cpu_s() - before) / (time.monotonic() - begun)
    peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    control.stop(run, "kill")
    lab.settled(run)
    assert int(peak.split()[1]) / 1024 <= 30, peak
    assert used < 0.03, f"the runner used {used:.1%} of a core"


def test_the_runner_loads_the_standard_library_and_itself_only() -> None:
    code = "import sys, swiftshell.runner.__main__\nprint(*sorted(m for m in sys.modules))"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    ours = {m for m in done.stdout.split() if m.split(".")[0] == "swiftshell"}
    allowed = ("swiftshell.run.", "swiftshell.runner.", "swiftshell.claims", "swiftshell.machine")
    assert {m for m in ours if not m.startswith(allowed)} == {"swiftshell", "swiftshell.errors", "swiftshell.run",
                                                              "swiftshell.runner"}
    bare = subprocess.run([sys.executable, "-I", "-S", "-c", "import sys; print(*sys.modules)"], capture_output=True,
                          text=True, check=True)
    tops = {m.split(".")[0] for m in done.stdout.split()} - {m.split(".")[0] for m in bare.stdout.split()}
    strangers = {t for t in tops if t not in sys.stdlib_module_names and t != "swiftshell"}
    assert {t for t in strangers if not t.startswith(("_", "distutils"))} == set()
    assert not {"pydantic", "yaml", "rich", "torch"} & tops
