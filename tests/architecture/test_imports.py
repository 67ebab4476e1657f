"""What may import what, proven in fresh interpreters and by reading every file."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ENGINE_LIBRARIES = {
    "accelerate",
    "bitsandbytes",
    "datasets",
    "lm_eval",
    "peft",
    "safetensors",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "vllm",
}


def imported_names(path: Path) -> set[str]:
    """Every module that a file imports anywhere, inside functions too, except for type checkers only."""
    names: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
            return
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8"), filename=str(path)))
    return names


def test_layers_and_forbidden_imports(repository: Path) -> None:
    """The contracts of pyproject.toml hold."""
    command = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run(
        [command, "--no-cache"], cwd=repository, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_no_file_outside_engines_imports_an_engine_library(repository: Path) -> None:
    """Not even inside a function: the shell's process never holds an engine."""
    package = repository / "swiftshell"
    makers = {package / "starter" / name for name in ("build.py", "pretrain.py", "tokenizer.py")}
    allowed = makers | set((package / "engines").rglob("*.py"))
    files = set(package.rglob("*.py"))
    assert len(files) > 40
    found = {
        f"{path.relative_to(repository)}: {name}"
        for path in files - allowed
        for name in imported_names(path)
        if name.split(".")[0] in ENGINE_LIBRARIES
    }
    assert found == set()


def test_the_scripts_that_made_the_starter_are_used_by_themselves_only(repository: Path) -> None:
    """They hold a training loop; the product ships what they made."""
    package = repository / "swiftshell"
    makers = {f"swiftshell.starter.{name}" for name in ("build", "pretrain", "tokenizer")}
    users = {
        str(path.relative_to(package)) for path in package.rglob("*.py") if imported_names(path) & makers
    }
    assert users <= {"starter/build.py", "starter/pretrain.py", "starter/tokenizer.py"}


def test_no_file_imports_an_engine_by_an_import_statement(repository: Path) -> None:
    """Engines are named by strings in the stages and loaded by the worker."""
    package = repository / "swiftshell"
    found = {
        f"{path.relative_to(repository)}: {name}"
        for path in set(package.rglob("*.py")) - set((package / "engines").rglob("*.py"))
        for name in imported_names(path)
        if name.startswith("swiftshell.engines")
    }
    assert found == set()


def test_the_runner_starts_without_any_installed_package(repository: Path) -> None:
    """-I -S: no site-packages, no user folder. Whatever is imported at the start is the standard library's or ours."""
    code = f"import sys; sys.path.insert(0, {str(repository)!r}); import swiftshell.runner; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    tops = {name.split(".")[0] for name in done.stdout.split()}
    strangers = {
        top for top in tops if top not in sys.stdlib_module_names and top not in {"swiftshell", "__main__"}
    }
    assert strangers == set()


def test_the_runner_names_only_the_standard_library(repository: Path) -> None:
    """Inside its functions too, and so do the modules of ours that it uses."""
    package = repository / "swiftshell"
    runner = package / "runner"
    todo, seen = sorted(runner.rglob("*.py")) or [package / "runner.py"], set()
    while todo:
        path = todo.pop()
        seen.add(path)
        for name in imported_names(path):
            if name.split(".")[0] != "swiftshell":
                assert name.split(".")[0] in sys.stdlib_module_names, (
                    f"{path.relative_to(repository)} imports {name}"
                )
                continue
            module = repository / Path(*name.split("."))
            for candidate in (module.with_suffix(".py"), module / "__init__.py"):
                if candidate.exists() and candidate not in seen:
                    todo.append(candidate)
    # swiftshell/__init__.py resolves SwiftApp and its like on use; the runner uses none of them.
    assert package / "api" / "app.py" not in seen
    assert runner / "__main__.py" in seen


# ------------------------------------------------------------------------------- what each command brings in

PROBE = """
import json, os, sys
from swiftshell.cli.main import entry
sys.argv = ["swiftshell", *json.loads(sys.argv[1])]
code = 0
try:
    code = entry()
except SystemExit as end:
    code = end.code
sys.stdout.flush()
os.write(2, b"\\nMODULES " + " ".join(sorted(sys.modules)).encode() + b"\\n")
os._exit(code if isinstance(code, int) else 0 if code is None else 1)
"""


def modules_after(arguments: list[str], cwd: Path) -> tuple[int, set[str], str]:
    """Run one command line in a fresh interpreter; return its exit code, its modules and all it printed."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    line = next((text for text in done.stderr.splitlines() if text.startswith("MODULES ")), None)
    assert line is not None, done.stdout + done.stderr
    return done.returncode, set(line.split()[1:]), done.stdout + done.stderr


def verbs() -> list[str]:
    """The command table itself, so that a new verb is covered the day it comes."""
    from swiftshell.cli.main import VERBS

    return sorted(VERBS)


def heavy(modules: set[str]) -> set[str]:
    tops = {name.split(".")[0] for name in modules}
    return (tops & ENGINE_LIBRARIES) | {name for name in modules if name.startswith("swiftshell.engines")}


@pytest.mark.parametrize("verb", ["", *verbs()])
def test_help_is_light(verb: str, tmp_path: Path) -> None:
    """Help needs no engine, no hub client, no menu library."""
    code, modules, said = modules_after([verb, "--help"] if verb else ["--help"], tmp_path)
    assert code == 0, said
    assert "usage" in said.lower() or "用法" in said
    assert heavy(modules) == set()
    tops = {name.split(".")[0] for name in modules}
    assert tops & {"huggingface_hub", "questionary", "prompt_toolkit", "numpy", "pandas"} == set()


@pytest.mark.parametrize("verb", verbs())
def test_no_command_imports_an_engine(verb: str, tmp_path: Path) -> None:
    """Each verb, really run in an empty workspace, without a terminal."""
    _code, modules, said = modules_after([verb], tmp_path)
    assert heavy(modules) == set()
    assert "Traceback" not in said, said


@pytest.mark.parametrize(
    "arguments", [["run", "kto", "--dry-run"], ["run", "sft", "--dry-run", "--yes", "--json"]]
)
def test_planning_imports_no_engine(arguments: list[str], tmp_path: Path) -> None:
    """Linking, resolving, checking and estimating are done from files and sizes alone."""
    _code, modules, said = modules_after(arguments, tmp_path)
    assert heavy(modules) == set()
    assert "Traceback" not in said, said


def test_importing_the_package_and_the_python_front_is_light() -> None:
    """`from swiftshell import SwiftApp` in a notebook, before anything runs."""
    code = "import sys; from swiftshell import SwiftApp; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert heavy(set(done.stdout.split())) == set()
