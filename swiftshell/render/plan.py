"""Show what a plan will do before it does it: inputs and why, settings that differ, time and disk."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import IO, Any

from swiftshell.i18n import has, t
from swiftshell.render import words
from swiftshell.render.console import has_unicode, new_table, open_console
from swiftshell.render.data import thumbs_words

Json = Mapping[str, Any]


def print_plan(plan: Json, *, brief: bool = False, stream: IO[str] | None = None) -> None:
    """Print a plan in the form `plan.json` has; `brief` keeps one line a step."""
    console = open_console(stream)
    console.print(t("render.plan.title", name=plan.get("name", ""), run=plan.get("run", "")), style="bold")
    console.print(_steps(plan["steps"], stream) if brief else _full(plan["steps"], console.width, stream))
    console.print(_totals(plan), style="dim")
    if not brief and plan.get("command"):
        console.print(t("render.plan.command", command=plan["command"]), style="dim")


def _steps(steps: list[Json], stream: IO[str] | None) -> Any:
    """Return one line a step: number, step, stage, inputs, time."""
    table = new_table("", t("render.step"), t("render.stage"), t("render.inputs"), t("render.time"))
    table.show_header = False
    table.box = None
    table.padding = (0, 1)
    for step in steps:
        names = ", ".join(dict.fromkeys(item["name"] for refs in step["inputs"].values() for item in refs))
        table.add_row(_number(step, stream), step["id"], _stage(step), names, _estimate(step))
    return table


def _full(steps: list[Json], width: int, stream: IO[str] | None) -> Any:
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    blocks: list[Any] = []
    for step in steps:
        head = Text.assemble(
            f"{_number(step, stream):>2}  ",
            (step["id"], "bold"),
            "  ",
            _stage(step),
            "  ",
            (_estimate(step), "dim"),
        )
        detail = Table.grid(padding=(0, 2, 0, 0))
        detail.add_column(style="cyan", no_wrap=True)
        detail.add_column(overflow="fold")
        for slot, refs in step["inputs"].items():
            detail.add_row(slot, _inputs(refs, step, slot))
        if step.get("thumbs"):
            detail.add_row(t("render.data.thumbs"), thumbs_words(step["thumbs"]))
        for source, settings in _settings(step).items():
            detail.add_row(source, settings)
        if step.get("output_dir"):
            detail.add_row(t("render.output_dir"), step["output_dir"])
        blocks += [head, Padding(detail, (0, 0, 0, 4 if width >= 60 else 2))]
    return Group(*blocks)


def _number(step: Json, stream: IO[str] | None) -> str:
    if step.get("restored_from"):
        return words.mark("restored", unicode=has_unicode(stream or sys.stdout))
    return str(step.get("number", ""))


def _stage(step: Json) -> str:
    if step.get("restored_from"):
        return f"{step['stage']} ({words.state_word('restored')})"
    return str(step["stage"])


def _inputs(refs: list[Json], step: Json, slot: str) -> Any:
    """Return what fills a slot and why; several fillings stand in one line, each reason said once."""
    from rich.text import Text

    whys = [item.get("why") or {} for item in refs]
    reasons = dict.fromkeys(t(why["code"], **why.get("values", {})) for why in whys if why.get("code"))
    if len(refs) > 1 and all(why.get("code") == "plan.why_step" for why in whys):
        reasons = {}  # their names say it
    count = (step.get("rows") or {}).get(slot)
    rows = f" ({t('render.rows', rows=words.number(count))})" if count else ""
    names = ", ".join(item["name"] for item in refs)
    return Text.assemble((names, "bold"), rows, ("".join(f"  {reason}" for reason in reasons), "dim"))


def _settings(step: Json) -> dict[str, str]:
    """Return the settings that somebody changed, by where they did; what equals the default is for `explain`."""
    defaults = _defaults(str(step["stage"]))
    found: dict[str, list[str]] = {}
    for name, source in (step.get("param_sources") or {}).items():
        value = _find(step.get("params") or {}, name)
        if name.partition(".")[0] not in defaults or value != _find(defaults, name):
            kind = source.partition(":")[0]
            word = t(f"render.source.{kind}") if has(f"render.source.{kind}") else source
            found.setdefault(word, []).append(f"{name} {_value(value)}")
    return {word: ", ".join(sorted(settings)) for word, settings in found.items()}


def _defaults(stage: str) -> Json:
    from swiftshell.stages import registry

    if stage not in registry.names():  # a plan of another version, or of a plugin that is gone
        return {}
    defaults: Json = registry.get(stage).params.model_construct().model_dump(mode="json", warnings=False)
    return defaults


def _find(params: Json, name: str) -> Any:
    found: Any = params
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_value(entry)}" for key, entry in value.items() if entry is not None)
    if isinstance(value, list):
        return " ".join(map(_value, value))
    return str(value).lower() if isinstance(value, bool) else words.number(value)


def _estimate(step: Json) -> str:
    if step.get("restored_from"):
        return ""
    seconds = step.get("estimate_s")
    needs = step.get("needs") or {}
    parts = [f"~{words.duration(seconds)}" if seconds is not None else "", words.gib(needs.get("disk_gib"))]
    return ", ".join(part for part in parts if part)


def _totals(plan: Json) -> str:
    """Return time and disk of all steps; a sum with an unknown part says so."""
    todo = [step for step in plan["steps"] if not step.get("restored_from")]
    times = [step.get("estimate_s") for step in todo]
    disks = [(step.get("needs") or {}).get("disk_gib") for step in todo]
    known_s = sum(s for s in times if s is not None)
    if not todo:
        time = words.duration(0.0)
    elif None not in times:
        time = f"~{words.duration(known_s)}"
    else:
        time = t("render.at_least", value=words.duration(known_s)) if known_s else t("render.unknown")
    known_gib = sum(d for d in disks if d is not None)
    if None not in disks:
        disk = words.gib(known_gib)
    else:
        disk = t("render.at_least", value=words.gib(known_gib)) if known_gib else t("render.unknown")
    network = t("render.yes") if any(step.get("network") for step in todo) else t("render.no")
    return t("render.plan.totals", steps=len(plan["steps"]), time=time, disk=disk, network=network)
