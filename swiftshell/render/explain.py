"""Print an explanation: the pipeline, a stage, a setting, or why a run did what it did."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO, Any

from swiftshell.errors import Problem
from swiftshell.i18n import t
from swiftshell.render import words
from swiftshell.render.console import has_unicode, new_table, open_console

Json = Mapping[str, Any]

_TABLE_COLUMNS = 110  # settings need room for their sentences; below this they are a list


def print_explanation(facts: Json, stream: IO[str] | None = None) -> None:
    """Print facts from `api.explain.explain`."""
    stream = sys.stdout if stream is None else stream
    printers = {"pipeline": _pipeline, "stage": _stage, "setting": _setting, "run": _run, "choosing": _choosing,
                "choice": _choice}
    printers[facts["kind"]](facts, stream)


def _pipeline(facts: Json, stream: IO[str]) -> None:
    table = new_table(t("render.stage"), t("render.summary"), unicode=has_unicode(stream))
    for stage in facts["stages"]:
        table.add_row(stage["name"], stage["summary"])
    console = open_console(stream)
    console.print(table)
    console.print(t("render.explain_more"), style="dim")


def _stage(facts: Json, stream: IO[str]) -> None:
    from rich.text import Text

    console = open_console(stream)
    console.print(Text.assemble((facts["name"], "bold"), "  ", facts["summary"]))
    if facts.get("more"):
        console.print(facts["more"])
    _sections(facts, console)
    console.print()
    for title, slots in ((t("render.inputs"), facts["inputs"]), (t("render.outputs"), facts["outputs"])):
        console.print(Text.assemble((title, "bold"), "  ", ", ".join(_slot(slot) for slot in slots) or "-"))
    if console.width < _TABLE_COLUMNS:
        console.print()
        for setting in facts["params"]:
            head = (setting["name"], "bold"), f" = {_default(setting['default'])}  ", (setting["type"], "dim")
            console.print(Text.assemble(*head))
            console.print(Text(f"  {setting['text']}"))
        return
    table = new_table(
        t("render.setting"), t("render.default"), t("render.type"), "", unicode=has_unicode(stream)
    )
    for setting in facts["params"]:
        name = Text(setting["name"], style="bold", overflow="fold")
        table.add_row(name, _default(setting["default"]), Text(setting["type"], style="dim"), setting["text"])
    console.print(table)


def _slot(slot: Json) -> str:
    kinds = " | ".join(slot["kinds"])
    needed = "" if slot.get("required", True) else ", " + t("render.optional")
    return f"{slot['name']} ({kinds}{needed})"


def _setting(facts: Json, stream: IO[str]) -> None:
    from rich.text import Text

    console = open_console(stream)
    inner = facts.get("settings", ())
    value = "" if inner else f" = {_default(facts['default'])}"
    console.print(Text.assemble((f"{facts['stage']}.{facts['name']}", "bold"), value))
    if not inner:
        console.print(Text(facts["type"], style="dim"))
    console.print(facts["text"])
    for setting in inner:
        console.print()
        head = (f"{facts['stage']}.{setting['name']}", "bold"), f" = {_default(setting['default'])}  "
        console.print(Text.assemble(*head, (setting["type"], "dim")))
        console.print(Text(f"  {setting['text']}"))


def _sections(facts: Json, console: Any) -> None:
    """Print what there is to know of a stage, then what is claimed of it beside what was found."""
    from rich.text import Text

    for section in facts.get("sections", ()):
        console.print()
        console.print(Text(section["title"], style="bold"))
        console.print(Text(section["text"]))
    if facts.get("claims"):
        console.print()
        console.print(Text(t("stage.section.claims"), style="bold"))
        for entry in facts["claims"]:
            console.print(Text.assemble("· ", (entry["claim"], "italic")))
            console.print(Text(f"  {entry['found']}"))


def _choosing(facts: Json, stream: IO[str]) -> None:
    from rich.text import Text

    console = open_console(stream)
    for stage in facts["stages"]:
        console.print(Text.assemble((stage["name"], "bold"), "  ", stage["when"]))
    console.print()
    console.print(Text(facts["evidence"]))
    console.print(Text(t("choose.how"), style="dim"))


def _choice(facts: Json, stream: IO[str]) -> None:
    from rich.text import Text

    console = open_console(stream)
    stages = " → ".join(facts["choice"]) or t("choose.nothing_yet")
    console.print(Text.assemble(t("choose.headline", path=words.shortest(facts["path"])), "  ", (stages, "bold")))
    for reason in facts["reasons"]:
        console.print(Text(f"· {reason['text']}"))
    if facts["settings"]:
        console.print()
        console.print(Text(t("choose.settings_title"), style="bold"))
        for setting in facts["settings"]:
            name = f"{setting['stage']}.{setting['name']}"
            console.print(Text.assemble((name, "bold"), f" = {_default(setting['value'])}"))
            console.print(Text(f"  {setting['text']}"))
    if facts["commands"]:
        console.print()
        console.print(Text(t("choose.commands_title"), style="bold"))
        for command in facts["commands"]:
            console.print(Text(command, style="cyan"), soft_wrap=True)
    if facts["instead"]:
        console.print()
        for other in facts["instead"]:
            console.print(Text(other["text"], style="dim"))


def _default(value: Any) -> str:
    if value is None:
        return t("render.none")
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_default(entry)}" for key, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_default, value)) or t("render.none")
    return f"{value:g}" if isinstance(value, float) else str(value)


def _run(facts: Json, stream: IO[str]) -> None:
    """Print plan (inputs and why), outcome, and what the steps noted."""
    from swiftshell.render.plan import print_plan
    from swiftshell.render.problems import print_problems
    from swiftshell.render.table import print_final_table

    if facts.get("plan", {}).get("steps"):
        print_plan(facts["plan"], stream=stream)
    print_final_table(facts, stream)
    noted = [Problem.from_json(note) for note in facts.get("notes") or []]
    failed = [Problem.from_json(p) for step in facts["steps"] for p in step.get("problems") or []]
    if noted or failed:
        print_problems([*noted, *failed], stream)
    if facts.get("path"):
        open_console(stream).print(t("render.run_folder", path=words.shortest(facts["path"])), style="dim")
