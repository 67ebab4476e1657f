"""A checkout with nothing in it but what install.sh reads, and a machine whose Python and pip only take notes."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TOOLS = [
    "awk",
    "bash",
    "cat",
    "chmod",
    "cp",
    "cut",
    "date",
    "df",
    "dirname",
    "env",
    "flock",
    "grep",
    "head",
    "ls",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "sort",
    "tail",
    "touch",
    "tr",
    "true",
    "uname",
    "wc",
]

STUB_PYTHON = r"""#!/usr/bin/env bash
printf '%s\n' "$*" >>"$STUB_NOTES"
case "$1 $2" in
    *'sys.version_info[:3]'*) echo "${STUB_VERSION:-3.11.7}" ;;
    *'sys.version.split'*) echo "${STUB_VERSION:-3.11.7}" ;;
    *'import ensurepip'*) exit "${STUB_NO_VENV:-0}" ;;
    -c*) exit 0 ;;
    '-m venv')
        mkdir -p "$3/bin"
        cp "$STUB_SELF" "$3/bin/python"
        echo 'home = stub' >"$3/pyvenv.cfg" ;;
    '-m pip')
        if [[ $3 == list ]]; then cat "${STUB_LIST:-/dev/null}"; exit 0; fi
        if [[ -n ${STUB_PIP_HANGS:-} && "$*" =~ $STUB_PIP_HANGS ]]; then
            echo "Installing collected packages: one, two"
            touch "$STUB_NOTES.hangs"
            exec sleep 30
        fi
        if [[ -n ${STUB_PIP_FAILS:-} && "$*" =~ $STUB_PIP_FAILS && ! "$*" =~ ${STUB_PIP_UNLESS:-^$} ]]; then
            echo "${STUB_PIP_SAYS:-ERROR: No matching distribution found}"
            exit 1
        fi
        if [[ "$*" == *' -e '* ]]; then
            printf '%s\n' '#!/usr/bin/env bash' 'echo "swiftshell in $PWD: $*" >>"$STUB_NOTES"' \
                'exit "${STUB_SHELL_CODE:-0}"' >"$(dirname "$0")/swiftshell"
            chmod +x "$(dirname "$0")/swiftshell"
        fi
        printf 'Installing collected packages: one, two\nSuccessfully installed one two\n' ;;
    '-m pytest')
        for argument in "$@"; do
            case $argument in --junitxml=*) report=${argument#--junitxml=} ;; esac
        done
        if [[ -n ${STUB_SUITE:-} ]]; then
            echo "<testsuites><testsuite name=\"pytest\" $STUB_SUITE><testcase/></testsuite></testsuites>" >"$report"
        fi
        exit "${STUB_PYTEST_CODE:-0}" ;;
esac
"""


@dataclass
class Machine:
    """One imaginary machine: a checkout, the programs on PATH and the environment."""

    checkout: Path
    bin: Path
    notes: Path
    elsewhere: Path
    env: dict[str, str] = field(default_factory=dict)

    def program(self, name: str, script: str) -> Path:
        """Put a program on PATH."""
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(script, encoding="utf-8")
        path.chmod(0o755)
        return path

    def install(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run install.sh from another folder, with standard input closed."""
        base = {
            "PATH": str(self.bin),
            "HOME": str(self.elsewhere),
            "LANG": "C.UTF-8",
            "STUB_NOTES": str(self.notes),
        }
        return subprocess.run(
            ["bash", "-c", 'exec "$0" "$@" <&-', str(self.checkout / "install.sh"), *arguments],
            cwd=self.elsewhere,
            env={**base, "STUB_SELF": str(self.bin / "python3"), **self.env, **env},
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Start install.sh as the leader of a process group, as a terminal does."""
        base = {
            "PATH": str(self.bin),
            "HOME": str(self.elsewhere),
            "LANG": "C.UTF-8",
            "STUB_NOTES": str(self.notes),
        }
        return subprocess.Popen(
            [str(self.checkout / "install.sh"), *arguments],
            cwd=self.elsewhere,
            env={**base, "STUB_SELF": str(self.bin / "python3"), **self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def calls(self, containing: str = "") -> list[str]:
        """What Python was asked to do since the last call of forget()."""
        if not self.notes.exists():
            return []
        return [line for line in self.notes.read_text(encoding="utf-8").splitlines() if containing in line]

    def forget(self) -> None:
        """Start the notes anew."""
        self.notes.unlink(missing_ok=True)


@pytest.fixture
def machine(tmp_path: Path, repository: Path) -> Machine:
    """A Linux x86_64 machine without an NVIDIA GPU, with Python 3.11, in a folder whose name has spaces."""
    checkout = tmp_path / "a folder with spaces"
    checkout.mkdir()
    for name in ("install.sh", "pyproject.toml", "setup.py"):
        shutil.copy(repository / name, checkout / name)
    shutil.copytree(repository / "constraints", checkout / "constraints")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"this machine has no {tool}")
        (binaries / tool).symlink_to(found)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    made = Machine(checkout, binaries, tmp_path / "notes", elsewhere)
    made.program("python3", STUB_PYTHON)
    made.program(
        "uname",
        '#!/usr/bin/env bash\ncase $1 in -m) echo "${STUB_ARCH:-x86_64}" ;; *) echo "${STUB_OS:-Linux}" ;; esac\n',
    )
    made.env["SWIFTSHELL_ACCELERATOR"] = "cpu"
    assert os.access(checkout / "install.sh", os.X_OK)
    return made
