"""Draw rows of the starter's town whose true quality is known, so that noise can be put on and measured.

An answer's style decides how likely a person is to like it (`swiftshell.starter.rows.THUMB_UP`). The truth used here is
whether more than half of all people would.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from swiftshell.starter import styles, world
from swiftshell.starter.rows import THUMB_UP

Row = dict[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A prompt and an answer.

    Attributes:
        liked: share of people who would give a thumb up.
    """

    prompt: str
    answer: str
    style: str
    liked: float

    @property
    def good(self) -> bool:
        return self.liked > 0.5

    def row(self, label: bool, **more: Any) -> Row:
        """Return TRL's conversational row with a label."""
        return {
            "prompt": [{"role": "user", "content": self.prompt}],
            "completion": [{"role": "assistant", "content": self.answer}],
            "label": label,
            **more,
        }


def draw(seed: int, count: int, name: str, *, held_out: bool = False) -> list[Drawn]:
    """Draw answers as the town's help desk logs them; each `name` has a random stream of its own."""
    rng = random.Random(f"claims/{name}/{seed}")
    found = []
    for i in range(count):
        question = world.draw_question(rng, world.LANGUAGES[i % 2], held_out=held_out)
        style = styles.draw_style(rng, question)
        found.append(Drawn(question.prompt(), styles.answer(question, style), style, THUMB_UP[style]))
    return found


def of_each(seed: int, good: int, bad: int, name: str) -> list[Drawn]:
    """Draw exactly so many truly good and truly bad answers, in a random order."""
    pool = draw(seed, 6 * (good + bad), name)
    sides = [d for d in pool if d.good][:good], [d for d in pool if not d.good][:bad]
    if (len(sides[0]), len(sides[1])) != (good, bad):
        raise ValueError(
            f"the draw holds {len(sides[0])} good and {len(sides[1])} bad answers, wanted {good} and {bad}"
        )
    rows = [*sides[0], *sides[1]]
    random.Random(f"claims/{name}/{seed}/order").shuffle(rows)
    return rows


def thumbs(seed: int, drawn: Sequence[Drawn], name: str) -> list[bool]:
    """Return what one person per answer says: noisy, as in the shipped rows."""
    rng = random.Random(f"claims/{name}/{seed}/thumbs")
    return [rng.random() < d.liked for d in drawn]


def labelled_held_out(count: int) -> list[Row]:
    """Return answers about facts that no training row is about, with their true label; the same for every seed."""
    return [d.row(d.good) for d in draw(0, count, "held-out", held_out=True)]
