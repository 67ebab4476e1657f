"""Where a step's GPUs will be reserved."""

from __future__ import annotations

from typing import Any


def claim(request: dict[str, Any]) -> dict[str, str]:
    """Reserve what a step needs and return the environment that confines its worker to it.

    Nothing is reserved: a step sees every GPU of the machine, and this returns an empty environment. A reservation
    belongs exactly here, after the output lock and before the attempt is made: it may wait (the runner asks for stop
    requests meanwhile), it holds its locks by open descriptors until the worker ended, and it returns
    CUDA_VISIBLE_DEVICES as indices together with CUDA_DEVICE_ORDER=PCI_BUS_ID.
    """
    return {}
