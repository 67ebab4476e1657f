"""Say what a parameter does and why its default is what it is, in the language in force."""

from __future__ import annotations

from swiftshell.i18n import has, t


def param_key(stage: str, name: str) -> str:
    """Return the catalogue key of a parameter's description: the stage's own, else the shared one; may not exist."""
    own = f"params.{stage}.{name}"
    return own if has(own) else f"params.shared.{name}"


def describe_param(stage: str, name: str) -> str:
    """Return a parameter's description (dotted names for nested ones, e.g. `lora.r`), or nothing if there is none.

    Parameters of third-party stages have none here.
    """
    key = param_key(stage, name)
    return t(key) if has(key) else ""


def param_names(stage: str) -> list[str]:
    """Return the dotted names of a stage's parameters, nested ones after the one that holds them."""
    from pydantic import BaseModel

    from swiftshell.stages import registry

    def walk(model: type[BaseModel], prefix: str) -> list[str]:
        names: list[str] = []
        for name, info in model.model_fields.items():
            names.append(prefix + name)
            inner = info.annotation
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                names += walk(inner, f"{prefix}{name}.")
        return names

    return walk(registry.get(stage).params, "")
