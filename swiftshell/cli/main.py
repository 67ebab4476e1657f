"""Find the verb, parse its arguments, run it, print its result, return the exit code.

`--help` must stay within 0.1 s of CPU, so this module imports argparse and the message catalogue, and nothing
else until a verb was chosen.
"""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from swiftshell import __version__
from swiftshell.i18n import LANGUAGES, has, language, set_language, t
from swiftshell.settings import use_saved_language

if TYPE_CHECKING:
    from swiftshell.errors import Problem
    from swiftshell.result import Result

VERBS = {
    verb: f"swiftshell.cli.{verb}"
    for verb in ("run", "resume", "stop", "jobs", "queue", "gpus", "logs", "attach", "runs", "report", "chat", "infer",
                 "serve", "data", "recipes", "doctor", "explain", "admin")
}


def entry() -> None:
    """Run as the `swiftshell` command."""
    sys.exit(main(sys.argv[1:]))


def main(argv: list[str]) -> int:
    """Run one command line and return its exit code."""
    _make_output_safe()
    use_saved_language()
    argv = _language(argv)
    if not argv:
        return _menu([])
    if argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"swiftshell {__version__}")
        return 0
    if argv[0] == "menu" or argv[0] in ("--workspace", "-w"):
        return _menu(argv[1:] if argv[0] == "menu" else argv)
    if argv[0] not in VERBS:
        return _unknown(argv[0])
    return _verb(argv[0], argv[1:])


def overview() -> str:
    """Return the help of the command as a whole."""
    width = max(map(len, VERBS)) + 2
    lines = [t("cli.usage"), "", t("cli.tagline"), ""]
    lines += [f"  {verb:<{width}}{t('cli.' + verb)}" for verb in VERBS]
    lines += ["", t("cli.options"), "", t("cli.examples")]
    return "\n".join(lines)


def parser_for(verb: str) -> _Parser:
    """Return a verb's parser with the options every verb takes."""
    _speak(argparse)
    parser = _Parser(prog=f"swiftshell {verb}", description=t("cli." + verb), allow_abbrev=False,
                     formatter_class=argparse.RawDescriptionHelpFormatter, add_help=False)
    import_module(VERBS[verb]).add_arguments(parser)
    add_common(parser)
    return parser


def add_common(parser: argparse.ArgumentParser, *, again: bool = False) -> None:
    """Declare the options every verb takes; `again`: the verb's parser has them already, and what it found stays."""
    kept: dict[str, Any] = {"default": argparse.SUPPRESS} if again else {}
    common = parser.add_argument_group(t("cli.common"))
    common.add_argument("-w", "--workspace", metavar="DIR", help=t("cli.opt_workspace"), **kept)
    common.add_argument("--json", action="store_true", help=t("cli.opt_json"), **kept)
    common.add_argument("--plain", action="store_true", help=t("cli.opt_plain"), **kept)
    common.add_argument("--no-input", action="store_true", help=t("cli.opt_no_input"), **kept)
    common.add_argument("--lang", choices=(*LANGUAGES, "auto"), help=t("cli.opt_lang"), **kept)
    common.add_argument("-h", "--help", action="help", help=t("cli.opt_help"))


class _Parser(argparse.ArgumentParser):
    """Say usage errors like every other error: what was found and one thing to do, exit 2."""

    as_json = False

    def error(self, message: str) -> Any:
        if self.as_json:
            from swiftshell.errors import EXIT_USAGE, Problem
            from swiftshell.result import Result

            problem = Problem("cli.usage_error", {"message": message})
            _finish(self.prog.split(" ")[1], Result(None, problems=[problem], exit_code=EXIT_USAGE), as_json=True)
            raise SystemExit(EXIT_USAGE)
        print(f"{t('core.error')}[cli.usage_error]: {message}\n{t('core.hint')}: {self.prog} --help", file=sys.stderr)
        raise SystemExit(2)


def _speak(module: Any) -> None:
    """Let argparse's own sentences ("unrecognized arguments", "usage: ") be in the language in force.

    argparse sends them through gettext's `_`, which looks for compiled catalogues of a domain nobody installs; our
    catalogue has the same sentences under `argparse.<English text>`.
    """
    if language() != "en":
        module._ = lambda text: t(f"argparse.{text}") if has(f"argparse.{text}") else text


def _verb(verb: str, argv: list[str]) -> int:
    _Parser.as_json = "--json" in argv
    parser = parser_for(verb)
    args = parser.parse_args(argv)
    try:
        code = _run(verb, args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader left (`| head`): nothing is wrong, and nothing more can be said
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(verb: str, args: argparse.Namespace) -> int:
    if args.plain:
        os.environ["SWIFTSHELL_PLAIN"] = "1"
    from swiftshell.errors import EXIT_FAILURE, EXIT_INTERRUPTED, EXIT_USAGE, SwiftshellError
    from swiftshell.result import Result

    try:
        result: Result[Any] = import_module(VERBS[verb]).run(args)
    except SwiftshellError as error:
        result = Result(None, problems=list(error.problems), exit_code=error.exit_code)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:  # noqa: BLE001  (the last line before the person's eyes)
        problem = _unexpected(error)
        code = EXIT_USAGE if problem.code == "core.file_unusable" else EXIT_FAILURE
        result = Result(None, problems=[problem], exit_code=code)
    return _finish(verb, result, as_json=args.json)


def _unexpected(error: Exception) -> Problem:
    """Return what escaped a verb as a problem: a file that cannot be used is the person's to mend, the rest is ours.

    A traceback is for whoever mends the program: it goes to a file that the message names.
    """
    from swiftshell.errors import Problem

    if isinstance(error, OSError) and error.filename is not None:
        return Problem("core.file_unusable", {"path": os.fspath(error.filename), "why": error.strerror or str(error)})
    import tempfile
    import traceback

    with tempfile.NamedTemporaryFile("w", prefix="swiftshell-", suffix=".log", delete=False, encoding="utf-8") as log:
        traceback.print_exception(error, file=log)
    return Problem("core.unexpected", {"kind": type(error).__name__, "message": str(error), "log": log.name})


def _finish(verb: str, result: Result[Any], *, as_json: bool) -> int:
    """Print what the verb left to print: one JSON object, or the problems on stderr."""
    if as_json:
        import json

        print(json.dumps(result.as_json(verb), ensure_ascii=False, indent=1, default=str))
    elif result.problems or result.notes:
        from swiftshell.render.problems import print_problems

        print_problems([*result.notes, *result.problems])
    return result.exit_code


def _unknown(verb: str) -> int:
    from difflib import get_close_matches

    from swiftshell.stages.registry import PIPELINE

    near = [f"run {verb}"] if verb in PIPELINE else get_close_matches(verb, VERBS, n=1)
    hint = t("cli.unknown_verb.hint_near", nearest=near[0]) if near else t("cli.unknown_verb.hint")
    if verb.startswith("-"):
        hint = t("cli.unknown_verb.hint_option", option=verb)
    print(f"{t('core.error')}[cli.unknown_verb]: {t('cli.unknown_verb', verb=verb)}\n{t('core.hint')}: {hint}",
          file=sys.stderr)
    return 2


def _menu(argv: list[str]) -> int:
    code: int = import_module("swiftshell.menu.app").main(argv)
    return code


def _language(argv: list[str]) -> list[str]:
    """Apply `--lang` wherever it stands, so that help and errors speak it too; drop it before the verb."""
    for i, arg in enumerate(argv):
        value = arg.partition("=")[2] if arg.startswith("--lang=") else argv[i + 1] if arg == "--lang" and i + 1 < len(
            argv) else None
        if value in (*LANGUAGES, "auto"):
            set_language(value)
            before_verb = not any(a in VERBS for a in argv[:i])
            return argv[:i] + argv[i + (1 if "=" in arg else 2):] if before_verb else argv
    return argv


def _make_output_safe() -> None:
    """Never die on a character the terminal's encoding lacks: print a replacement instead."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")


if __name__ == "__main__":
    entry()
