"""Tell from a model folder's config.json what kind of model it is: text or text and images, loadable or not.

Neither weights nor an engine library are read: the plan asks before anything is downloaded or loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# CogVLM and its kin (CogVLM2, CogAgent) exist as code on the hub only; by the names of their repositories, too.
_COGVLM = re.compile(r"cog(?:vlm2?|agent)", re.IGNORECASE)


@dataclass(frozen=True)
class Architecture:
    """What a configuration says.

    Attributes:
        model_type, name: as in config.json ("qwen2_vl", "Qwen2VLForConditionalGeneration").
        sees: it takes images.
        remote_code: only code from its repository could load it.
    """

    model_type: str
    name: str
    sees: bool
    remote_code: bool

    @property
    def is_cogvlm(self) -> bool:
        """Tell whether it is CogVLM or a sibling, which transformers does not carry."""
        return bool(_COGVLM.search(self.name) or _COGVLM.search(self.model_type))


def of_folder(folder: Path) -> Architecture | None:
    """Return what a model folder's configuration says; None if it has none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return of_config(config) if isinstance(config, dict) else None


def of_config(config: Mapping[str, Any]) -> Architecture:
    """Return what a configuration says."""
    model_type = str(config.get("model_type") or "")
    name = str((config.get("architectures") or [""])[0])
    sees = isinstance(config.get("vision_config"), Mapping)
    return Architecture(model_type, name, sees, "auto_map" in config and not built_in(model_type))


def built_in(model_type: str) -> bool:
    """Tell whether the installed transformers has this architecture itself, without importing it."""
    spec = find_spec("transformers")
    if spec is None or not spec.origin:
        return False
    return bool(model_type) and (Path(spec.origin).parent / "models" / model_type.replace("-", "_")).is_dir()


def named_cogvlm(repo: str) -> bool:
    """Tell whether a hub repository is CogVLM or a sibling by its name, before anything of it is here."""
    return _COGVLM.match(repo.rpartition("/")[2]) is not None
