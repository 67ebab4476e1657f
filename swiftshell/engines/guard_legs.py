"""What a guarded training keeps on disk: the story of its legs, and weights put aside to go back to.

    checkpoints/legs.json                    the story; written before a new leg takes its first step
    checkpoints/checkpoint-<step>            leg 0's checkpoints, as without a guard
    checkpoints/leg-<k>/checkpoint-<step>    those of leg k, counted from its own start
    checkpoints/leg-<k>/start/               what leg k began with (leg 0 of a full fine-tuning: the policy itself)
    checkpoints/leg-<k>/history.json         what was logged up to there
    checkpoints/leg-<k>/snapshots/           adapters put aside while leg k ran
    checkpoints/best/                        what was gone back to when the guard gave up

A folder counts once it has its final name: it is filled beside it and renamed. It is synced to the disk before anything
that survives a power failure speaks of it: `legs.json`, or a checkpoint that lists it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from swiftshell.engines import loading
from swiftshell.errors import fail
from swiftshell.run.checkpoints import LEGS_FILE, leg_folder, safetensors_whole
from swiftshell.run.files import read_json, sync_folder, write_json

HISTORY = "history.json"
BEST = "best"  # the folder gone back to for good when the guard gave up
_WEIGHTS = "trained.safetensors"


@dataclass
class Leg:
    """One stretch of training with one learning rate and one beta.

    Attributes:
        number: 0 for the training as asked for.
        start_step: optimizer steps of the whole training that are kept from before.
        weights: folder with the weights it starts from, relative to the checkpoints' folder; empty for leg 0.
        gap: how much better desirable answers did than undesirable ones with them (nats per token).
        seen: the first value of each watched number in leg 0 (see `guard.State.start`).
        trip: what ended it, if the guard did.
        back_to: optimizer step gone back to after that.
    """

    number: int
    start_step: int
    learning_rate: float
    beta: float
    weights: str = ""
    gap: float = 0.0
    seen: dict[str, float] = field(default_factory=dict)
    trip: dict[str, Any] | None = None
    back_to: int | None = None


class Legs:
    """The story of a guarded training, as `legs.json` tells it."""

    def __init__(self, folder: Path, legs: list[Leg], gave_up: dict[str, Any] | None = None) -> None:
        self.folder, self.all, self.gave_up = folder, legs, gave_up

    @classmethod
    def read(cls, folder: Path, learning_rate: float, beta: float) -> Legs:
        """Return the story so far, or its beginning.

        Raises:
            ValueError: the file is there and damaged.
        """
        told = read_json(folder / LEGS_FILE)
        if told is None:
            return cls(folder, [Leg(0, 0, learning_rate, beta)])
        return cls(folder, [Leg(**leg) for leg in told["legs"]], told["gave_up"])

    @property
    def current(self) -> Leg:
        return self.all[-1]

    @property
    def place(self) -> Path:
        """Return the folder of the current leg's snapshots and start."""
        return self.folder / f"leg-{self.current.number}"

    @property
    def output_dir(self) -> Path:
        """Return the folder of the current leg's checkpoints."""
        return leg_folder(self.folder, self.current.number)

    def as_json(self) -> dict[str, Any]:
        return {"v": 1, "legs": [asdict(leg) for leg in self.all], "gave_up": self.gave_up}

    def write(self) -> None:
        write_json(self.folder / LEGS_FILE, self.as_json())

    def history(self, *, given_up: bool = False) -> list[dict[str, Any]]:
        """Return what was logged on the way to the current leg's start, or to the best weights after giving up."""
        return read_json((self.folder / BEST if given_up else self.place) / HISTORY) or []

    def forget_before_current(self) -> None:
        """Remove weights of earlier legs: only their story is needed from here on."""
        for leg in self.all[:-1]:
            shutil.rmtree(self.folder / f"leg-{leg.number}", ignore_errors=True)
        if self.current.number:
            for path in self.folder.glob("checkpoint-*"):
                shutil.rmtree(path, ignore_errors=True)

    def forget_snapshots(self) -> None:
        """Remove the weights put aside in the current leg: it is over."""
        shutil.rmtree(self.place / "snapshots", ignore_errors=True)


def trained_weights(model: Any) -> dict[str, Any]:
    """Return the parameters being trained by name, on the CPU."""
    return {n: p.detach().cpu().contiguous() for n, p in model.named_parameters() if p.requires_grad}


def write_weights(model: Any, folder: Path) -> None:
    """Write what is trained into a folder that appears whole or not at all; `sync` makes it last."""
    from safetensors.torch import save

    def fill(inside: Path) -> None:
        (inside / _WEIGHTS).write_bytes(save(trained_weights(model)))

    _make_whole(folder, fill)


def sync(folder: Path) -> None:
    """Bring a folder's files to the disk."""
    for path in folder.iterdir():
        fd = os.open(path, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    sync_folder(folder)
    sync_folder(folder.parent)


def keep_folder(source: Path, folder: Path) -> None:
    """Keep a folder's weights under another name, without copying them where the disk can link."""

    def fill(inside: Path) -> None:
        for path in source.iterdir():
            if path.suffix in (".safetensors", ".json"):
                try:
                    os.link(path, inside / path.name)
                except OSError:
                    shutil.copyfile(path, inside / path.name)

    _make_whole(folder, fill)
    sync(folder)


def _make_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    partial = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def whole(folder: Path) -> bool:
    """Tell whether a folder has weights and none of them is cut off."""
    files = list(folder.glob("*.safetensors"))
    return bool(files) and all(safetensors_whole(f) for f in files)


def load_weights(model: Any, folder: Path, precision: loading.Precision) -> None:
    """Put weights back into a model: those `write_weights` wrote, or those of a whole model, exactly.

    Raises:
        SwiftshellError: they do not fit.
    """
    if (folder / _WEIGHTS).is_file():
        from safetensors.torch import load_file

        saved: Mapping[str, Any] = load_file(folder / _WEIGHTS)
    else:
        saved = dict(loading.load_base(folder, precision).named_parameters())
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    if set(trained) - set(saved) or any(saved[n].shape != p.shape for n, p in trained.items()):
        raise fail("guard.weights_unfit", file=str(folder))
    for name, parameter in trained.items():
        parameter.data.copy_(saved[name].data)


def remove(folder: Path) -> None:
    """Remove a snapshot; a crash in between leaves nothing that could be taken for one."""
    with suppress(FileNotFoundError):
        os.replace(folder, folder.with_name(f".{folder.name}.old"))
    shutil.rmtree(folder.with_name(f".{folder.name}.old"), ignore_errors=True)
