"""Facts to render, and streams of every kind to render them on."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from swiftshell.i18n import set_language

Json = dict[str, Any]
Show = Callable[..., str]


class Stream(io.TextIOWrapper):
    """A text stream with an encoding, which may claim to be a terminal."""

    def __init__(self, *, encoding: str = "utf-8", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(), encoding=encoding, errors="replace", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal

    def text(self) -> str:
        self.flush()
        return self.buffer.getvalue().decode(self.encoding)  # type: ignore[attr-defined]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Iterator[Show]:
    """Call a print function at a width, in a language and encoding, and return what it printed."""

    def _show(print_it: Callable[..., None], *args: Any, width: int = 80, lang: str = "en", encoding: str = "utf-8",
              terminal: bool = False, **options: Any) -> str:  # fmt: skip
        monkeypatch.setenv("COLUMNS", str(width))
        set_language(lang)
        stream = Stream(encoding=encoding, terminal=terminal)
        print_it(*args, stream=stream, **options)
        return stream.text()

    yield _show
    set_language("auto")


def step(name: str, stage: str, **facts: Any) -> Json:
    """A finished step as `api.runs.run_facts` has it."""
    plain: Json = {
        "id": name, "stage": stage, "status": "over", "result": "succeeded", "attempt": 1, "duration_s": 12.0,
        "started": "2026-11-25T03:00:00+00:00", "ended": None, "exit_code": 0, "problems": [], "metrics": {},
        "summary": {}, "outputs": {}, "restored_from": None, "lineage": "starter",
    }  # fmt: skip
    return {**plain, **facts}


def measured(name: str, share: float, change: list[float] | None = None) -> Json:
    """A model as the evaluation's summary has it."""
    model: Json = {
        "name": name,
        "kind": "adapter",
        "metrics": {
            "desirable_share": [share, share - 0.04, share + 0.04, 400],
            "exact_match": [share / 2, 0.1, 0.2, 400],
            "perplexity": [3.14159, 3.0, 3.3, 400],
            "preference_accuracy": [0.9, 0.87, 0.93, 400],
        },
    }
    if change is not None:
        model["change"] = {"desirable_share": change}
    return model


@pytest.fixture
def finished() -> Json:
    """A finished run of the whole pipeline, its first step reused."""
    models = [
        measured("base.model", 0.05),
        measured("sft.adapter", 0.4, [0.35, 0.3, 0.4]),
        measured("kto.adapter", 0.8, [0.4, 0.35, 0.45]),
        measured("merged.model", 0.8, [0.0, -0.01, 0.01]),
        measured("quantized.model", 0.7, [-0.1, -0.12, -0.05]),
    ]
    summary = {"rows": 400, "data": "heldout", "models": models, "left_out": []}
    steps = [
        step("base", "download", restored_from="/elsewhere/steps/01-base", duration_s=0.1),
        step("sft", "sft", duration_s=61.0, outputs={"adapter": "/w/steps/02-sft/out/adapter"}),
        step("kto", "kto", duration_s=3725.0, outputs={"adapter": "/w/steps/03-kto/out/adapter"}),
        step("merged", "merge", outputs={"model": "/w/steps/04-merged/out/model"}),
        step("quantized", "quantize"),
        step("score", "evaluate", summary=summary, metrics={"kto.adapter/desirable_share": 0.8}),
    ]
    return {
        "run": "2026-11-25-all-k3f9",
        "name": "all",
        "path": "/w",
        "status": "over",
        "result": "succeeded",
        "steps": steps,
    }
