"""Write swiftshell/stages/fields.json: every field of the pinned TRL's configurations, so that typos are caught early.

Run `python -m swiftshell.engines.dump_fields` after changing the pinned TRL or transformers; `--check` compares only.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import re
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from swiftshell import stages

FILE = Path(stages.__file__).parent / "fields.json"
ENUMS = "SchedulerType|OptimizerNames|IntervalStrategy|SaveStrategy|HubStrategy"  # written as text in a recipe
CONFIGS = {"sft": "SFTConfig", "kto": "KTOConfig", "dpo": "DPOConfig"}


def dump() -> str:
    """Return the file's text as the installed TRL gives it."""
    import trl

    versions = {name: version(name) for name in ("trl", "transformers")}
    lines = [f' "versions": {json.dumps(versions)},', ' "stages": {']
    for stage, config in CONFIGS.items():
        lines.append(f'  "{stage}": {{"config": "{config}", "fields": {{')
        fields = sorted(_fields(getattr(trl, config)).items())
        rows = [f"   {json.dumps(name)}: {json.dumps(facts)}" for name, facts in fields]
        lines.append(",\n".join(rows))
        lines.append("  }}" + ("" if stage == list(CONFIGS)[-1] else ","))
    return "\n".join(["{", *lines, " }", "}"]) + "\n"


def _fields(config: Any) -> dict[str, dict[str, Any]]:
    return {f.name: _facts(f) for f in dataclasses.fields(config) if f.init}


def _facts(field: Any) -> dict[str, Any]:
    facts: dict[str, Any] = {"type": _type(field.type), "default": _default(field)}
    text = str(field.metadata.get("help", ""))
    # "Deprecated …" of the field as a whole, not of one of its values.
    if re.match(r"\W*deprecated", text, re.IGNORECASE) or re.search(r"\bDeprecated in\b|\(Deprecated\)", text):
        facts["deprecated"] = True
    return facts


def _type(declared: Any) -> str:
    """Return a type as `int | None`; classes that a recipe cannot write come down to what it can."""
    text = declared.__name__ if isinstance(declared, type) and not hasattr(declared, "__args__") else str(declared)
    text = re.sub(r"typing\.", "", text)
    text = re.sub(r"Optional\[(.*)\]$", r"\1 | None", text)
    text = re.sub(r"Union\[(.*)\]$", lambda m: " | ".join(re.split(r",\s*(?![^\[]*\])", m[1])), text)
    text = re.sub(r"Literal\[[^\]]*\]", "str", text)
    text = re.sub(rf"(?:[A-Za-z_]+\.)*(?:{ENUMS})", "str", text)
    text = re.sub(r"\b(list|dict|tuple)\[(?:[^\[\]]|\[[^\]]*\])*\]", r"\1", text)
    members = [part.strip().replace("NoneType", "None") for part in text.split("|")]
    return " | ".join(dict.fromkeys(members))


def _default(field: Any) -> Any:
    value = field.default
    if value is dataclasses.MISSING:
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
    value = value.value if isinstance(value, enum.Enum) else value
    return value if isinstance(value, str | int | float | bool | list | dict | type(None)) else str(value)


def main(argv: list[str]) -> int:
    """Write the file, or with `--check` say whether it is what the installed TRL gives."""
    text = dump()
    if "--check" in argv:
        same = FILE.is_file() and FILE.read_text(encoding="utf-8") == text
        print(f"{FILE.name}: {'up to date' if same else 'differs from the installed TRL'}")
        return 0 if same else 1
    FILE.write_text(text, encoding="utf-8")
    print(f"wrote {FILE} ({len(text.encode()) // 1024} KiB)")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
