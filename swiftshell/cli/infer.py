"""`swiftshell infer`: answer one prompt with streaming, or a file of prompts in batches."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from swiftshell.errors import EXIT_OK, fail
from swiftshell.i18n import t
from swiftshell.result import Result

_RANGES: dict[str, tuple[float, float]] = {"max_new_tokens": (1, 1_000_000), "temperature": (0, 10), "top_p": (0.001, 1)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("--prompt", metavar="TEXT", help=t("cli.infer_prompt"))
    parser.add_argument("--system", metavar="TEXT", help=t("cli.system"))
    parser.add_argument("--in", dest="rows", metavar="FILE", help=t("cli.infer_in"))
    parser.add_argument("--out", metavar="FILE", help=t("cli.infer_out"))
    parser.add_argument("--model", metavar="M", help=t("cli.run_model"))
    parser.add_argument("--lineage", metavar="NAME", help=t("cli.run_lineage"))
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help=t("cli.max_new_tokens"))
    parser.add_argument("--temperature", type=float, metavar="T", help=t("cli.temperature"))
    parser.add_argument("--top-p", type=float, metavar="P", help=t("cli.top_p"))
    parser.add_argument("-y", "--yes", action="store_true", help=t("cli.run_yes"))


def run(args: argparse.Namespace) -> Result[Any]:
    """Answer."""
    from swiftshell.run.workspace import open_workspace

    generation(args)
    for name in ("prompt", "rows", "out", "model"):
        if getattr(args, name) == "":
            raise fail("cli.value_empty", flag={"rows": "--in"}.get(name, f"--{name}"))
    workspace = open_workspace(args.workspace, create=False)
    if args.prompt is not None:
        return _one(args, workspace)
    if not args.rows or not args.out:
        raise fail("cli.prompt_missing")
    return _file(args, workspace)


def generation(args: argparse.Namespace) -> dict[str, Any]:
    """Return the generation settings a person gave, under transformers' names.

    Raises:
        SwiftshellError: one of them is out of range.
    """
    given = {name: value for name in _RANGES if (value := getattr(args, name, None)) is not None}
    for name, value in given.items():
        low, high = _RANGES[name]
        if not low <= value <= high:  # NaN is in no range
            raise fail("cli.out_of_range", flag="--" + name.replace("_", "-"), value=value, low=f"{low:g}", high=f"{high:g}")
    return given


def _one(args: argparse.Namespace, workspace: Any) -> Result[Any]:
    """Stream the answer to one prompt."""
    from swiftshell.api.chat import open_chat

    messages = [{"role": "system", "content": args.system}] if args.system else []
    messages.append({"role": "user", "content": args.prompt})
    with open_chat(workspace, args.model, args.lineage) as chat:
        pieces = []
        for piece in chat.ask(messages, **generation(args)):
            pieces.append(piece)
            if not args.json:
                print(piece, end="", flush=True)
        if not args.json:
            print()
        return Result({"model": chat.name, "prompt": args.prompt, "answer": "".join(pieces), **chat.last})


def _file(args: argparse.Namespace, workspace: Any) -> Result[Any]:
    """Run the infer stage on a file and put its answers where they were asked for."""
    from swiftshell.api.plans import plan_stage
    from swiftshell.api.runs import outputs_of, resume, unfinished_like
    from swiftshell.cli.output import follow_until_over, submit_and_follow
    from swiftshell.plan.quick import Options

    target = Path(args.out).expanduser()
    if target.exists():
        raise fail("cli.out_exists", path=str(target))
    if not target.absolute().parent.is_dir():
        raise fail("plan.path_missing", path=str(target.absolute().parent), name="--out")
    options = Options(model=args.model, lineage=args.lineage, data=args.rows, params=generation(args))
    plan = plan_stage(workspace, "infer", options)
    handle = unfinished_like(workspace, plan)
    if handle is None:
        result = submit_and_follow(plan, args)
    else:  # the same command again goes on where it was interrupted
        resume(handle)
        if not args.json:
            print(t("cli.infer_goes_on", run=handle.id))
        result = follow_until_over(handle, args)
    handle = workspace.run(result.data["run"])
    answers = outputs_of(handle, "answers")
    if result.exit_code != EXIT_OK or answers is None:
        return result
    rows = copy_answers(answers / "answers.jsonl", target)
    if not args.json:
        print(t("cli.infer_written", rows=rows, path=target))
    return Result({"run": handle.id, "answers": str(target), "rows": rows}, problems=result.problems)


def copy_answers(source: Path, target: Path) -> int:
    """Copy answers so that the target is whole or absent; return how many there are."""
    import os
    import shutil

    temporary = target.with_name(f".{target.name}.partial")
    try:
        shutil.copyfile(source, temporary)
        os.replace(temporary, target)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise fail("cli.not_written", path=str(target), why=error.strerror or str(error)) from error
    with target.open("rb") as file:
        return sum(1 for _ in file)
