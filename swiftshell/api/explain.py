"""Explain a stage, a setting or a run, from the same declarations that check recipes and build forms."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any

from swiftshell.errors import SwiftshellError, fail
from swiftshell.i18n import t
from swiftshell.stages import registry

# What there is to say of a training stage beyond its summary, in this order: catalogue keys `stage.<name>.<section>`.
SECTIONS = {
    "sft": ("loss", "rows", "length", "packing", "choose"),
    "kto": ("loss", "terms", "reference", "thumbs", "watch", "speed", "choose", "defaults"),
    "dpo": ("loss", "terms", "reference", "rows", "choose"),
}
# What is said of KTO, and what became of it when it was checked: `choose.claim.<name>` and `….found`.
CLAIMS = ("beats_dpo", "beta_high", "beta_low", "kl_metric", "raise_beta", "wrong_positives", "reference", "quantized",
          "filters")


def explain(topic: str | None, workspace: str | None = None) -> dict[str, Any]:
    """Return what there is to say about a topic; without one, about the pipeline.

    Raises:
        SwiftshellError: nothing has this name; the nearest topics are named.
    """
    if not topic:
        return {"kind": "pipeline", "stages": [{"name": s, "summary": t(f"stage.{s}")} for s in registry.PIPELINE]}
    if topic in registry.names():
        return stage_facts(topic)
    stage, _, name = topic.partition(".")
    if topic == "choose":
        from swiftshell.api.choose import choosing

        return choosing()
    if stage in registry.names():
        settings = _all_settings(stage)
        if name in settings:
            return {"kind": "setting", "stage": stage, **settings[name]}
        near = get_close_matches(name, settings, n=1, cutoff=0.3)
        raise fail("cli.explain_unknown", topic=topic, stages=" ".join(registry.PIPELINE),
                   nearest=f"{stage}.{near[0]}" if near else "-")
    return _run(topic, workspace)


def stage_facts(name: str) -> dict[str, Any]:
    """Return a stage's inputs, outputs and settings with defaults, types and reasons."""
    stage = registry.get(name)
    schema = stage.params.model_json_schema()
    params = [_setting(name, key, entry, schema) for key, entry in schema.get("properties", {}).items()]
    slots = [{"name": s.name, "kinds": list(s.kinds), "required": s.required} for s in stage.inputs]
    outputs = [{"name": s.name, "kinds": list(s.kinds)} for s in stage.outputs]
    return {"kind": "stage", "name": name, "summary": t(f"stage.{name}"), "inputs": slots, "outputs": outputs,
            "params": params, "more": t(f"stage.{name}.more"),
            "sections": [{"name": s, "title": t(f"stage.section.{s}"), "text": t(f"stage.{name}.{s}")}
                         for s in SECTIONS.get(name, ())],
            "claims": [{"name": c, "claim": t(f"choose.claim.{c}"), "found": t(f"choose.claim.{c}.found")}
                       for c in (CLAIMS if name == "kto" else ())]}


def _setting(stage: str, name: str, entry: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    from swiftshell.recipe.describe import describe_param

    return {"name": name, "default": entry.get("default"), "type": type_words(entry, schema),
            "text": describe_param(stage, name)}


def _all_settings(stage: str) -> dict[str, dict[str, Any]]:
    """Return every setting by its dotted name; one that holds others (`guard`, `lora`) lists them under `settings`."""
    schema = registry.get(stage).params.model_json_schema()
    found: dict[str, dict[str, Any]] = {}

    def walk(node: dict[str, Any], prefix: str, defaults: Any) -> list[dict[str, Any]]:
        listed = []
        for name, entry in node.get("properties", {}).items():
            given = entry.get("default", (defaults or {}).get(name))
            setting = found[prefix + name] = _setting(stage, prefix + name, {**entry, "default": given}, schema)
            inner = schema.get("$defs", {}).get(str(entry.get("$ref", "")).rsplit("/", 1)[-1])
            if inner is not None:
                setting["settings"] = walk(inner, f"{prefix}{name}.", given)
            listed.append(setting)
        return listed

    walk(schema, "", {})
    return found


def type_words(entry: dict[str, Any], schema: dict[str, Any]) -> str:
    """Return a parameter's type in words short enough for a table: `number > 0`, `nf4 | int8`, `true/false` …."""
    if "enum" in entry:
        return " | ".join(map(str, entry["enum"]))
    if "const" in entry:
        return str(entry["const"])
    if "anyOf" in entry:
        return " | ".join(type_words(e, schema) for e in entry["anyOf"])
    if "$ref" in entry:
        target = schema.get("$defs", {}).get(entry["$ref"].rsplit("/", 1)[-1], {})
        return "{" + ", ".join(target.get("properties", {})) + "}"
    words = {"integer": "integer", "number": "number", "boolean": "true | false", "string": "text", "null": "none",
             "array": "list", "object": "mapping"}.get(entry.get("type", ""), "")
    bounds = [f"{sign} {entry[key]}" for key, sign in (("minimum", "≥"), ("exclusiveMinimum", ">"), ("maximum", "≤"),
                                                       ("exclusiveMaximum", "<")) if key in entry]
    return " ".join([words, *bounds])


def _nearest(topic: str) -> str:
    """Return the topics a person may have meant: a setting without its stage, or the stage that looks most like it."""
    settings: dict[str, list[str]] = {}
    for stage in registry.PIPELINE:
        for name in registry.get(stage).params.model_fields:
            settings.setdefault(name, []).append(f"{stage}.{name}")
    near = get_close_matches(topic, [*registry.names(), *settings], n=1, cutoff=0.6)
    return ", ".join(settings.get(near[0], [near[0]])) if near else ""


def _run(topic: str, workspace: str | None) -> dict[str, Any]:
    from swiftshell.api.runs import find_run, notes_of, run_facts
    from swiftshell.run.files import read_json_or_none
    from swiftshell.run.workspace import open_workspace

    try:
        run = find_run(open_workspace(workspace, create=False), topic)
    except SwiftshellError as error:
        if error.problems[0].code == "cli.run_ambiguous":
            raise
        raise fail("cli.explain_unknown", topic=topic, stages=" ".join(registry.PIPELINE),
                   nearest=_nearest(topic) or "-") from None
    plan = read_json_or_none(run.plan) or {}
    return {"kind": "run", **run_facts(run), "plan": plan, "notes": [n.as_json() for n in notes_of(run)]}
