"""install.sh: what it does, does not do again, and says. Nothing is really installed here."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.install.conftest import STUB_PYTHON, Machine


def test_no_verb_and_help_show_the_usage(machine: Machine) -> None:
    for arguments in ([], ["--help"], ["-h"]):
        done = machine.install(*arguments)
        assert done.returncode == 0
        assert done.stdout.startswith("usage: ./install.sh VERB")
        for verb in ("setup", "demo", "test", "setup-serve", "check", "doctor"):
            assert f"\n  {verb}" in done.stdout
    assert machine.calls() == []


def test_an_unknown_verb_is_a_usage_error(machine: Machine) -> None:
    done = machine.install("instal")
    assert done.returncode == 2
    assert "unknown verb: instal" in done.stderr
    assert done.stdout == ""


def test_it_speaks_chinese_where_the_locale_does(machine: Machine) -> None:
    assert "用法" in machine.install("--help", LANG="zh_CN.UTF-8").stdout
    assert "用法" in machine.install("--help", LC_ALL="zh_TW.UTF-8").stdout
    assert "usage" in machine.install("--help", LANG="zh_CN.UTF-8", LC_ALL="en_US.UTF-8").stdout
    assert "不认识的命令：instal" in machine.install("instal", LANG="zh_CN.UTF-8").stderr


def test_setup_from_another_folder_with_closed_stdin_and_spaces_in_the_path(machine: Machine) -> None:
    done = machine.install("setup")
    assert done.returncode == 0, done.stderr
    venv = machine.checkout / ".venv"
    assert "swiftshell-unfinished" not in {path.name for path in venv.iterdir()}
    stamp = (venv / "swiftshell-stamp").read_text(encoding="utf-8")
    assert f"at {venv}\n" in stamp
    assert "accelerator cpu\n" in stamp
    assert "extras train\n" in stamp
    pips = machine.calls("-m pip install")
    assert "torch==2.13.0+cpu" in pips[1]
    assert "--no-deps" in pips[1]
    assert "-e .[train]" in pips[2]
    assert "--no-build-isolation" in pips[2]
    assert f"-c {machine.checkout}/constraints/cpu.txt" in pips[2]
    assert machine.calls("swiftshell in")[-1].endswith(": doctor")
    assert list(machine.elsewhere.iterdir()) == []


def test_the_second_setup_asks_pip_nothing_and_is_fast(machine: Machine) -> None:
    assert machine.install("setup").returncode == 0
    machine.forget()
    started = time.monotonic()
    assert machine.install("setup").returncode == 0
    assert time.monotonic() - started < 1.0
    assert machine.calls("-m pip") == []
    assert machine.calls("-m venv") == []


def test_a_changed_lock_or_project_file_is_installed(machine: Machine) -> None:
    assert machine.install("setup").returncode == 0
    for name in ("constraints/cpu.txt", "pyproject.toml"):
        path = machine.checkout / name
        path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
        machine.forget()
        assert machine.install("setup").returncode == 0
        assert machine.calls("-e .[train]") != []
        assert machine.calls("-m venv") == []


def test_test_tools_are_added_and_then_stay(machine: Machine) -> None:
    assert machine.install("setup").returncode == 0
    machine.forget()
    assert (
        machine.install(
            "test", "--tier", "default", STUB_SUITE='errors="0" failures="0" skipped="0" tests="1"'
        ).returncode
        == 0
    )
    assert machine.calls("-e .[train,dev]") != []
    machine.forget()
    assert machine.install("setup").returncode == 0
    assert machine.calls("-m pip") == []
    (machine.checkout / "constraints/cpu.txt").open("a").write("# changed\n")
    assert machine.install("setup").returncode == 0
    assert machine.calls("-e .[train,dev]") != []


def test_a_virtual_environment_whose_python_is_gone_is_made_anew(machine: Machine) -> None:
    assert machine.install("setup").returncode == 0
    (machine.checkout / ".venv/bin/python").unlink()
    (machine.checkout / ".venv/old").touch()
    machine.forget()
    done = machine.install("setup")
    assert done.returncode == 0
    assert "its Python does not work" in done.stdout
    assert machine.calls("-m venv") != []
    assert not (machine.checkout / ".venv/old").exists()


@pytest.mark.parametrize(
    ("with_signal", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_an_installation_that_was_broken_off_is_made_anew(
    machine: Machine, with_signal: int, code: int
) -> None:
    """The signal goes to the whole process group, as Ctrl-C and a closed machine send it."""
    running = machine.start("setup", STUB_PIP_HANGS="-e ")
    until = time.monotonic() + 20
    while not machine.notes.with_suffix(".hangs").exists():
        assert time.monotonic() < until, "pip was not reached"
        time.sleep(0.05)
    os.killpg(running.pid, with_signal)
    said, _ = running.communicate(timeout=20)
    assert running.returncode == code, said
    assert not (machine.checkout / ".venv/swiftshell-stamp").exists()
    machine.forget()
    done = machine.install("setup")
    assert done.returncode == 0
    assert "the last installation was broken off" in done.stdout
    assert machine.calls("-m venv") != []


def test_a_pip_that_failed_while_installing_gets_a_new_environment(machine: Machine) -> None:
    says = "Installing collected packages: one, two"
    assert machine.install("setup", STUB_PIP_FAILS="-e ", STUB_PIP_SAYS=says).returncode == 1
    assert "the last installation was broken off" in machine.install("setup").stdout


def test_two_installations_at_once_wait_for_each_other(machine: Machine) -> None:
    first = machine.start("setup", STUB_PIP_HANGS="-e ")
    until = time.monotonic() + 20
    while not machine.notes.with_suffix(".hangs").exists():
        assert time.monotonic() < until, "pip was not reached"
        time.sleep(0.05)
    second = machine.start("setup")
    assert second.stdout is not None
    assert "waiting for it" in second.stdout.readline()
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate(timeout=20)
    said, _ = second.communicate(timeout=20)
    assert second.returncode == 0, said
    assert "was broken off" in said


def test_a_moved_checkout_gets_a_new_environment(machine: Machine) -> None:
    assert machine.install("setup").returncode == 0
    moved = machine.checkout.with_name("moved")
    machine.checkout.rename(moved)
    machine.checkout = moved
    done = machine.install("setup")
    assert done.returncode == 0
    assert "it was moved" in done.stdout


def test_a_new_gpu_gets_a_new_environment(machine: Machine) -> None:
    assert machine.install("setup").returncode == 0
    machine.forget()
    done = machine.install("setup", SWIFTSHELL_ACCELERATOR="cuda")
    assert done.returncode == 0
    assert "it was not made for cuda" in done.stdout
    assert machine.calls("+cpu") == []
    assert machine.calls("constraints/cuda.txt") != []


def test_a_folder_that_is_no_virtual_environment_is_left_alone(machine: Machine) -> None:
    (machine.checkout / ".venv").mkdir()
    (machine.checkout / ".venv/thesis.txt").write_text("mine", encoding="utf-8")
    done = machine.install("setup")
    assert done.returncode == 1
    assert "is not a virtual environment: move it away" in done.stderr
    assert (machine.checkout / ".venv/thesis.txt").read_text(encoding="utf-8") == "mine"


# ----------------------------------------------------------------------------------------------- what can be missing


def test_a_python_that_is_too_old_is_named(machine: Machine) -> None:
    done = machine.install("setup", STUB_VERSION="3.9.18")
    assert done.returncode == 1
    assert done.stderr == (
        f"error: Python 3.11 or newer is needed, found 3.9.18 ({machine.bin}/python3): "
        "install one, or name it in SWIFTSHELL_PYTHON\n"
    )
    assert not (machine.checkout / ".venv").exists()


def test_no_python_at_all(machine: Machine) -> None:
    (machine.bin / "python3").unlink()
    done = machine.install("setup")
    assert done.returncode == 1
    assert done.stderr.startswith("error: no Python found")


def test_a_newer_python_beside_an_old_one_is_taken(machine: Machine) -> None:
    machine.program("python3.12", STUB_PYTHON.replace("${STUB_VERSION:-3.11.7}", "3.12.1"))
    machine.program("python3", STUB_PYTHON.replace("${STUB_VERSION:-3.11.7}", "3.10.2"))
    done = machine.install("setup", STUB_SELF=str(machine.bin / "python3.12"))
    assert done.returncode == 0, done.stderr
    assert f"with {machine.bin}/python3.12" in done.stdout


def test_the_person_may_name_the_python(machine: Machine) -> None:
    mine = machine.program("my-python", STUB_PYTHON)
    done = machine.install("setup", SWIFTSHELL_PYTHON=str(mine))
    assert done.returncode == 0
    assert f"with {mine}" in done.stdout
    machine.install("setup")
    missing = machine.install("setup-serve", SWIFTSHELL_PYTHON="python9")
    assert missing.returncode == 1
    assert "tried python9" in missing.stderr


def test_a_python_without_venv_names_the_package(machine: Machine) -> None:
    done = machine.install("setup", STUB_NO_VENV="1")
    assert done.returncode == 1
    assert "has no venv module: install the package python3-venv" in done.stderr


def test_a_full_disk_is_told_before_anything_is_written(machine: Machine) -> None:
    machine.program("df", "#!/usr/bin/env bash\necho header\necho '/dev/x 9000000 8000000 1048576 90% /'\n")
    done = machine.install("setup")
    assert done.returncode == 1
    assert "installing takes about 4 GiB" in done.stderr
    assert "has 1 GiB left" in done.stderr
    assert not (machine.checkout / ".venv").exists()


def test_when_pip_fails_the_log_is_named_and_its_end_shown(machine: Machine) -> None:
    done = machine.install("setup", STUB_PIP_FAILS="-e ", STUB_PIP_SAYS="ERROR: no route to host")
    assert done.returncode == 1
    log = machine.checkout / ".cache/install/setup.log"
    assert "ERROR: no route to host" in done.stderr
    assert done.stderr.rstrip().endswith(f"error: pip install swiftshell failed; the whole log is in {log}")
    assert "ERROR: no route to host" in log.read_text(encoding="utf-8")
    assert not (machine.checkout / ".venv/swiftshell-stamp").exists()
    # pip itself ended, so the environment is whole: the next try goes on with it.
    machine.forget()
    assert machine.install("setup").returncode == 0
    assert machine.calls("-m venv") == []


def test_a_doctor_with_warnings_does_not_fail_the_setup(machine: Machine) -> None:
    assert machine.install("setup", STUB_SHELL_CODE="1").returncode == 0


# ------------------------------------------------------------------------------------------------------ CPU and CUDA


def test_torch_for_the_cpu_is_fetched_alone_from_the_named_index(machine: Machine) -> None:
    done = machine.install(
        "setup",
        SWIFTSHELL_TORCH_INDEX="http://wheels.test/cpu",
        STUB_PIP_FAILS=r"\+cpu",
        STUB_PIP_UNLESS="--index-url",
    )
    assert done.returncode == 0, done.stderr
    assert "trying http://wheels.test/cpu" in done.stdout
    from_index = machine.calls("--index-url")
    assert from_index == ["-m pip install --no-deps --index-url http://wheels.test/cpu torch==2.13.0+cpu"]


def test_no_cpu_build_anywhere_is_an_error_and_never_a_cuda_build(machine: Machine) -> None:
    done = machine.install("setup", STUB_PIP_FAILS=r"\+cpu")
    assert done.returncode == 1
    assert "pip install torch==2.13.0+cpu failed" in done.stderr
    assert "SWIFTSHELL_TORCH_INDEX may name another index that has it" in done.stderr
    assert [call for call in machine.calls("torch==2.13.0") if "+cpu" not in call] == []


def test_a_mac_takes_the_plain_build(machine: Machine) -> None:
    assert machine.install("setup", STUB_OS="Darwin", STUB_ARCH="arm64").returncode == 0
    assert machine.calls("+cpu") == []
    assert machine.calls("torch==2.13.0") != []


@pytest.mark.parametrize(
    ("listed", "kind"), [("GPU 0: NVIDIA H100 (UUID: GPU-1)", "cuda"), ("No devices were found", "cpu")]
)
def test_the_gpu_decides(machine: Machine, listed: str, kind: str) -> None:
    if Path("/proc/driver/nvidia/version").exists():
        pytest.skip("this machine has an NVIDIA driver of its own")
    del machine.env["SWIFTSHELL_ACCELERATOR"]
    machine.program("nvidia-smi", f"#!/usr/bin/env bash\necho '{listed}'\n")
    assert machine.install("setup").returncode == 0
    assert machine.calls(f"constraints/{kind}.txt") != []
    assert f"accelerator {kind}\n" in (machine.checkout / ".venv/swiftshell-stamp").read_text(
        encoding="utf-8"
    )


def test_a_wrong_accelerator_is_refused(machine: Machine) -> None:
    done = machine.install("setup", SWIFTSHELL_ACCELERATOR="rocm")
    assert done.returncode == 2
    assert "SWIFTSHELL_ACCELERATOR is 'rocm'; it must be cpu or cuda" in done.stderr


def test_cuda_packages_on_a_cpu_machine_are_an_error(machine: Machine, tmp_path: Path) -> None:
    listing = tmp_path / "list"
    listing.write_text("numpy==2.4.6\nnvidia-cublas==13.1\ncuda-toolkit==13.0\n", encoding="utf-8")
    done = machine.install("setup", STUB_LIST=str(listing))
    assert done.returncode == 1
    assert (
        "has CUDA packages although this is an installation for the CPU: nvidia-cublas==13.1 cuda-toolkit==13.0"
        in done.stderr
    )
    assert not (machine.checkout / ".venv/swiftshell-stamp").exists()


def test_a_personal_pip_setting_cannot_send_packages_elsewhere(machine: Machine) -> None:
    spy = STUB_PYTHON.replace(
        "-c*) exit 0",
        '-c*) echo "user=$PIP_USER target=${PIP_TARGET-unset} path=${PYTHONPATH-unset}" >>"$STUB_NOTES"',
    )
    machine.program("python3", spy)
    assert (
        machine.install("setup", PIP_USER="1", PIP_TARGET="/somewhere", PYTHONPATH="/elsewhere").returncode
        == 0
    )
    (machine.checkout / "constraints/cpu.txt").open("a").write("# changed\n")
    assert (
        machine.install("setup", PIP_USER="1", PIP_TARGET="/somewhere", PYTHONPATH="/elsewhere").returncode
        == 0
    )
    assert "user=0 target=unset path=unset" in machine.calls()


# --------------------------------------------------------------------------------------------------------- the verbs


def test_setup_serve_on_a_cpu_installs_the_lock_without_dependencies(machine: Machine) -> None:
    assert machine.install("setup-serve").returncode == 0
    lock = machine.checkout / "constraints/serve-cpu.txt"
    assert machine.calls(f"install --no-deps -r {lock}") != []
    machine.forget()
    # vLLM's environment does not hold swiftshell, so the project file does not concern it.
    (machine.checkout / "pyproject.toml").open("a").write("# changed\n")
    assert machine.install("setup-serve").returncode == 0
    assert machine.calls("-m pip") == []
    assert not (machine.checkout / ".venv").exists()


def test_setup_serve_on_a_gpu(machine: Machine) -> None:
    assert machine.install("setup-serve", SWIFTSHELL_ACCELERATOR="cuda").returncode == 0
    assert machine.calls(f"install -c {machine.checkout}/constraints/serve-cuda.txt vllm") != []


def test_demo_runs_the_shipped_recipe_in_its_own_workspace(machine: Machine) -> None:
    done = machine.install("demo", "--set", "kto.beta=0.2", STUB_SHELL_CODE="3")
    assert done.returncode == 3
    assert machine.calls("swiftshell in")[-1] == (
        f"swiftshell in {machine.checkout}/workspace: "
        f"run {machine.checkout}/recipes/starter/all-stages.yaml --workspace {machine.checkout}/workspace --yes "
        "--set kto.beta=0.2"
    )


def test_doctor_before_setup_names_the_command(machine: Machine) -> None:
    done = machine.install("doctor")
    assert done.returncode == 1
    assert "run ./install.sh setup first" in done.stderr


def test_test_runs_the_tiers_in_order_and_ends_in_the_sum(machine: Machine) -> None:
    done = machine.install(
        "test", "--", "-k", "menu", STUB_SUITE='errors="0" failures="0" skipped="2" tests="12"'
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "tests: 30 passed, 0 failed, 6 skipped"
    runs = machine.calls("-m pytest")
    assert len(runs) == 3
    assert "-m not engine and not serve and not slow" in runs[0]
    assert "-m (engine or slow) and not serve" in runs[1]
    assert "-m serve" in runs[2]
    assert all(run.endswith("-k menu") for run in runs)
    assert (machine.checkout / ".venv-serve/swiftshell-stamp").exists()


def test_failures_and_errors_are_counted(machine: Machine) -> None:
    done = machine.install(
        "test",
        "--tier=default",
        STUB_SUITE='errors="1" failures="2" skipped="0" tests="10"',
        STUB_PYTEST_CODE="1",
    )
    assert done.returncode == 1
    assert "failed tiers: default" in done.stdout
    assert done.stdout.splitlines()[-1] == "tests: 7 passed, 3 failed, 0 skipped"


def test_a_test_run_that_crashes_is_a_failure(machine: Machine) -> None:
    done = machine.install("test", "--tier", "default", STUB_PYTEST_CODE="3")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "tests: 0 passed, 1 failed, 0 skipped"


def test_no_test_at_all_is_a_failure(machine: Machine) -> None:
    done = machine.install("test", "--tier", "engine", STUB_PYTEST_CODE="5")
    assert done.returncode == 1
    assert "no test was run" in done.stdout


def test_an_unknown_tier_or_argument_is_a_usage_error(machine: Machine) -> None:
    done = machine.install("test", "--tier", "fast")
    assert done.returncode == 2
    assert "no test tier 'fast'; there are default, engine, serve, all" in done.stderr
    assert machine.install("test", "--tier").returncode == 2
    done = machine.install("test", "-k", "menu")
    assert done.returncode == 2
    assert "test does not know '-k'" in done.stderr
    assert machine.install("setup", "--fast").returncode == 2
    assert machine.calls() == []


@pytest.mark.parametrize(
    ("ci", "says", "code", "last"),
    [
        (
            "",
            "Failed to establish a new connection: Temporary failure in name resolution",
            0,
            "tests: 5 passed, 0 failed, 1 skipped",
        ),
        (
            "true",
            "Failed to establish a new connection: Temporary failure in name resolution",
            1,
            "tests: 5 passed, 1 failed, 0 skipped",
        ),
        ("", "ERROR: ResolutionImpossible", 1, "tests: 5 passed, 1 failed, 0 skipped"),
    ],
)
def test_vllm_that_cannot_be_installed(machine: Machine, ci: str, says: str, code: int, last: str) -> None:
    """Offline, on a person's machine, the tier is skipped; anywhere else it is a failure."""
    machine.env["STUB_SUITE"] = 'errors="0" failures="0" skipped="0" tests="5"'
    assert machine.install("test", "--tier", "default").returncode == 0
    # The serve tier alone would have run nothing, so look at the sum of default and serve.
    shutil.rmtree(machine.checkout / ".venv-serve", ignore_errors=True)
    machine.program("python3", STUB_PYTHON)
    done = machine.install(
        "test",
        "--",
        "-q",
        CI=ci,
        STUB_PIP_FAILS="serve-cpu",
        STUB_PIP_SAYS=says,
        STUB_SUITE='errors="0" failures="0" skipped="0" tests="5"',
    )
    expected = last.replace("5 passed", "10 passed")
    assert done.stdout.splitlines()[-1] == expected
    assert done.returncode == code


def test_check_runs_every_check_even_after_a_failure(machine: Machine) -> None:
    suite = 'errors="0" failures="0" skipped="0" tests="1"'
    assert machine.install("test", STUB_SUITE=suite).returncode == 0
    for name, code in (("ruff", 1), ("mypy", 0), ("lint-imports", 0)):
        script = machine.checkout / ".venv/bin" / name
        script.write_text(f'#!/usr/bin/env bash\necho "{name} $*"\nexit {code}\n', encoding="utf-8")
        script.chmod(0o755)
    done = machine.install("check", "--tier", "default", STUB_SUITE=suite)
    assert done.returncode == 1
    assert "ruff check .\n" in done.stdout
    assert "tests: 1 passed, 0 failed, 0 skipped" in done.stdout
    assert done.stderr.splitlines()[-1] == "error: did not pass: ruff"


# ------------------------------------------------------------------------------------------------- the scripts as such


def test_the_scripts_are_executable_and_parse(repository: Path) -> None:
    for name in ("install.sh", ".ci/run", "ci/system-packages"):
        path = repository / name
        assert path.stat().st_mode & 0o111, name
        done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
