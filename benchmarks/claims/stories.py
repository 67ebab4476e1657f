"""Rows derived from tiny stories for the real pretrained model that can read them: continuations, true or spoiled."""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
SPOILED = 0.12  # share of an undesirable continuation's words that come from another story
# Of prompt and answer together: with the experiments' seeds, what passes has less than the model's 512 tokens.
MAX_WORDS, MAX_CHARS = 190, 960


@dataclass(frozen=True)
class Stories:
    """Where the model lies, and the stories as lists of sentences."""

    model: Path
    sentences: list[list[str]]


def load() -> Stories | None:
    """Return model and stories; None where the shared test data is absent."""
    given = os.environ.get("SWIFTSHELL_SHARED_TESTDATA")
    for folder in ([Path(given)] if given else []) + [ROOT.parent / "shared", ROOT / "shared"]:
        text, model = folder / "real/data/tinystories_2M_cased.txt", folder / "real/models/stories260k"
        if text.is_file() and model.is_dir():
            stories = text.read_text(encoding="utf-8", errors="replace").split("<|endoftext|>")
            parts = [re.findall(r"[^.!?]+[.!?]+[\"']?", " ".join(s.split())) for s in stories]
            return Stories(model, [[s.strip() for s in p] for p in parts if len(p) >= 6])
    return None


def rows(stories: Stories, seed: int, count: int, *, held_out: bool = False) -> list[Row]:
    """Make rows of very different lengths; a fifth of the stories is kept for the evaluation.

    A prompt is the beginning of a story, the desirable answer its next one to ten sentences. The undesirable answer is as
    long, with some words exchanged for another story's: it reads less well, but is about the same things.
    """
    rng = random.Random(f"stories/{seed}/{held_out}")
    pool = [s for i, s in enumerate(stories.sentences) if (i % 5 == 0) == held_out]
    words = [w for s in pool for sentence in s for w in sentence.split()]
    found: list[Row] = []
    while len(found) < count:
        story = rng.choice(pool)
        start = rng.randint(1, max(1, len(story) - 2))
        answer = " ".join(story[start : start + rng.choice((1, 1, 2, 3, 5, 10))])
        prompt = " ".join(story[max(0, start - rng.randint(1, 6)) : start])
        words_in_all = len(prompt.split()) + len(answer.split())
        if words_in_all > MAX_WORDS or len(prompt) + len(answer) >= MAX_CHARS or len(answer.split()) < 4:
            continue
        label = bool(len(found) % 2)
        text = answer if label else _spoiled(rng, answer, words)
        found.append({"prompt": prompt, "completion": f" {text}", "label": label})
    return found


def _spoiled(rng: random.Random, answer: str, words: list[str]) -> str:
    parts = answer.split()
    for i in rng.sample(range(len(parts)), max(1, round(SPOILED * len(parts)))):
        parts[i] = rng.choice(words)
    return " ".join(parts)
