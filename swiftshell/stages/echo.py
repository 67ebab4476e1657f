"""A stage without a model: counts, writes a note, can be told to fail. For tests and for showing the shell."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from swiftshell.stages.base import Facts, Needs, Params, SimpleStage, Slot


class EchoParams(Params):
    """How long to count and how to end."""

    text: str = "echo"
    ticks: Annotated[int, Field(ge=0)] = 3
    tick_s: Annotated[float, Field(ge=0)] = 0.01
    ending: Literal["succeed", "fail", "gate", "defect", "exit"] = "succeed"
    ignore_stop: bool = False
    gpus: Annotated[int, Field(ge=0)] = 0


class Echo(SimpleStage):
    """Count ticks and leave a note."""

    name = "echo"
    params = EchoParams
    inputs = (Slot("note", ("note",), required=False),)
    outputs = (Slot("note", ("note",)),)
    engine = "swiftshell.engines.echo:run"
    extra = ""

    def needs(self, params: Any, facts: Facts) -> Needs:
        """Ask for as many GPUs as it was told to, to show how jobs wait for them."""
        return Needs(gpus=params.gpus)


STAGE = Echo()
