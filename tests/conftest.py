"""What every test starts from: a plain environment, and a skip that names what this machine lacks."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Variables that change what the product prints, asks or reads. A test that wants one sets it.
_PERSONAL = (
    "CI",
    "COLUMNS",
    "FORCE_COLOR",
    "HF_ENDPOINT",
    "HF_HUB_OFFLINE",
    "HF_TOKEN",
    "LANGUAGE",
    "LC_ALL",
    "LC_MESSAGES",
    "LINES",
    "NO_COLOR",
    "PYTHONPATH",
)
# What a person tells the tests themselves: where real models lie, and how often to repeat each crash.
_OF_THE_TESTS = ("SWIFTSHELL_SHARED_TESTDATA", "SWIFTSHELL_SOAK", "SWIFTSHELL_SERVE_PYTHON")


def pytest_configure(config: pytest.Config) -> None:
    """Make this process's environment, which all child processes inherit, the same on every machine."""
    for name in list(os.environ):
        if name in _PERSONAL or (name.startswith("SWIFTSHELL_") and name not in _OF_THE_TESTS):
            del os.environ[name]
    # Started with `&` or under nohup, a test run ignores these, and every process it starts would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ["LANG"] = "C.UTF-8"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # Loopback servers are asked directly, whatever proxy this machine uses.
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost,::1"
    own = Path(tempfile.mkdtemp(prefix="swiftshell-tests-"))
    config.add_cleanup(lambda: shutil.rmtree(own, ignore_errors=True))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        os.environ[name] = str(own / name.lower())


def _nvidia_gpu() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, naming what is missing."""
    lacks: dict[str, str] = {}
    if not _nvidia_gpu():
        lacks["gpu"] = "no NVIDIA GPU on this machine"
    if (
        "SWIFTSHELL_SERVE_PYTHON" not in os.environ
        and not (ROOT / ".venv-serve" / "swiftshell-stamp").exists()
    ):
        lacks["serve"] = "no vLLM environment: run ./install.sh setup-serve"
    for item in items:
        for marker, reason in lacks.items():
            if item.get_closest_marker(marker) is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def repository() -> Path:
    """The checkout under test."""
    return ROOT


@pytest.fixture(scope="session")
def shared_testdata() -> Path:
    """Real models and texts that are not part of the repository; the test skips where there are none."""
    named = os.environ.get("SWIFTSHELL_SHARED_TESTDATA")
    places = [Path(named)] if named else [ROOT.parent / "shared", ROOT / "shared"]
    for place in places:
        if (place / "real").is_dir():
            return place
    pytest.skip(
        f"no folder real/ in {' or '.join(map(str, places))} (SWIFTSHELL_SHARED_TESTDATA names another place)"
    )


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, which is the current one while the test runs."""
    folder = tmp_path / "workspace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
